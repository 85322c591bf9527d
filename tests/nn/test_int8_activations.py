"""Nets with qint8 activations: on every backend the same integers as on reference, and no fallback."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qcore
from qcore import operators as ops
from qcore.api.observer import MinMaxObserver, default_per_channel_weight_observer
from qcore.api.qconfig import QConfig
from qcore.api.qconfig_mapping import QConfigMapping
from qcore.registry import registry
from qcore.tensor.qparams import per_tensor
from tests.backends import USABLE


class Everything(nn.Module):
    """An operator of each kind that has activations in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.Hardswish()
        self.prelu, self.up, self.batch = nn.PReLU(16), nn.ConvTranspose2d(32, 8, 2, 2), nn.BatchNorm2d(32)
        self.pools = nn.ModuleList([nn.AvgPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(8)])
        self.rows, self.gelu, self.last, self.softmax = nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 4), nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.act(self.norm(self.conv(x))))
        a, b, c = (pool(x) for pool in self.pools)
        x = self.up(self.batch(torch.cat([a + b, b * c], 1)))
        x = F.relu6(F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=False))
        x = F.interpolate(x, scale_factor=0.5).mean([2, 3])
        x = self.last(self.gelu(self.rows(x)))
        y: Tensor = self.softmax(torch.matmul(x, x.t()))
        return y


def _converted(backend: str, x: Tensor) -> nn.Module:
    torch.manual_seed(0)
    activation = MinMaxObserver.with_args(dtype=qcore.qint8, qscheme=qcore.per_tensor_affine)
    rules = QConfigMapping().set_global(QConfig(activation, default_per_channel_weight_observer))
    prepared = qcore.prepare_fx(Everything().eval(), rules, (x,), backend=backend)
    prepared(x)
    return qcore.convert_fx(prepared)


@pytest.mark.parametrize("backend", [name for name in USABLE if name != "reference"])
def test_a_net_with_int8_activations_runs_on_its_backend_with_the_bits_of_reference(backend: str) -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    model = _converted(backend, x)
    rows = qcore.report(model)
    assert len(rows.quantized_rows) >= 19 and not rows.float_rows
    declared = {
        spec.operator.name
        for spec in registry.choose(backend).backend.capability().ops
        if qcore.qint8 in spec.activations
    }
    if {"add", "softmax"} <= declared:
        assert not rows.fallback_rows
    assert torch.equal(model(x), _converted("reference", x)(x))


@pytest.mark.parametrize("backend", [name for name in USABLE if name != "reference"])
@pytest.mark.parametrize("operator", [ops.Add(), ops.Add(relu=True), ops.Mul()])
def test_operands_of_both_signs_meet(backend: str, operator: ops.Operator) -> None:
    chosen, reference = (registry.choose(name).backend for name in (backend, "reference"))
    if not chosen.supports(operator, (qcore.quint8, qcore.qint8)):
        pytest.skip(f"{backend} declares no {operator.name} of both dtypes")
    draw = torch.Generator().manual_seed(2)
    a = torch.randint(0, 256, (5, 67), generator=draw, dtype=torch.uint8)
    b = torch.randint(-128, 128, (5, 67), generator=draw, dtype=torch.int8)
    qa, qb = per_tensor(0.0137, 201, qcore.quint8), per_tensor(0.021, -77, qcore.qint8)
    for dtype, zero_point in ((qcore.quint8, 90), (qcore.qint8, -13)):
        out = per_tensor(0.031, zero_point, dtype)
        for operands in ((a, qa, b, qb), (b, qb, a, qa)):
            got, want = (each.build(operator)(*operands, out) for each in (chosen, reference))
            assert got.dtype == dtype.storage and torch.equal(got, want)
