"""Fake-quantize modules on their own: switches, errors, saving, compiling, and that training with them learns."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import qcore
from qcore.api import fake_quantize as module
from qcore.api._fake_quantize_function import fake_quantize
from qcore.api.fake_quantize import (
    FakeQuantize,
    FakeQuantizeBase,
    FixedQParamsFakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    default_fixed_qparams_range_0to1_fake_quant,
    default_fused_per_channel_wt_fake_quant,
    default_per_channel_weight_fake_quant,
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
)
from qcore.api.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PlaceholderObserver,
)
from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError
from qcore.tensor.dtypes import per_channel_affine_float_qparams

KINDS = [FakeQuantize, FusedMovingAvgObsFakeQuantize, default_fixed_qparams_range_0to1_fake_quant]
x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_switches(kind: Any) -> None:
    model = nn.Sequential(kind(), nn.Linear(6, 6))
    model.apply(disable_fake_quant)
    assert model[0](x) is x
    scale = model[0].scale.clone()
    model.apply(enable_fake_quant)
    model.apply(disable_observer)
    assert not torch.equal(model[0](x * 100), x * 100)
    assert torch.equal(model[0].scale, scale)
    model.apply(enable_observer)
    model[0](x * 100)
    fixed = isinstance(model[0], FixedQParamsFakeQuantize)
    assert torch.equal(model[0].scale, scale) == fixed


def test_gradient_passes_inside_of_the_range_only() -> None:
    data = torch.tensor([-1.0, 0.0, 1.26, 25.5, 26.0, 300.0], requires_grad=True)
    out = fake_quantize(data, torch.tensor([0.1]), torch.tensor([0], dtype=torch.int32), None, 0, 255)
    out.backward(torch.full_like(data, 2.0))
    torch.testing.assert_close(out.detach(), torch.tensor([0.0, 0.0, 1.3, 25.5, 25.5, 25.5]))
    assert data.grad is not None
    assert data.grad.tolist() == [0.0, 2.0, 2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("zero_point", [torch.tensor([3], dtype=torch.int32), torch.tensor([3.5])])
def test_nan_stays_and_infinity_is_clamped(zero_point: torch.Tensor) -> None:
    data = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e38])
    out = fake_quantize(data, torch.tensor([0.5]), zero_point, None, 0, 255)
    assert out[0].isnan()
    assert out[1:].tolist() == [(255 - float(zero_point)) / 2, -float(zero_point) / 2, (255 - float(zero_point)) / 2]


def test_observation_of_nan_is_refused_with_the_path() -> None:
    fake = FakeQuantize()
    fake.qcore_path = "block.conv"
    with pytest.raises(QuantizationError, match=r"'block.conv' was given data with NaN"):
        fake(torch.tensor([float("nan")]))
    assert fake.scale.tolist() == [1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_inputs_pass(kind: Any) -> None:
    fake = kind()
    before = {key: value.clone() for key, value in fake.state_dict().items()}
    assert fake(torch.empty(0, 3)).shape == (0, 3)
    assert all(torch.equal(value, fake.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "kind", [*KINDS, default_per_channel_weight_fake_quant, default_fused_per_channel_wt_fake_quant]
)
def test_saved_and_copied_modules_go_on(kind: Any) -> None:
    fake, loaded = kind(), kind()
    fake(x)
    file = io.BytesIO()
    torch.save(fake.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    others = [loaded, copy.deepcopy(fake), pickle.loads(pickle.dumps(fake))]
    expected = fake(x * 1.7)
    for other in others:
        assert torch.equal(other(x * 1.7), expected)
        assert all(torch.equal(*pair) for pair in zip(fake.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FakeQuantize(observer=PlaceholderObserver), ArgumentTypeError, "quantized dtype"),
        (lambda: FakeQuantize(observer=nn.Identity), ArgumentTypeError, "quantized dtype"),
        (lambda: FakeQuantize(quant_min=0, quant_max=300), ArgumentError, "quant_max=300"),
        (lambda: FakeQuantize(quant_min=0), ArgumentError, "give both"),
        (lambda: FixedQParamsFakeQuantize(observer=MinMaxObserver), ArgumentTypeError, "FixedQParamsObserver"),
        (lambda: FusedMovingAvgObsFakeQuantize(observer=HistogramObserver), ArgumentTypeError, "HistogramObserver"),
        (lambda: FusedMovingAvgObsFakeQuantize(dtype=qcore.qint8), ArgumentError, "quant_max=255"),
        (
            lambda: FusedMovingAvgObsFakeQuantize(
                observer=MovingAveragePerChannelMinMaxObserver,
                qscheme=per_channel_affine_float_qparams,
            ),
            ArgumentError,
            "float_qparams",
        ),
    ],
)
def test_bad_arguments_are_clear_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_fused_takes_any_axis(axis: int) -> None:
    fused = default_fused_per_channel_wt_fake_quant(ch_axis=axis)
    first = default_fused_per_channel_wt_fake_quant()
    moved = x.movedim(axis, 0)
    assert torch.equal(fused(x).movedim(axis, 0), first(moved))
    assert torch.equal(fused.scale, first.scale)


def test_a_users_own_subclass() -> None:
    class Halving(FakeQuantizeBase):
        def forward(self, data: torch.Tensor) -> torch.Tensor:
            return data / 2 if self.fake_quant_enabled[0] else data

        def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.ones(1), torch.zeros(1, dtype=torch.int32)

    mine = Halving.with_args()()
    assert torch.equal(mine(x), x / 2)
    mine.disable_fake_quant()
    assert mine(x) is x
    with pytest.raises(TypeError, match="abstract"):
        FakeQuantizeBase()  # type: ignore[abstract]


def test_training_through_fake_quantization_learns() -> None:
    torch.manual_seed(0)
    target = torch.randn(8, 4)
    weight = nn.Parameter(torch.zeros(8, 4))
    kwargs: dict[str, Any] = {"dtype": qcore.qint8, "qscheme": qcore.per_tensor_symmetric, "averaging_constant": 0.5}
    fake = FusedMovingAvgObsFakeQuantize(quant_min=-128, quant_max=127, **kwargs)
    optimizer = torch.optim.SGD([weight], lr=0.2)
    for _ in range(200):
        optimizer.zero_grad()
        (fake(weight) - target).square().sum().backward()
        optimizer.step()
    assert (fake(weight) - target).abs().max() < float(fake.scale)


@pytest.mark.parametrize("name", module.__all__)
def test_every_name_is_there(name: str) -> None:
    item = getattr(module, name)
    assert callable(item)
    if isinstance(item, type):
        assert item.__doc__
