"""Numbers, tensors and lists that a user's module holds go with the model; a file sets nothing else on it."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import qcore
from tests.backends import USABLE


class Model(nn.Module):
    """Its forward reads what it holds, and adds to it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.scale, self.size, self.mode, self.mask = 1.0, (1, 2), "mean", torch.ones(4)
        self.cache, self.more, self.call = [], {"a": 1}, abs
        self.register_buffer("kept", torch.ones(4))

    def forward(self, x):
        y = self.fc(x) * self.scale * self.mask + len(self.cache) + sum(self.size)
        if self.cache:
            y = y + self.cache[-1]
        self.cache.append(y.sum())
        return getattr(self, self.mode)(y)

    def mean(self, y):
        return y.mean(-1)

    def last(self, y):
        return y[..., -1]


def _number(chance):
    return chance.choice((0, -3, 2.5, True, None, float("inf"), 2**70))


def _value(chance, depth=0):
    kind = chance.randrange(5 if depth < 2 else 3)
    if kind < 2:
        return _number(chance)
    if kind == 2:
        return torch.tensor([chance.random(), 1.0])
    inside = [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return inside if kind == 3 else tuple(inside)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return qcore.quantize_dynamic(Model().eval(), backend=USABLE[0])


def _saved(model, path):
    qcore.save(model, path / "model.qcore")
    return path / "model.qcore"


@pytest.mark.parametrize("calls", [0, 1, 5])
def test_a_loaded_model_goes_on_where_the_saved_one_was(calls, model, tmp_path):
    x = torch.randn(2, 4)
    model.scale, model.size, model.mask = 3.0, [4, 5], torch.tensor([1.0, 0.0, 2.0, 1.0])
    for _ in range(calls):
        model(x)
    again = qcore.load(_saved(model, tmp_path), Model)
    for _ in range(3):
        assert torch.equal(model(x), again(x))


@pytest.mark.parametrize("seed", range(20))
def test_values_of_every_form_come_back(seed, model, tmp_path):
    chance = random.Random(seed)
    model.drawn = _value(chance)
    model.text, model.odd = "a" * 10**6, "\ud800"  # which are left to the code
    again = qcore.load(_saved(model, tmp_path), Model)
    assert repr(again.drawn) == repr(model.drawn)


def test_another_string_is_told(model, tmp_path):
    model.mode = "last"
    path = _saved(model, tmp_path)
    with pytest.raises(qcore.ArgumentError, match=r"had mode='last', and the model that was given has 'mean'"):
        qcore.load(path, Model)

    def make():
        made = Model()
        made.mode = "last"
        return made

    x = torch.randn(2, 4)
    assert torch.equal(qcore.load(path, make)(x), model(x))


@pytest.mark.parametrize(
    "name", ["forward", "call", "fc", "kept", "training", "_modules", "qcore_report", "mean", "register_buffer"]
)
def test_a_file_sets_nothing_else(name, model, tmp_path):
    path = _saved(model, tmp_path)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["qcore"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    header["modules"][0]["attributes"][name] = 1
    save_file(tensors, path, {"qcore": json.dumps(header)})
    with pytest.raises(qcore.ArgumentError, match="has the name of something else"):
        qcore.load(path, Model)
