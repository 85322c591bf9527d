"""Observers on their own: merging, errors, saving, and what the presets hold."""

from __future__ import annotations

import copy
import io
import math
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import qcore
from qcore.api import observer
from qcore.api._observers import grid
from qcore.api.observer import (
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    NoopObserver,
    ObserverBase,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
    RecordingObserver,
    ReuseInputObserver,
    UniformQuantizationObserverBase,
    get_observer_state_dict,
    load_observer_state_dict,
)
from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError, UnsupportedError

STATISTICS = [
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    HistogramObserver,
]
MERGING = [MinMaxObserver, PerChannelMinMaxObserver, HistogramObserver]
AVERAGES = [MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver]
many = settings(max_examples=150, deadline=None, derandomize=True)


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def assert_same_state(left: nn.Module, right: nn.Module) -> None:
    for (key, mine), other in zip(left.state_dict().items(), right.state_dict().values(), strict=True):
        assert mine.dtype == other.dtype and torch.equal(mine, other), key


@st.composite
def streams(draw: Any) -> list[torch.Tensor]:
    """Inputs of any scale, some of equal range, some constant, some empty; and some whose range holds the next ones."""
    found = []
    for _ in range(draw(st.integers(1, 5))):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 50)))
        shape = (3, draw(st.sampled_from([0, 1, 2, 30, 700])))
        x = torch.randn(shape, generator=generator) * 10.0 ** draw(st.integers(-4, 4))
        found.append(draw(st.sampled_from([x, x.abs(), x.clamp(-1, 1), torch.full_like(x, 2.5), x + 1e4])))
    return found


@pytest.mark.parametrize("kind", MERGING)
def test_parts_merge_to_the_whole_in_any_order(kind: Any) -> None:
    @many
    @given(streams(), st.randoms(use_true_random=False))
    def run(xs: list[torch.Tensor], random: Any) -> None:
        whole, merged = kind(), kind()
        for x in xs:
            whole(x)
        random.shuffle(xs)
        cut = random.randint(0, len(xs))
        for part in (xs[:cut], xs[cut:]):
            merged.merge(observer_of(kind, part))
        assert_same_state(whole, merged)

    run()


def observer_of(kind: Any, xs: list[torch.Tensor]) -> Any:
    """An observer that saw all of xs, in whatever process this runs."""
    observer = kind()
    for x in xs:
        observer(x)
    return observer


def test_parts_observed_by_other_processes_merge_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(300, generator=generator) * size for size in (1.0, 0.2, 30.0, 1.0)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for kind in (HistogramObserver, MinMaxObserver):
            merged = kind()
            for part in pool.map(observer_of, (kind, kind), (xs[:1], xs[1:])):
                merged.merge(part)
            assert_same_state(merged, observer_of(kind, xs))


def test_merging_histograms_also_gives_the_same_qparams() -> None:
    one, two, whole = HistogramObserver(), HistogramObserver(), HistogramObserver()
    x, y = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [50.0]])
    one(x), two(y), whole(torch.cat([x, y]))
    one.merge(two)
    for key in ("counts", "min_val", "max_val"):
        assert torch.equal(one.state_dict()[key], whole.state_dict()[key])
    apart = HistogramObserver()
    apart(y), apart(x)
    assert [value.item() for value in apart.calculate_qparams()] == [value.item() for value in one.calculate_qparams()]


@many
@given(st.integers(0, 2**31), st.integers(-30, 30), st.integers(-3, 30), st.integers(1, 400))
def test_grid_counts_every_value_in_its_own_bin(seed: int, scale: int, offset: int, numel: int) -> None:
    x = torch.randn(numel, generator=torch.Generator().manual_seed(seed)) * 2.0**scale + (
        2.0**offset if seed % 2 else 0
    )
    low, high = float(x.min()), float(x.max())
    exponent = grid.exponent_for(low, high)
    counts, first = grid.count(x, low, high, exponent)
    exact = torch.floor(x.double() * 2.0**-exponent).long() - first
    assert torch.equal(counts, torch.bincount(exact, minlength=grid.BINS))
    assert counts.numel() == grid.BINS
    narrower = [math.floor(bound * 2.0 ** (1 - exponent)) for bound in (low, high)]
    as_fine_as_floats = exponent == math.frexp(max(abs(low), abs(high)))[1] - 24
    assert as_fine_as_floats or narrower[1] - narrower[0] >= grid.BINS, "not the smallest exponent"
    wider = exponent + seed % 4
    rescaled, begin = grid.rescale(counts, first, exponent, low, wider)
    assert torch.equal(rescaled, torch.bincount((exact + first >> wider - exponent) - begin, minlength=grid.BINS))


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (-3e38, 3e38), (1e-45, 2e-45), (3.4e38, 3.4e38), (-1e-30, 1e30)])
def test_histogram_takes_the_extremes_of_float32(bounds: tuple[float, float]) -> None:
    observed = HistogramObserver()
    observed(torch.tensor(bounds))
    observed(torch.tensor([bounds[0]]))
    assert observed.counts.sum() == 3
    assert int(observed.histogram.sum()) == 3
    assert all(bool(torch.isfinite(value).all()) or bounds[0] == -3e38 for value in observed.calculate_qparams())


def test_histogram_counts_beyond_the_precision_of_float32() -> None:
    observed = HistogramObserver()
    observed(torch.tensor([-1.0, 1.0]))
    for _ in range(25):
        observed.merge(copy.deepcopy(observed))
    assert observed.counts.sum() == 2**26


@pytest.mark.parametrize("kind", AVERAGES)
def test_moving_averages_refuse_to_merge(kind: Any) -> None:
    one, two, empty = kind(), kind(), kind()
    one(torch.ones(2, 3)), two(torch.zeros(2, 3))
    before = state(one)
    with pytest.raises(ArgumentError, match="order of their inputs"):
        one.merge(two)
    one.merge(empty)
    assert all(torch.equal(before[key], value) for key, value in one.state_dict().items())
    empty.merge(one)
    assert_same_state(empty, one)


def test_merging_needs_the_same_class_and_arguments() -> None:
    for other in (MovingAverageMinMaxObserver(), MinMaxObserver(dtype=qcore.qint8), MinMaxObserver(eps=1e-3)):
        with pytest.raises(ArgumentError, match="same class and arguments"):
            MinMaxObserver().merge(other)
    one, two = PerChannelMinMaxObserver(), PerChannelMinMaxObserver()
    one(torch.ones(2, 3)), two(torch.ones(3, 3))
    with pytest.raises(ArgumentError, match="2 channels"):
        one.merge(two)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", STATISTICS)
def test_nan_and_infinity_are_refused_and_change_nothing(kind: Any, bad: float) -> None:
    observed = kind()
    observed.qcore_path = "encoder.0"
    observed(torch.ones(2, 3))
    before = state(observed)
    with pytest.raises(QuantizationError, match=r"'encoder.0' was given data with NaN or infinity"):
        observed(torch.tensor([[1.0, bad, 2.0], [0.0, 1.0, 2.0]]))
    assert all(torch.equal(before[key], value) for key, value in observed.state_dict().items())


@pytest.mark.parametrize("kind", STATISTICS)
def test_qparams_before_data_are_an_error(kind: Any) -> None:
    observed = kind()
    observed.qcore_path = "encoder.0"
    observed(torch.empty(0, 3))
    with pytest.raises(QuantizationError, match=r"'encoder.0' was never calibrated"):
        observed.calculate_qparams()
    observed(torch.ones(2, 3))
    observed.calculate_qparams()
    observed.reset_min_max_vals()
    with pytest.raises(QuantizationError, match="never calibrated"):
        observed.calculate_qparams()


@pytest.mark.parametrize("kind", STATISTICS)
def test_saved_and_copied_observers_go_on(kind: Any) -> None:
    observed = kind()
    observed(torch.randn(2, 50, generator=torch.Generator().manual_seed(0)))
    file = io.BytesIO()
    torch.save(observed.state_dict(), file)
    file.seek(0)
    loaded = kind()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    more = torch.randn(2, 50, generator=torch.Generator().manual_seed(1)) * 3
    observed_too = [loaded, copy.deepcopy(observed), pickle.loads(pickle.dumps(observed))]
    observed(more)
    for other in observed_too:
        other(more)
        assert_same_state(observed, other)
        assert torch.equal(observed.calculate_qparams()[0], other.calculate_qparams()[0])


@pytest.mark.parametrize("kind", STATISTICS)
def test_input_passes_unchanged_with_its_gradient(kind: Any) -> None:
    x = torch.randn(2, 3, requires_grad=True)
    out = kind()(x)
    assert out is x
    assert not any(buffer.requires_grad for buffer in kind().buffers())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MinMaxObserver(dtype=torch.float16), ArgumentTypeError, "dtype=torch.float16"),
        (lambda: MinMaxObserver(qscheme="affine"), ArgumentTypeError, "qscheme='affine'"),
        (lambda: MinMaxObserver(qscheme=qcore.per_channel_affine), UnsupportedError, "per_tensor_affine"),
        (lambda: PerChannelMinMaxObserver(qscheme=qcore.per_tensor_affine), UnsupportedError, "per_channel_affine"),
        (lambda: HistogramObserver(qscheme=qcore.per_channel_affine), UnsupportedError, "HistogramObserver has no"),
        (lambda: MinMaxObserver(quant_min=3, quant_max=90), ArgumentError, "enclose 0"),
        (lambda: MinMaxObserver(quant_min=0, quant_max=0), ArgumentError, "enclose 0"),
        (lambda: MinMaxObserver(quant_min=0, quant_max=256), ArgumentError, r"\[0, 255\]"),
        (lambda: MinMaxObserver(quant_min=0), ArgumentError, "give both"),
        (lambda: MinMaxObserver(eps=-1.0), ArgumentError, "eps"),
        (lambda: MinMaxObserver(eps=float("nan")), ArgumentError, "eps"),
        (lambda: MinMaxObserver(factory_kwargs={"dtype": torch.int8}), ArgumentError, "floating"),
        (lambda: MinMaxObserver(factory_kwargs={"layout": 1}), ArgumentError, "layout"),
        (lambda: MovingAverageMinMaxObserver(averaging_constant=2.0), ArgumentError, "averaging_constant"),
        (lambda: HistogramObserver(bins=1), ArgumentError, "bins"),
        (
            lambda: MinMaxObserver(qscheme=qcore.per_tensor_symmetric, reduce_range=True),
            UnsupportedError,
            "reduce_range",
        ),
        (lambda: PerChannelMinMaxObserver(ch_axis=2)(torch.ones(2, 3)), ArgumentError, "ch_axis=2"),
        (lambda: FixedQParamsObserver(scale=0.0, zero_point=0), ArgumentError, "scale"),
        (lambda: FixedQParamsObserver(scale=float("nan"), zero_point=0), ArgumentError, "scale"),
        (lambda: FixedQParamsObserver(scale=1.0, zero_point=300), ArgumentError, "zero_point"),
        (lambda: FixedQParamsObserver(scale=1.0, zero_point=0, dtype=qcore.qint8), ArgumentError, "quant_max"),
        (lambda: PlaceholderObserver(dtype=qcore.qint8, quant_min=0, quant_max=255), ArgumentError, "quant_max"),
        (lambda: MinMaxObserver(no_such=1), TypeError, "no_such"),
    ],
)
def test_bad_arguments_are_clear_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_change_of_the_number_of_channels_is_an_error() -> None:
    observed = PerChannelMinMaxObserver()
    observed(torch.ones(2, 3))
    with pytest.raises(ArgumentError, match="2 channels on axis 0, and now 4"):
        observed(torch.ones(4, 3))


def test_factory_kwargs_give_the_dtype_of_statistics() -> None:
    observed = MinMaxObserver(factory_kwargs={"dtype": torch.float64})
    observed(torch.tensor([1 / 3, 1.0], dtype=torch.float64))
    assert observed.min_val.item() == torch.tensor(1 / 3, dtype=torch.float64).item()
    assert observed.calculate_qparams()[0].dtype == torch.float64


@pytest.mark.parametrize("kind", [PlaceholderObserver, NoopObserver, RecordingObserver, ReuseInputObserver])
def test_observers_without_statistics_choose_nothing(kind: Any) -> None:
    x = torch.randn(3)
    assert kind()(x) is x
    assert not kind().state_dict()
    with pytest.raises(QuantizationError, match="chooses no scale"):
        kind().calculate_qparams()


def test_placeholder_for_rows() -> None:
    by_row = PlaceholderObserver(dtype=qcore.quint8, is_dynamic=True, qscheme=qcore.per_channel_affine)
    assert by_row.per_row
    assert "per_row" in repr(by_row)
    assert not observer.default_dynamic_quant_observer().per_row
    with pytest.warns(UserWarning, match="is_dynamic=True"):
        assert PlaceholderObserver(compute_dtype=qcore.quint8).is_dynamic


def test_recording_keeps_copies() -> None:
    recording = RecordingObserver()
    x = torch.ones(2, requires_grad=True)
    recording(x)
    with torch.no_grad():
        x.zero_()
    assert [value.tolist() for value in recording.get_tensor_value()] == [[1.0, 1.0]]
    assert recording.tensor_val[0].requires_grad is False


def test_with_args_and_with_callable_args() -> None:
    counted: list[int] = []

    def next_eps() -> float:
        counted.append(1)
        return 0.5

    maker = MinMaxObserver.with_args(dtype=qcore.qint8).with_args(quant_min=-5, quant_max=5)
    made = maker.with_callable_args(eps=next_eps)
    assert (made().dtype, made().quant_min, float(made().eps)) == (qcore.qint8, -5, 0.5)
    assert len(counted) == 3
    assert float(made(eps=0.25).eps) == 0.25 and len(counted) == 3
    assert made().eps is not made().eps
    assert float(MinMaxObserver.with_callable_args(eps=next_eps)().eps) == 0.5
    assert maker == MinMaxObserver.with_args(dtype=qcore.qint8, quant_min=-5, quant_max=5)
    assert maker != MinMaxObserver.with_args(dtype=qcore.qint8)
    assert hash(maker) == hash(copy.deepcopy(maker))
    assert pickle.loads(pickle.dumps(maker)) == maker
    assert "quant_max=5" in repr(maker)


class Doubling(UniformQuantizationObserverBase):
    """A user's own observer, as packages out there write them."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.register_buffer("min_val", torch.tensor(float("inf")))
        self.register_buffer("max_val", torch.tensor(float("-inf")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.min_val.copy_(x.min() * self.factor)
        self.max_val.copy_(x.max() * self.factor)
        return x


def test_a_users_own_observer() -> None:
    mine = Doubling.with_args(factor=4.0, dtype=qcore.qint8)()
    with pytest.raises(QuantizationError, match="Doubling"):
        mine.calculate_qparams()
    mine(torch.tensor([-1.0, 1.0]))
    plain = MinMaxObserver(dtype=qcore.qint8)
    plain(torch.tensor([-4.0, 4.0]))
    assert torch.equal(mine.calculate_qparams()[0], plain.calculate_qparams()[0])
    with pytest.raises(TypeError, match="abstract"):
        ObserverBase(dtype=qcore.qint8)  # type: ignore[abstract]


class Observed(nn.Module):
    """A model as prepare leaves it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.linear.activation_post_process = MinMaxObserver()
        self.activation_post_process_1 = HistogramObserver()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation_post_process_1(self.linear.activation_post_process(self.linear(x)))


def test_observer_state_travels_between_models() -> None:
    one, two = Observed(), Observed()
    one(torch.randn(2, 3))
    found = get_observer_state_dict(one)
    assert not any("weight" in key for key in found)
    assert {key.split(".")[-2] for key in found} == {"activation_post_process", "activation_post_process_1"}
    weight = two.linear.weight.clone()
    load_observer_state_dict(two, found)
    assert torch.equal(two.linear.weight, weight)
    assert_same_state(two.activation_post_process_1, one.activation_post_process_1)
    from_torch = {key: value for key, value in found.items() if not key.endswith(("counts", "grid_position"))}
    load_observer_state_dict(two, from_torch)
    assert two.activation_post_process_1.counts.sum() == one.activation_post_process_1.counts.sum()
    with pytest.raises(ArgumentError, match=r"linear.activation_post_process.min_val"):
        load_observer_state_dict(two, {})
    with pytest.raises(ArgumentError, match=r"other.activation_post_process.eps"):
        load_observer_state_dict(two, {**found, "other.activation_post_process.eps": torch.ones(1)})


@pytest.mark.parametrize("name", observer.__all__)
def test_every_name_is_documented(name: str) -> None:
    item = getattr(observer, name)
    if isinstance(item, type):
        assert item.__doc__ and item.__module__ == "qcore.api.observer"
