"""Layers without a quantized form, of torch and of users, between quantized ones: they run, and the report says how."""

from __future__ import annotations

import copy
import pickle
import random

import pytest
import torch
from torch import nn

import qcore
from qcore.nn.quantized import InFloat
from tests.nn.test_layer_forms import eager, snr, stubs


class Scaled(nn.Module):
    """A leaf with a parameter and a buffer."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(8) + 0.5)
        self.register_buffer("shift", torch.randn(8))

    def forward(self, x):
        return x * self.gain + self.shift


class Swish(nn.Module):
    def forward(self, x):
        return x * x.sigmoid()


class Turned(nn.Module):
    """Works on integers as it is."""

    def forward(self, x):
        return x.transpose(0, 1).contiguous().transpose(0, 1)


class Parts(nn.Module):
    """Several results, of different ranges, in a dict of tuples."""

    def forward(self, x):
        return {"both": (x.tanh() * 0.1, x * 7), "count": x.shape[0]}


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts, self.head, self.leave = Parts(), nn.Linear(8, 8), qcore.DeQuantStub()

    def forward(self, x):
        a, b = self.parts(x)["both"]
        return torch.cat([self.leave(self.head(a)), self.leave(b)], -1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.leave = nn.GRU(8, 8), qcore.DeQuantStub()

    def forward(self, x):
        y, h = self.gru(x.unsqueeze(1))
        return self.leave(y).squeeze(1) + self.leave(h)[0]


class Replaced(nn.Linear):
    def forward(self, input):
        return super().forward(input).abs() + input


class Summed(nn.ReLU):
    """A subclass of a layer that needs no quantized form, which computes something else."""

    def forward(self, input):
        return torch.relu(input) + input


def encoder():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), nn.Flatten()
    )


KINDS = {
    "RMSNorm": (lambda: nn.RMSNorm(8), "in float"),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(8), "in float"),
    "Scaled": (Scaled, "in float"),
    "Swish": (Swish, "in float"),
    "Replaced": (lambda: Replaced(8, 8), "in float"),
    "Summed": (Summed, "in float"),
    "Turned": (Turned, "passed through"),
    "ReLU": (nn.ReLU, "passed through"),
    "Softplus": (nn.Softplus, "in float"),
    "Joined": (Joined, ""),
    "Recurrent": (Recurrent, ""),
    "encoder": (encoder, ""),
}


@pytest.mark.parametrize("seed", range(10))
def test_models_with_such_layers_run(seed, tmp_path):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    names = rng.sample(list(KINDS), 3)
    last = [name for name in names if name in ("Joined", "Recurrent")][:1]  # which give floats
    names = [name for name in names if name not in ("Joined", "Recurrent")] + last
    model = stubs(*(layer for name in names for layer in (nn.Linear(8, 8), KINDS[name][0]())))
    x = torch.randn(6, 8)
    before, state = copy.deepcopy(model), torch.get_rng_state()
    with torch.no_grad():
        right = model(x)
    found = eager(model, x)
    assert torch.equal(state, torch.get_rng_state())
    assert all(
        torch.equal(a, b) for a, b in zip(before.state_dict().values(), model.state_dict().values(), strict=True)
    )
    result = found(x)
    assert snr(right, result) > 20, names
    for place, name in enumerate(names):
        outcome = KINDS[name][1]
        if outcome:
            path = str(2 + 2 * place)
            assert found.qcore_report[path].outcome == outcome
            assert isinstance(found[int(path)], InFloat) == (outcome == "in float")
            own = [key for key in model.state_dict() if key.startswith(f"{path}.")]
            assert [key for key in found.state_dict() if key.startswith(f"{path}.")] == own
    qcore.save(found, tmp_path / "model.qcore")
    fresh = eager(model, torch.randn(6, 8))
    fresh.load_state_dict(found.state_dict())
    for again in (
        copy.deepcopy(found),
        pickle.loads(pickle.dumps(found)),
        fresh,
        qcore.load(tmp_path / "model.qcore", model),
    ):
        assert torch.equal(again(x), result)


def test_attributes_of_such_layers_are_those_of_the_float_ones():
    found = eager(stubs(nn.Linear(8, 8), Scaled()), torch.randn(4, 8))
    layer = found[2]
    assert torch.equal(layer.shift, layer.layer.shift)
    layer.shift = torch.zeros(8)
    layer.note = "mine"
    assert not layer.layer.shift.any() and layer.layer.note == "mine"
    with pytest.raises(AttributeError, match="missing"):
        _ = layer.missing


def test_floats_pass_such_layers_as_ever_and_strict_names_those_with_weights():
    norm = nn.RMSNorm(8)
    model = nn.Sequential(qcore.QuantStub(), nn.Linear(8, 8), qcore.DeQuantStub(), norm, Swish()).eval()
    x = torch.randn(4, 8)
    found = eager(model, x)
    y = torch.randn(4, 8)
    with torch.no_grad():
        assert torch.equal(found[3:](y), model[3:](y))
        assert torch.equal(qcore.compile(found, (x,))(x), found(x))
    with pytest.raises(qcore.QuantizationError, match=r"3 \(RMSNorm\)"):
        qcore.prepare(model, strict=True)


def test_training_watches_such_layers_and_goes_on_from_a_state_dict():
    torch.manual_seed(0)
    model = nn.Sequential(qcore.QuantStub(), nn.Linear(8, 8), nn.RMSNorm(8), Swish(), qcore.DeQuantStub()).train()
    trained, again, x = qcore.prepare_qat(model), qcore.prepare_qat(model), torch.randn(16, 8)
    trained(x).sum().backward()
    again.load_state_dict(trained.state_dict())
    results = [qcore.convert(each.eval())(x) for each in (trained, again)]
    assert torch.equal(*results) and snr(model.eval()(x), results[0]) > 20


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.gain = nn.Linear(8, 8), nn.Parameter(torch.ones(8))

    def forward(self, values):
        return self.inner(values) * self.gain


def test_a_refusal_names_the_module_and_the_line():
    found = eager(stubs(Mixed()), torch.randn(4, 8))
    with pytest.raises(
        qcore.UnsupportedError, match=r"module '1' \(Mixed\), line \d+ of .*test_in_float.py.*FloatFunctional"
    ):
        found(torch.randn(4, 8))
