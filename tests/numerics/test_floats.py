"""Operators on floats against exact values (float64), and against torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from qcore import operators as ops
from qcore.registry import registry

EXACT = {
    "gelu": lambda x: x * torch.special.ndtr(x),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def apply(operator, *inputs):
    return registry.get("reference").build(operator)(*inputs)


@pytest.mark.parametrize("name", ops.FLOAT_FUNCTIONS)
def test_functions_are_close_to_the_exact_values(name):
    x = torch.cat([torch.linspace(-12, 12, 200_001), torch.randn(10_000) * 100])
    exact = EXACT[name](x.double())
    error = (apply(ops.FloatFunction(name), x).double() - exact).abs()
    assert (error / exact.abs().clamp(min=1)).max() < 6e-7
    assert error[x < 0].max() < 6e-7


def test_gelu_is_as_close_as_torchs():
    x = torch.linspace(-8, 8, 400_001)
    exact = EXACT["gelu"](x.double())
    ours = (apply(ops.FloatFunction("gelu"), x).double() - exact).abs().max()
    assert ours <= (F.gelu(x).double() - exact).abs().max()


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_gelu_ends_in_x_and_in_zero(name):
    x = torch.tensor([5.4, 17.0, 1e6, 3e38])
    kernel = ops.FloatFunction(name)
    assert torch.equal(apply(kernel, x[1:]), x[1:])
    assert not apply(kernel, -x[1:]).any()
    assert apply(kernel, torch.tensor([math.nan])).isnan().all()


@pytest.mark.parametrize("length", [1, 5, 64, 65, 384, 3072])
def test_layer_norm_is_close_to_the_exact_values(length):
    x = torch.randn(20, length) * 3 + 2
    weight, bias = torch.randn(length), torch.randn(length)
    got = apply(ops.FloatLayerNorm((length,), weight, bias, 1e-5), x)
    exact = F.layer_norm(x.double(), (length,), weight.double(), bias.double(), 1e-5)
    assert (got.double() - exact).abs().max() < 4e-6


def test_sums_are_torchs():
    a, b = torch.randn(50, 7), torch.randn(7)
    assert torch.equal(apply(ops.FloatAdd(), a, b), a + b)
