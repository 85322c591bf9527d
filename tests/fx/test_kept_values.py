"""What a forward keeps from call to call, and weights of layers that functions read: captured, traced and saved."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.qconfig import get_default_qconfig
from tests.nn.test_layer_forms import snr


class Keeps(nn.Module):
    """A buffer, a list and a dict that each call sets anew."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("state", torch.zeros(4, 8))
        self.past, self.seen = [], {}

    def forward(self, x):
        self.state = torch.tanh(self.layer(x) + self.state)
        self.past, self.seen["last"] = [self.state], self.state
        return self.state * 1.0


def test_values_that_a_forward_keeps():
    torch.manual_seed(0)
    x = torch.randn(4, 8)
    for mapping in (None, get_default_qconfig("reference")):
        model, right = Keeps().eval(), Keeps().eval()
        right.load_state_dict(model.state_dict())
        prepared = qcore.prepare_fx(model, mapping, (x,)) if mapping else qcore.prepare(model, example_inputs=(x,))
        with torch.no_grad():
            assert snr(right(x), prepared(x)) > 40
            found = qcore.convert_fx(prepared)
            for _ in range(3):
                assert snr(right(x), found(x)) > 20


class Tied(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.layer = nn.Linear(8, 8) if kind == "linear" else nn.Embedding(8, 8)
        self.enter, self.bias = nn.Linear(8, 8), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        x = self.enter(x)
        if self.kind == "linear":
            return F.linear(torch.sigmoid(self.layer(x)), self.layer.weight.t(), self.bias)
        nearest = torch.cdist(x, self.layer.weight).argmin(-1) * 0
        return self.layer(nearest) + x @ self.layer.weight


@pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's tracer needs its legacy stack")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_weights_that_functions_read_are_traced_exported_and_saved(tmp_path):
    x = torch.randn(4, 8)
    for kind in ("linear", "embedding"):
        torch.manual_seed(0)
        model = Tied(kind).eval()
        prepared = qcore.prepare(model, example_inputs=(x,))
        prepared(x)
        dynamic = qcore.quantize_dynamic(model, dtype=qcore.quint8 if kind == "embedding" else qcore.qint8)
        for found in (qcore.convert_fx(prepared), dynamic):
            with torch.no_grad():
                right = found(x)
                assert snr(model(x), right) > 20
                for again in (torch.jit.trace(found, x), torch.export.export(found, (x,)).module()):
                    assert snr(right, again(x)) > 60
                qcore.save(found, tmp_path / "tied.qcore")
                assert torch.equal(qcore.load(tmp_path / "tied.qcore", model)(x), right)
