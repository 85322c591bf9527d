"""Kernels of backends in calibration and training give the bits of plain torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qcore
from qcore.api import fake_quantize as fakes
from qcore.api import observer as observers
from qcore.api._fake_quantize_function import fake_quantize
from qcore.api._observers import kernels
from tests.backends import USABLE

MODULES: dict[str, Callable[[], Any]] = {
    "default_fake_quant": fakes.default_fake_quant,
    "default_per_channel_weight_fake_quant": fakes.default_per_channel_weight_fake_quant,
    "default_fused_act_fake_quant": fakes.default_fused_act_fake_quant,
    "default_fused_wt_fake_quant": fakes.default_fused_wt_fake_quant,
    "fused_per_channel_axis_1": fakes.default_fused_per_channel_wt_fake_quant.with_args(ch_axis=1),
    "fused_per_channel_last_axis": fakes.default_fused_per_channel_wt_fake_quant.with_args(ch_axis=-1),
    "default_embedding_fake_quant": fakes.default_embedding_fake_quant,
    "qint32": fakes.FakeQuantize.with_args(dtype=qcore.qint32, quant_min=-(2**31), quant_max=2**31 - 1),
    "MinMaxObserver": observers.MinMaxObserver,
    "PerChannelMinMaxObserver": observers.PerChannelMinMaxObserver.with_args(ch_axis=1),
    "MovingAveragePerChannelMinMaxObserver": observers.MovingAveragePerChannelMinMaxObserver.with_args(ch_axis=-1),
    "HistogramObserver": observers.HistogramObserver,
}


def inputs(kind: str) -> list[Tensor]:
    """Several inputs for one module, of one number of channels on each axis."""
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(6, 5, 7, 9, generator=generator) * size for size in (1.0, 1.0, 0.3, 4.0)]
    if kind == "channels_last":
        return [x.contiguous(memory_format=torch.channels_last) for x in found]
    if kind == "transposed":
        return [x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0) for x in found]
    if kind == "sliced":
        return [torch.stack([x, x], -1)[..., 0] for x in found]
    if kind == "expanded":
        return [x[:1].expand(x.shape) for x in found]
    if kind == "one range":
        return [x.clamp(-1, 1) for x in found]
    return found


@pytest.fixture
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Afterwards, no backend has kernels."""
    return lambda: monkeypatch.setattr(kernels, "_offered", lambda backend, operators: None)


def run(module: Any, data: list[Tensor]) -> list[Tensor]:
    """Results, gradients and state of a module that sees all data; each result is passed through it again."""
    found = []
    for x in data:
        leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = module(module(leaf))
        if y is not leaf:
            weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
            y.backward(weight)
        found += [y.detach(), *([] if leaf.grad is None else [leaf.grad])]
    return [*found, *module.buffers(), *module.calculate_qparams()]


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("kind", ["contiguous", "channels_last", "transposed", "sliced", "expanded", "one range"])
@pytest.mark.parametrize("name", MODULES)
def test_kernels_give_the_bits_of_plain_torch(name: str, kind: str, backend: str, plain_torch: Any) -> None:
    with_kernels, without = MODULES[name](), MODULES[name]()
    with_kernels.qcore_backend = backend
    found = run(with_kernels, inputs(kind))
    plain_torch()
    expected = run(without, inputs(kind))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("backend", USABLE)
def test_the_gradient_of_the_gradient(backend: str) -> None:
    x = torch.randn(40, requires_grad=True)
    weight = torch.randn(40, requires_grad=True)
    y = fake_quantize(x, torch.tensor([0.01]), torch.tensor([0], dtype=torch.int32), None, -50, 50, backend)
    (gradient,) = torch.autograd.grad(y, x, weight, create_graph=True)
    inside = (x.detach() * 100).round().abs() <= 50
    assert torch.equal(gradient.detach(), torch.where(inside, weight.detach(), 0.0))
    (second,) = torch.autograd.grad(gradient.sum(), weight)
    assert torch.equal(second, inside.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_go_the_way_of_torch(dtype: torch.dtype, plain_torch: Any) -> None:
    module = fakes.default_fused_act_fake_quant()
    other = copy.deepcopy(module)
    data = [x.to(dtype) for x in inputs("contiguous")]
    found = run(module, data)
    assert found[0].dtype == dtype
    plain_torch()
    for mine, theirs in zip(found, run(other, data), strict=True):
        assert torch.equal(mine, theirs)


def test_meta_tensors_go_the_way_of_torch() -> None:
    scale, zero_point = torch.ones(1, device="meta"), torch.zeros(1, dtype=torch.int32, device="meta")
    y = fake_quantize(torch.empty(3, 4, device="meta"), scale, zero_point, None, 0, 255)
    assert y.is_meta
    assert y.shape == (3, 4)


def test_prepare_says_whose_kernels_to_use() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).train()
    prepared = qcore.prepare_qat(model, backend="reference")
    parts = [part for part in prepared.modules() if hasattr(part, "calculate_qparams")]
    assert parts
    assert all(part.qcore_backend == "reference" for part in parts)


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("name", ["default_fused_act_fake_quant", "HistogramObserver", "PerChannelMinMaxObserver"])
def test_what_is_not_finite_is_refused_and_changes_nothing(name: str, backend: str) -> None:
    module = MODULES[name]()
    module.qcore_backend, module.qcore_path = backend, "block.conv"
    data = inputs("contiguous")
    for x in data:
        module(x)
    before = copy.deepcopy(module.state_dict())
    for value in (float("nan"), float("inf")):
        bad = data[0].clone()
        bad[3, 2, 1, 0] = value
        with pytest.raises(qcore.QuantizationError, match=r"'block.conv' was given data with NaN or infinity"):
            module(bad)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
