"""Quantized models after .half(), .bfloat16(), .double() and .float(): as the float model after the same."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.qconfig import get_default_qconfig
from tests.nn.test_layer_forms import snr


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.lstm, self.norm = nn.Embedding(10, 8), nn.LSTM(8, 8), nn.LayerNorm(8)
        self.cell, self.head = nn.GRUCell(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        y, _ = self.lstm(self.table(x))
        return self.head(self.norm(self.cell(y[-1])))


class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = qcore.QuantStub(), qcore.DeQuantStub()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.RMSNorm(8), nn.Linear(8, 4)
        self.register_buffer("gain", torch.rand(4))

    def forward(self, x):
        y = self.conv(self.enter(x)).relu().mean((2, 3))
        return F.softplus(self.leave(self.head(self.norm(y)))) * self.gain


def dynamic(model, x):
    return qcore.quantize_dynamic(model)


def compiled(model, x):
    return qcore.compile(qcore.quantize_dynamic(model), (x,))


def modules(model, x):
    prepared = qcore.prepare(model)
    prepared(x)
    return qcore.convert(prepared)


def graph(model, x):
    prepared = qcore.prepare_fx(model, get_default_qconfig("reference"), (x,))
    prepared(x)
    return qcore.convert_fx(prepared)


CASES = [(Text, flow, torch.randint(0, 10, (5, 3))) for flow in (dynamic, compiled)]
CASES += [(Image, flow, torch.randn(2, 3, 8, 8)) for flow in (modules, graph)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("kind", "flow", "x"), CASES)
def test_casts_follow_the_float_model(kind, flow, x, dtype, tmp_path):
    torch.manual_seed(0)
    model = kind().eval()
    with torch.no_grad():
        found = flow(model, x)
        before = found(x)
        right, given = copy.deepcopy(model).to(dtype), x.to(dtype) if x.is_floating_point() else x
        result = found.to(dtype)(given)
        assert result.dtype == dtype and snr(right(given), result) > 25
        qcore.save(found, tmp_path / "cast.qcore")
        for again in (
            copy.deepcopy(found),
            pickle.loads(pickle.dumps(found)),
            qcore.load(tmp_path / "cast.qcore", model),
        ):
            assert torch.equal(again(given), result)
            assert snr(copy.deepcopy(found).float()(x), again.float()(x)) > 100  # floats, whose last bits may differ
        assert snr(before, found.float()(x)) > 45  # what stayed float was rounded
