"""Lookup tables against torch's quantized kernels: each table whole, in torch's vectorized body."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.tables import FUNCTIONS, table
from qcore.tensor.dtypes import qint8, qint32, quint8
from qcore.tensor.qparams import QParams, per_channel, per_tensor

TWINS = {quint8: torch.quint8, qint8: torch.qint8}
NICE = [1.0, 0.5, 0.25, 0.125, 2**-5, 2**-7, 2**-8, 0.1, 0.05, 0.02, 0.01, 6 / 255, 1 / 255, 3.0, 1.5, 0.75, 2.0, 8.0]
"""Scales at which results fall on ties of the rounding."""


def quantized(function, q, args, out):
    """torch's kernel; it may choose scale and zero point of its result itself."""
    native, functional = torch.ops.quantized, torch.nn.functional
    scale, zero_point = out.scale, out.zero_point
    return {
        "sigmoid": lambda: native.sigmoid(q, scale, zero_point),
        "tanh": lambda: torch.tanh(q),
        "elu": lambda: native.elu(q, scale, zero_point, *args),
        "celu": lambda: native.celu(q, scale, zero_point, *args),
        "gelu": lambda: functional.gelu(q),
        "gelu_tanh": lambda: functional.gelu(q, approximate="tanh"),
        "hardswish": lambda: native.hardswish(q, scale, zero_point),
        "hardsigmoid": lambda: functional.hardsigmoid(q),
        "leaky_relu": lambda: native.leaky_relu(q, *args, False, scale, zero_point),
        "threshold": lambda: functional.threshold(q, *args),
    }[function]()


def drawn(rng, dtype, nice):
    scale = rng.choice(NICE) if nice else 10 ** rng.uniform(-4, 1.5)
    zero_point = rng.choice([dtype.qmin, 0, dtype.qmax, rng.randint(dtype.qmin, dtype.qmax)])
    return per_tensor(scale, zero_point, dtype)


def integers(dtype):
    return torch.arange(dtype.qmin, dtype.qmax + 1).to(dtype.storage)


# (function, most entries of 300 tables that differ): none is in the steps, all in the last bit of torch's own exp or
# erf, where the exact result lies next to a tie
@pytest.mark.parametrize(
    ("function", "differing"),
    [
        ("sigmoid", 4),
        ("tanh", 0),
        ("elu", 0),
        ("celu", 4),
        ("gelu", 4),
        ("gelu_tanh", 4),
        ("hardswish", 0),
        ("hardsigmoid", 0),
        ("leaky_relu", 0),
        ("threshold", 0),
    ],
)
def test_tables_equal_torchs_kernels(function, differing):
    rng = random.Random(function)
    count = 0
    for case in range(300):
        dtype = rng.choice([quint8, qint8])
        qx, out = (drawn(rng, dtype, nice=case % 2 == 0) for _ in range(2))
        args = tuple(round(rng.uniform(0.05, 2.0), 3) for _ in FUNCTIONS[function].args)
        q = torch._make_per_tensor_quantized_tensor(integers(dtype), qx.scale, qx.zero_point)
        expected = quantized(function, q, args, out)
        out = QParams(dtype, expected.q_scale(), expected.q_zero_point())
        distance = (table(function, args, qx, out).int() - expected.int_repr().int()).abs()
        assert distance.max() <= 1
        count += int(distance.sum())
    assert count <= differing


@pytest.mark.parametrize(("function", "args"), [("hardswish", ()), ("leaky_relu", (0.1,)), ("elu", (1.0,))])
def test_ties_at_decimal_scales_show_how_the_scale_is_inverted(function, args):
    """In float64 for hardswish, in float32 for the others; some of these entries would differ otherwise."""
    rng = random.Random(function)
    for _ in range(2500):
        qx = per_tensor(rng.randint(1, 99) / 1000, rng.randint(0, 255), quint8)
        out = per_tensor(rng.randint(1, 59) / 1000, rng.randint(0, 255), quint8)
        q = torch._make_per_tensor_quantized_tensor(integers(quint8), qx.scale, qx.zero_point)
        assert torch.equal(table(function, args, qx, out), quantized(function, q, args, out).int_repr()), (qx, out)


@pytest.mark.parametrize(
    ("function", "args", "exact"),
    [
        ("selu", (), torch.selu),
        ("silu", (), torch.nn.functional.silu),
        ("mish", (), torch.nn.functional.mish),
        ("softplus", (2.0, 20.0), lambda x: torch.nn.functional.softplus(x, 2.0, 20.0)),
        ("gelu", (), torch.nn.functional.gelu),
        ("sigmoid", (), torch.sigmoid),
        ("tanh", (), torch.tanh),
    ],
)
def test_tables_are_the_functions_rounded(function, args, exact):
    """Within half a step of the output scale, and a hair for float32."""
    rng = random.Random(function)
    for _ in range(200):
        qx, out = drawn(rng, quint8, nice=False), drawn(rng, qint8, nice=False)
        x = (torch.arange(256).double() - qx.zero_point) * qx.scale
        expected = (exact(x) / out.scale + out.zero_point).clamp(-128, 127)
        distance = (table(function, args, qx, out).double() - expected).abs()
        largest = torch.cat((x, exact(x))).abs().max() / out.scale
        assert distance.max() <= 0.5 + 1e-6 * (1 + largest)


def test_results_far_outside_saturate():
    """torch's kernel wraps around to 0 here, where the result over the scale passes 2**31."""
    qx, out = per_tensor(25.0, 0, quint8), per_tensor(1e-6, 255, quint8)
    assert table("elu", (1.0,), qx, out)[1:].tolist() == [255] * 255


@pytest.mark.parametrize(
    ("function", "args", "qx", "message"),
    [
        ("cosine", (), per_tensor(1.0, 0, quint8), "no table"),
        ("elu", (), per_tensor(1.0, 0, quint8), "alpha"),
        ("tanh", (), per_tensor(1.0, 0, qint32), "8-bit"),
        ("tanh", (), per_channel(torch.ones(2), torch.zeros(2), 0, qint8), "one scale"),
    ],
)
def test_what_has_no_table_is_refused(function, args, qx, message):
    with pytest.raises(ArgumentError, match=message):
        table(function, args, qx, per_tensor(1.0, 0, quint8))
