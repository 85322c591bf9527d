"""Batch, layer, group and instance normalization against torch's quantized kernels.

torch differs from itself between the body and the tail of its vector loops (ties are rounded before or after the zero
point is added) and between memory formats; the spec is its vector body on contiguous tensors, so sizes here are
multiples of 64, and results without a tie are equal at any size.
"""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle

NICE = [0.5, 0.25, 0.125, 0.1, 0.05, 0.3, 0.02, 0.7, 1.4]


def drawn(rng, nice):
    scales = (rng.choice(NICE), rng.choice(NICE)) if nice else (10 ** rng.uniform(-3, 0), 10 ** rng.uniform(-2.5, 0))
    return [per_tensor(scale, rng.choice([0, 255, rng.randint(0, 255)]), quint8) for scale in scales]


def integers(rng, shape, generator):
    low, high = rng.choice([(0, 256), (0, 256), (200, 203), (7, 8)])
    return torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)


def affine(rng, size, generator):
    if rng.random() < 0.3:
        return None, None
    return torch.rand(size, generator=generator) + 0.3, torch.randn(size, generator=generator)


@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_equals_torch(relu):
    rng, generator = random.Random(int(relu)), torch.Generator().manual_seed(int(relu))
    for case in range(300):
        spatial = rng.choice([(), (3,), (4, 5), (2, 3, 2)])
        channels = rng.choice([rng.randint(1, 20), 64, 128])
        qx, out = drawn(rng, nice=case % 2 == 0)
        x = integers(rng, (rng.randint(1, 4), channels, *spatial), generator)
        weight, bias = affine(rng, channels, generator)
        mean = torch.randn(channels, generator=generator) * qx.scale * 50
        var = torch.rand(channels, generator=generator) * qx.scale**2 * 3000 + 0.01
        eps = rng.choice([1e-5, 1e-3])
        y = registry.get("reference").build(BatchNorm(weight, bias, mean, var, eps, relu))(x, qx, out)
        rank = {0: "1d", 1: "1d", 2: "2d", 3: "3d"}[len(spatial)]
        norm = getattr(oracle.quantized, f"batch_norm{rank}" + ("_relu" if relu else ""))
        plain = (torch.ones(channels), torch.zeros(channels))  # torch's kernels do not take None
        constants = (*(plain if weight is None else (weight, bias)), mean, var, eps)
        expected = oracle.run(norm, oracle.to_torch(x, qx), *constants, out.scale, out.zero_point)
        assert y.shape == expected.shape
        assert torch.equal(y, expected)


def test_layer_norm_equals_torch():
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    for case in range(400):
        shape = rng.choice([(64,), (128,), (256,), (4, 16), (2, 8, 16)])
        qx, out = drawn(rng, nice=case % 2 == 0)
        x = integers(rng, (rng.randint(1, 5), *shape), generator)
        weight, bias = affine(rng, shape, generator)
        eps = rng.choice([1e-12, 1e-5, 1e-3])
        y = registry.get("reference").build(LayerNorm(shape, weight, bias, eps))(x, qx, out)
        norm = oracle.quantized.layer_norm
        expected = oracle.run(norm, oracle.to_torch(x, qx), shape, weight, bias, eps, out.scale, out.zero_point)
        assert torch.equal(y, expected)


@pytest.mark.parametrize("operator", ["group", "instance"])
def test_group_and_instance_norm_equal_torch(operator):
    rng, generator = random.Random(operator), torch.Generator().manual_seed(0)
    for case in range(300):
        groups, per_group = rng.choice([1, 2, 4]), rng.choice([1, 2, 5, 16])
        channels = groups * per_group
        qx, out = drawn(rng, nice=case % 2 == 0)
        x = integers(rng, (rng.randint(1, 3), channels, *rng.choice([(8, 8), (4, 32), (64,), (4, 4, 8)])), generator)
        weight, bias = affine(rng, channels, generator)
        q = oracle.to_torch(x, qx)
        if operator == "group":
            y = registry.get("reference").build(GroupNorm(groups, weight, bias))(x, qx, out)
            arguments = (q, groups, weight, bias, 1e-5, out.scale, out.zero_point)
        else:
            y = registry.get("reference").build(InstanceNorm(weight, bias))(x, qx, out)
            arguments = (q, weight, bias, 1e-5, out.scale, out.zero_point)
        expected = oracle.run(getattr(oracle.quantized, f"{operator}_norm"), *arguments)
        assert torch.equal(y, expected)


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
