"""Observers against torch.ao's: the same qparams and statistics, bit for bit, on drawn data and arguments."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.ao.quantization import observer as theirs

from qcore.api import observer as ours

PER_TENSOR = ("per_tensor_affine", "per_tensor_symmetric")
PER_CHANNEL = ("per_channel_affine", "per_channel_symmetric", "per_channel_affine_float_qparams")
KINDS = {
    "MinMaxObserver": PER_TENSOR,
    "MovingAverageMinMaxObserver": PER_TENSOR,
    "PerChannelMinMaxObserver": PER_CHANNEL,
    "MovingAveragePerChannelMinMaxObserver": PER_CHANNEL,
}
RANGES = {"quint8": (0, 255), "qint8": (-128, 127), "qint32": (-(2**31), 2**31 - 1), "quint4x2": (0, 15)}

many = settings(max_examples=150, deadline=None, derandomize=True)


def pair(name: str, **arguments: Any) -> tuple[Any, Any]:
    """torch's observer and ours, made with the same arguments (dtype and qscheme by name)."""
    named = {key: getattr(torch, value) if isinstance(value, str) else value for key, value in arguments.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(theirs, name)(**named), getattr(ours, name)(**named)


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)


def assert_same_qparams(one: Any, other: Any) -> None:
    (scale, zero_point), (our_scale, our_zero_point) = one.calculate_qparams(), other.calculate_qparams()
    assert same(scale, our_scale), (scale, our_scale)
    assert same(zero_point, our_zero_point), (zero_point, our_zero_point)


@st.composite
def arguments(draw: Any, name: str) -> dict[str, Any]:
    """Constructor arguments that torch allows for a kind of observer."""
    dtype = draw(st.sampled_from(sorted(RANGES)))
    low, high = RANGES[dtype]
    given: dict[str, Any] = {"dtype": dtype, "qscheme": draw(st.sampled_from(KINDS[name]))}
    if draw(st.booleans()):
        given["quant_min"] = draw(st.integers(low, 0))
        given["quant_max"] = draw(st.integers(max(given["quant_min"] + 1, 0), high))
    if not (dtype == "quint8" and "symmetric" in given["qscheme"]):
        given["reduce_range"] = draw(st.booleans())
    if draw(st.booleans()):
        given["eps"] = draw(st.sampled_from([0.0, 2.0**-12, 1e-3]))
    if "PerChannel" in name:
        given["ch_axis"] = draw(st.integers(0, 2))
    if "MovingAverage" in name:
        given["averaging_constant"] = draw(st.sampled_from([0.01, 0.3, 1.0]))
    return given


@st.composite
def inputs(draw: Any) -> list[torch.Tensor]:
    """A few inputs of one shape, of very different scales and offsets; some with one sign only, some constant."""
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        x = torch.randn(shape, generator=generator) * 10.0 ** draw(st.integers(-12, 12)) + draw(
            st.sampled_from([0, 0, 5])
        )
        change = draw(st.sampled_from([None, None, torch.abs, torch.relu, torch.zeros_like]))
        found.append(x if change is None else change(x))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_same_qparams_as_torch(name: str) -> None:
    @many
    @given(arguments(name), inputs())
    def run(given_arguments: dict[str, Any], xs: list[torch.Tensor]) -> None:
        one, other = pair(name, **given_arguments)
        for x in xs:
            one(x)
            assert other(x) is x
        assert same(one.min_val, other.min_val)
        assert same(one.max_val, other.max_val)
        assert (one.quant_min, one.quant_max) == (other.quant_min, other.quant_max)
        # not compared: averages that crossed by rounding, which torch asserts against, and scale 0, which eps=0 allows
        if torch.all(one.min_val <= one.max_val) and torch.all(one.calculate_qparams()[0] > 0):
            assert_same_qparams(one, other)
        assert one.state_dict().keys() == other.state_dict().keys()

    run()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", [*KINDS, "HistogramObserver"])
def test_same_for_other_float_dtypes(name: str, dtype: torch.dtype) -> None:
    one, other = pair(name)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    one(x), other(x)
    assert_same_qparams(one, other)


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4, 5), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("order", ["contiguous", "reversed"])
def test_every_axis_in_any_layout(shape: tuple[int, ...], order: str) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if order == "reversed":
        x = x.permute(*reversed(range(x.ndim))).contiguous().permute(*reversed(range(x.ndim)))
    for axis in range(x.ndim):
        others = [dim for dim in range(x.ndim) if dim != axis]
        one = ours.PerChannelMinMaxObserver(ch_axis=axis)
        one(x)
        moved = x.permute(axis, *others).reshape(x.shape[axis], -1)
        assert torch.equal(one.min_val, moved.min(1).values)
        assert torch.equal(one.max_val, moved.max(1).values)
        last = ours.PerChannelMinMaxObserver(ch_axis=axis - x.ndim)
        last(x)
        assert torch.equal(one.min_val, last.min_val)


HISTOGRAM_ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"dtype": "qint8"},
    {"dtype": "qint8", "qscheme": "per_tensor_symmetric"},
    {"quant_min": 0, "quant_max": 127},
    {"reduce_range": True},
    {"bins": 100},
    {"bins": 4096, "dtype": "quint4x2"},
    {"dtype": "qint32"},
]


def drawn(seed: int, numel: int, kind: str) -> torch.Tensor:
    """Data of a named distribution and a drawn scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(numel, generator=generator) * 10.0 ** (torch.rand((), generator=generator) * 8 - 4)
    return {
        "normal": lambda: x,
        "relu": lambda: x.relu(),
        "heavy": lambda: x**3,
        "uniform": lambda: torch.rand(numel, generator=generator) * x.abs().max() + x[0],
        "constant": lambda: torch.full_like(x, float(x[0])),
        "spiked": lambda: torch.where(torch.rand(numel, generator=generator) < 0.9, 0.0, x),
    }[kind]()


@pytest.mark.parametrize("kind", ["normal", "relu", "heavy", "uniform", "constant", "spiked"])
@pytest.mark.parametrize("given_arguments", HISTOGRAM_ARGUMENTS, ids=str)
def test_histogram_of_inputs_of_one_range_equals_torch(given_arguments: dict[str, Any], kind: str) -> None:
    for seed, numel in enumerate((1, 2, 3000, 100_000)):
        one, other = pair("HistogramObserver", **given_arguments)
        x = drawn(seed, numel, kind)
        for part in (x, x.flip(0)):
            one(part), other(part)
            assert same(one.histogram, other.histogram)
        assert_same_qparams(one, other)


def error(x: torch.Tensor, qparams: tuple[torch.Tensor, torch.Tensor], high: int) -> float:
    """Mean squared error of quantizing x to 0..high."""
    scale, zero_point = qparams
    integers = (torch.round(x / scale) + zero_point).clamp(0, high)
    return float(((integers - zero_point) * scale - x).double().square().mean())


@pytest.mark.parametrize("kind", ["normal", "relu", "heavy", "uniform", "spiked"])
@pytest.mark.parametrize("high", [127, 255])
def test_histogram_of_growing_ranges_loses_no_more_than_torch(kind: str, high: int) -> None:
    """One percent is the margin: bins have a width, so that neither search knows the error exactly."""
    ratios = []
    for seed in range(40):
        one, other = pair("HistogramObserver", quant_min=0, quant_max=high)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for number in range(2 + seed % 6):
            grown = 10.0 ** float(torch.rand((), generator=generator) * 3 - 1.5) if seed % 2 else 1 + 0.3 * number
            parts.append(drawn(seed, int(torch.randint(50, 5000, (), generator=generator)), kind) * grown)
            one(parts[-1]), other(parts[-1])
        x = torch.cat(parts)
        ratios.append(error(x, other.calculate_qparams(), high) / max(error(x, one.calculate_qparams(), high), 1e-300))
    assert max(ratios) < 1.01
    assert math.prod(ratios) ** (1 / len(ratios)) < 1.0005


@pytest.mark.parametrize("name", [*KINDS, "HistogramObserver"])
def test_torch_checkpoints_load(name: str) -> None:
    one, other = pair(name)
    one(torch.randn(4, 30, generator=torch.Generator().manual_seed(2)))
    other.load_state_dict(one.state_dict())
    assert_same_qparams(one, other)


@pytest.mark.parametrize("name", sorted(name for name in ours.__all__ if "default" in name or "neg_127" in name))
def test_presets_have_the_arguments_of_torchs(name: str) -> None:
    preset, original = getattr(ours, name), getattr(theirs, name)
    if isinstance(preset, type):
        assert preset.__name__ == original.__name__
    else:
        assert preset.p.func.__name__ == original.p.func.__name__
        assert preset.p.keywords == original.p.keywords


def test_placeholder_and_fixed_say_the_same_as_torchs() -> None:
    for given_arguments in ({}, {"dtype": torch.float16}, {"dtype": torch.quint8, "quant_min": 0, "quant_max": 255}):
        one, other = pair("PlaceholderObserver", **given_arguments)
        for name in ("dtype", "qscheme", "quant_min", "quant_max", "eps", "is_dynamic", "custom_op"):
            assert getattr(other, name) == getattr(one, name), name
    one, other = pair("FixedQParamsObserver", scale=0.1, zero_point=7)
    assert_same_qparams(one, other)
    assert one.state_dict().keys() == other.state_dict().keys()
