"""Normalization against float, at any size and layout (normalization_cases compares with torch's quantized kernels)."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor


def test_any_size_is_the_float_result_rounded():
    """Within half a step, and a hair for float32; signed integers, channels last, sizes that are no multiple of 64."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    build = registry.get("reference").build
    for _ in range(100):
        shape = (rng.randint(1, 3), 6, rng.randint(1, 9), rng.randint(2, 9))
        qx, out = per_tensor(10 ** rng.uniform(-2, 0), rng.randint(-128, 127), qint8), per_tensor(0.05, -3, qint8)
        x = torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8)
        x = x.contiguous(memory_format=torch.channels_last) if rng.random() < 0.5 else x
        weight, bias = torch.rand(6, generator=generator), torch.randn(6, generator=generator)
        real = (x.double() - qx.zero_point) * qx.scale
        groups = torch.nn.functional.group_norm(real, 3, weight.double(), bias.double())
        layers = torch.nn.functional.layer_norm(real, shape[2:])
        channels = torch.nn.functional.instance_norm(real, weight=weight.double(), bias=bias.double())
        for operator, expected in (
            (GroupNorm(3, weight, bias), groups),
            (LayerNorm(shape[2:], None, None), layers),
            (InstanceNorm(weight, bias), channels),
        ):
            y = build(operator)(x, qx, out)
            exact = (expected / out.scale + out.zero_point).clamp(-128, 127)
            assert (y.double() - exact).abs().max() <= 0.5 + 1e-3
            assert y.stride() == x.stride()


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        (BatchNorm(None, None, torch.zeros(3), torch.ones(3)), (2, 4)),
        (LayerNorm((4,), None, None), (2, 3)),
        (GroupNorm(3, None, None), (2, 4)),
        (InstanceNorm(torch.ones(3), torch.ones(3)), (2, 4, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(operator, shape):
    params = per_tensor(1.0, 0, quint8)
    with pytest.raises(ArgumentError, match=r"channels|end in"):
        registry.get("reference").build(operator)(torch.zeros(shape, dtype=torch.uint8), params, params)


def test_an_empty_batch_stays_empty():
    params = per_tensor(1.0, 0, quint8)
    build, x = registry.get("reference").build, torch.zeros(0, 4, 5, dtype=torch.uint8)
    for operator in (LayerNorm((5,), None, None), GroupNorm(2, None, None), InstanceNorm(None, None)):
        assert build(operator)(x, params, params).shape == x.shape
