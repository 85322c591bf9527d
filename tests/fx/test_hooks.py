"""Hooks, and code that looks at the mode, in graph mode and where layers are fused."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.qconfig import get_default_qat_qconfig, get_default_qconfig
from tests.nn.test_layer_forms import snr


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = Block(), nn.Linear(4, 4)
        self.lstm, self.attention = nn.LSTM(4, 4, batch_first=True), nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x):
        y = self.head(self.block(x).mean((2, 3)))[:, None]
        y = self.lstm(y)[0]
        return self.attention(y, y, y)[0]


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
PATHS = ["", "block", "block.conv", "block.norm", "block.relu", "head", "lstm", "attention"]


def converted(model, trains):
    if not trains:
        prepared = qcore.prepare_fx(model, get_default_qconfig("reference"), (X,))
        prepared(X)
        return qcore.convert_fx(prepared)
    prepared = qcore.prepare_qat_fx(model.train(), get_default_qat_qconfig("reference"), (X,))
    prepared(X)
    return qcore.convert_fx(prepared.eval())


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_hooks_see_each_call(path, trains):
    torch.manual_seed(0)
    model, seen = Net().eval(), []
    right = model(X)
    model.get_submodule(path).register_forward_pre_hook(lambda module, args: seen.append("before"))
    model.get_submodule(path).register_forward_hook(lambda module, args, result: seen.append("after"))
    found = converted(model, trains)
    found(X)
    seen.clear()
    result = found(X)
    assert seen == ["before", "after"]
    assert snr(right, result) > 20 or trains


@pytest.mark.parametrize("path", ["", "block", "attention"])
def test_what_a_hook_gives_is_the_result(path):
    torch.manual_seed(0)
    model = Net().eval()

    def double(given):
        return tuple(map(double, given)) if isinstance(given, tuple) else None if given is None else 2 * given

    model.get_submodule(path).register_forward_hook(lambda module, args, result: double(result))
    assert snr(model(X), converted(model, False)(X)) > 20


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize(
    ("path", "kind"), [("conv", "hook"), ("norm", "hook"), ("norm", "pre_hook"), ("relu", "pre_hook")]
)
def test_fusing_by_name_tells_which_hooks_see_nothing_any_more(path, kind, trains):
    model = nn.Sequential(Block()).train(trains)
    getattr(getattr(model[0], path), f"register_forward_{kind}")(lambda *given: None)
    fuse = qcore.fuse_modules_qat if trains else qcore.fuse_modules
    with pytest.warns(UserWarning, match=rf"hooks of module '0\.{path}' are not called any more"):
        fuse(model, ["0.conv", "0.norm", "0.relu"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fuse(nn.Sequential(Block()).train(trains), ["0.conv", "0.norm", "0.relu"])


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x) if self.training else x


class ByMode(nn.Module):
    """Another graph in training, in its own forward or in that of a part."""

    def __init__(self, inside):
        super().__init__()
        self.a, self.b, self.aux = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.noise = Noise() if inside else nn.Identity()
        self.inside = inside

    def forward(self, x):
        h = F.dropout(F.relu(self.noise(self.a(x))), 0.1, training=self.training)
        if not self.inside and self.training:
            return self.b(h), self.aux(h)
        return self.b(h)


@pytest.mark.parametrize("inside", [False, True])
def test_a_forward_that_looks_at_the_mode_follows_it(inside):
    torch.manual_seed(0)
    model, x = ByMode(inside).eval(), torch.randn(16, 8)
    right = model(x)
    prepared = qcore.prepare_qat_fx(copy.deepcopy(model).train(), get_default_qat_qconfig("reference"), (x,))
    assert isinstance(prepared(x), tuple) != inside
    found = qcore.convert_fx(prepared.eval())
    assert snr(right, found(x)) > 20 and torch.equal(found(x), found(x))
    reason = found.qcore_report["noise" if inside else ""].reason
    assert "otherwise when it does not train" in reason
    assert {"a", "b"} <= {row.path for row in found.qcore_report.quantized_rows}
