"""What the default mapping does in models with layer norms, and how a user overrides it."""

from __future__ import annotations

import torch
from torch import nn

import qcore
from qcore.api.qconfig_mapping import get_default_qconfig_mapping


class Block(nn.Module):
    """A transformer's feed-forward block whose residual stream has two large channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.act = nn.LayerNorm(32), nn.GELU()
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x):
        return x + self.narrow(self.act(self.wide(self.norm(x))))


def data():
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    x[:, :2] *= 60
    return x


def converted(mapping=None):
    prepared = qcore.prepare(Block().eval(), example_inputs=(data(),), backend="reference", qconfig_mapping=mapping)
    prepared(data())
    return qcore.convert(prepared)


def rows(model):
    return {row.path: row for row in qcore.report(model).rows}


@torch.no_grad()
def small_channels_error(model):
    expected = Block().eval()(data())[:, 2:]
    return float((model(data())[:, 2:] - expected).square().mean().sqrt() / expected.std())


def test_default_keeps_accuracy_and_says_what_it_does():
    model = converted()
    found = rows(model)
    assert {path for path, row in found.items() if row.outcome == "float"} == {"norm", "act", "add"}
    assert all("by default in a model with layer norms" in row.reason for row in found.values())
    assert found["wide"].operator == "linear_dynamic"
    assert small_channels_error(model) < 0.02


def test_rules_override_the_default():
    mapping = get_default_qconfig_mapping("reference")
    static = mapping.global_qconfig
    for kind in (nn.LayerNorm, nn.GELU, nn.Linear):
        mapping.set_object_type(kind, static)
    model = converted(mapping)
    found = rows(model)
    assert found["norm"].operator == "layer_norm"
    assert found["act"].operator == "lookup gelu"
    assert found["wide"].operator == "linear"
    assert found["add"].outcome == "float"


def test_one_qconfig_for_all_quantizes_all_and_costs_accuracy():
    model = converted(get_default_qconfig_mapping("reference").global_qconfig)
    assert not [row for row in qcore.report(model).rows if row.outcome == "float"]
    assert small_channels_error(model) > 0.1


def test_nothing_changes_without_layer_norms():
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Softmax(-1)).eval()
    prepared = qcore.prepare(net, example_inputs=(torch.randn(4, 8),), backend="reference")
    assert not [row for row in qcore.report(prepared).rows if row.outcome == "float"]


class Attending(nn.Module):
    """Multi-head attention of torch on (length, batch, features), or without a batch."""

    def __init__(self, **options) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.norm = nn.MultiheadAttention(16, 4, **options), nn.LayerNorm(16)

    def forward(self, x):
        return self.norm(self.attention(x, x, x, need_weights=False)[0])


def test_multi_head_attention_is_traced_and_its_products_are_quantized():
    for options, shape in (({}, (6, 2, 16)), ({"batch_first": True}, (2, 6, 16)), ({}, (6, 16))):
        model, x = Attending(**options).eval(), torch.randn(shape, generator=torch.Generator().manual_seed(2))
        prepared = qcore.prepare(model, example_inputs=(x,), backend="reference")
        prepared(x)
        quantized = qcore.convert(prepared)
        found = rows(quantized)
        assert [row.operator for row in found.values()].count("matmul") == 2
        floats = {row.float_type for row in found.values() if row.outcome == "float"}
        assert floats == {"softmax", "LayerNorm"}
        with torch.no_grad():
            expected = model(x)
        assert (quantized(x) - expected).square().mean().sqrt() < 0.03 * expected.std()
