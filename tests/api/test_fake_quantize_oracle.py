"""Fake-quantize modules against torch.ao's: outputs, gradients, buffers and switches, bit for bit."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.ao.quantization import fake_quantize as theirs

from qcore.api import fake_quantize as ours
from qcore.api._fake_quantize_function import fake_quantize

PRESETS = sorted(name for name in ours.__all__ if name.startswith(("default_", "fused_")))
many = settings(max_examples=300, deadline=None, derandomize=True)


def pair(name: str) -> tuple[Any, Any]:
    """torch's module and ours of a preset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(theirs, name)(), getattr(ours, name)()


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)


def with_gradient(function: Any, x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The function of x, and the gradient of its weighted sum."""
    x = x.clone().requires_grad_()
    out = function(x)
    (out * weight).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    """Data, parameters and range; scales such that some data are clamped."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    low, high = draw(st.sampled_from([(0, 255), (-128, 127), (-127, 127), (0, 15), (0, 65535)]))
    scales = 10.0 ** (torch.rand(shape[axis], generator=generator) * 3 - 4) * 10.0 ** draw(st.integers(-6, 6))
    x = torch.randn(shape, generator=generator) * scales.mean() * (high - low)
    zeros = torch.randint(max(low, -1000), min(high, 1000) + 1, (shape[axis],), generator=generator, dtype=torch.int32)
    return {"x": x, "scale": scales, "zero_point": zeros, "axis": axis, "low": low, "high": high}


@many
@given(cases())
def test_function_per_channel(case: dict[str, Any]) -> None:
    x, scale, zero_point, axis, low, high = case.values()
    weight = torch.arange(1.0, x.numel() + 1).reshape(x.shape)
    theirs_too = with_gradient(
        lambda x: torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, low, high), x, weight
    )
    mine = with_gradient(lambda x: fake_quantize(x, scale, zero_point, axis, low, high), x, weight)
    assert all(same(*values) for values in zip(theirs_too, mine, strict=True))


@many
@given(cases())
def test_function_per_channel_with_float_zero_points(case: dict[str, Any]) -> None:
    x, scale, zero_point, axis, low, high = case.values()
    low, high = max(low, -128), min(high, 255)
    zero_point = zero_point.clamp(low, high) + 0.3
    weight = torch.arange(1.0, x.numel() + 1).reshape(x.shape)
    theirs_too = with_gradient(
        lambda x: torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, low, high), x, weight
    )
    mine = with_gradient(lambda x: fake_quantize(x, scale, zero_point, axis, low, high), x, weight)
    assert all(same(*values) for values in zip(theirs_too, mine, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@many
@given(case=cases())
def test_function_per_tensor(case: dict[str, Any], dtype: torch.dtype) -> None:
    x, scale, zero_point, _, low, high = case.values()
    x, scale, zero_point = x.to(dtype), scale[:1], zero_point[:1]
    if not torch.isfinite(x).all():
        return
    weight = torch.ones_like(x)
    theirs_too = with_gradient(
        lambda x: torch.fake_quantize_per_tensor_affine(x, scale, zero_point, low, high), x, weight
    )
    mine = with_gradient(lambda x: fake_quantize(x, scale, zero_point, None, low, high), x, weight)
    assert all(same(*values) for values in zip(theirs_too, mine, strict=True))


def inputs(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    scales = 10.0 ** (torch.rand(count, generator=generator) * 8 - 6)
    return [torch.randn(6, 50, generator=generator) * scale for scale in scales]


def assert_same_buffers(one: Any, other: Any) -> None:
    for key, value in one.state_dict().items():
        assert same(value, other.state_dict()[key]), key


@pytest.mark.parametrize("name", PRESETS)
def test_presets_train_as_torchs(name: str) -> None:
    one, other = pair(name)
    # histograms of growing ranges merge exactly here, and do not in torch
    xs = [inputs(1)[0]] * 5 if "histogram" in name else inputs(40)
    for step, x in enumerate(xs):
        if step == len(xs) - 2:
            for module in (one, other):
                module.disable_observer()
        assert all(
            same(*values)
            for values in zip(with_gradient(one, x, x.sin()), with_gradient(other, x, x.sin()), strict=True)
        )
        assert_same_buffers(one, other)
    for mine, original in zip(other.calculate_qparams(), one.calculate_qparams(), strict=True):
        assert same(original, mine)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("qscheme", ["per_channel_affine", "per_channel_symmetric"])
def test_any_axis(shape: tuple[int, ...], qscheme: str) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for axis in range(x.ndim):
        kwargs: dict[str, Any] = {"dtype": torch.qint8, "qscheme": getattr(torch, qscheme), "ch_axis": axis}
        kwargs |= {"quant_min": -128, "quant_max": 127}
        name = "MovingAveragePerChannelMinMaxObserver"
        one = theirs.FakeQuantize(observer=getattr(theirs, name), **kwargs)
        other = ours.FakeQuantize(observer=getattr(ours, name), **kwargs)
        pairs = zip(with_gradient(one, x, x.cos()), with_gradient(other, x, x.cos()), strict=True)
        assert all(same(*values) for values in pairs)
        assert_same_buffers(one, other)


@pytest.mark.parametrize("name", PRESETS)
def test_torch_checkpoints_load(name: str) -> None:
    one, other = pair(name)
    one(inputs(1)[0])
    other.load_state_dict(one.state_dict())
    assert_same_buffers(one, other)
    one.disable_observer(), other.disable_observer()
    assert same(one(inputs(2)[1]), other(inputs(2)[1]))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_arguments_of_torchs(name: str) -> None:
    preset, original = getattr(ours, name).p, getattr(theirs, name).p
    assert preset.func.__name__ == original.func.__name__
    assert preset.keywords.keys() == original.keywords.keys()
    for key, value in original.keywords.items():
        mine = preset.keywords[key]
        if key != "observer":
            assert mine == value, key
        elif isinstance(value, type):
            assert mine.__name__ == value.__name__
        else:
            assert (mine.p.func.__name__, mine.p.keywords) == (value.p.func.__name__, value.p.keywords)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_the_function_compiles_without_a_break() -> None:
    scale, zero_point = torch.tensor([0.02]), torch.tensor([100], dtype=torch.int32)

    def function(data: torch.Tensor) -> torch.Tensor:
        return fake_quantize(data, scale, zero_point, None, 0, 255)

    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    x = inputs(1)[0]
    eager, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, out = function(eager), compiled(other)
    assert torch.equal(expected, out)
    expected.sum().backward(), out.sum().backward()
    assert eager.grad is not None and other.grad is not None
    assert torch.equal(eager.grad, other.grad)
