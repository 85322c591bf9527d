"""A converted graph that reads tensors beside its parts: running it changes no module, and other tensors are seen."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import qcore

READS = {
    "a parameter": lambda m: m.own,
    "a buffer": lambda m: m.kept,
    "a parameter of a module that is not called": lambda m: m.held.own,
    "a parameter of a module that is called": lambda m: m.norm.weight,
    "the bias of a quantized layer": lambda m: m.fc.bias,
}


class Model(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.read = read
        self.fc, self.norm, self.held = nn.Linear(4, 4), nn.LayerNorm(4), nn.Module()
        self.own, self.held.own = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.register_buffer("kept", torch.rand(4), persistent=False)

    def forward(self, x):
        return self.fc(torch.atan(self.norm(self.fc(x)))) * self.read(self).cos().cumsum(0)


def _converted(read):
    torch.manual_seed(0)
    x = torch.randn(3, 4)
    prepared = qcore.prepare(Model(read).eval(), example_inputs=(x,))
    prepared(x)
    return qcore.convert(prepared), x


@pytest.mark.parametrize("name", READS)
def test_running_a_graph_changes_nothing_of_its_state(name):
    model, x = _converted(READS[name])
    fresh, before = copy.deepcopy(model), list(model.state_dict())
    model(x)
    assert list(model.state_dict()) == before
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))


@pytest.mark.parametrize("name", [name for name in READS if "parameter" in name])
def test_a_tensor_in_the_place_of_another_is_seen(name):
    model, x = _converted(READS[name])
    before = model(x)
    target = "own" if name == "a parameter" else "held.own" if "not" in name else "norm.weight"
    owner, _, last = target.rpartition(".")
    setattr(model.get_submodule(owner), last, nn.Parameter(torch.full((4,), 3.0)))
    other = copy.deepcopy(model)
    assert not torch.equal(model(x), before)
    assert torch.equal(model(x), other(x))


class Untraced(nn.Module):
    """A layer whose weight and bias code beside it reads, in a module that no graph is made of."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        for _ in range(min(2, x.shape[0] + 1)):
            x = x * 0.9
        return nn.functional.linear(x, self.fc.weight, self.fc.bias) + self.fc(x)


def test_running_a_graph_of_one_layer_changes_nothing_of_its_state():
    torch.manual_seed(0)
    x = torch.randn(3, 8)
    prepared = qcore.prepare(nn.Sequential(nn.Linear(8, 12), Untraced()).eval(), example_inputs=(x,))
    prepared(x)
    model = qcore.convert(prepared)
    before = list(model.state_dict())
    model(x)
    assert list(model.state_dict()) == before
