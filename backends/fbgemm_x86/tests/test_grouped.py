"""Grouped convolutions, and those of any number of channels, however their kernels cut them into matrices."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor


def check(isa, rng, groups, per_group, outputs, dimensions=2):
    """One with random windows, beside the reference."""
    kernel = [rng.choice([1, 2, 3, 3, 5, 7]) for _ in range(dimensions)]
    stride = [rng.choice([1, 1, 2, 3]) for _ in range(dimensions)]
    dilation = [rng.choice([1, 1, 2]) for _ in range(dimensions)]
    padding = [rng.choice([0, 1, 2, 4]) for _ in range(dimensions)]
    size = [max(rng.randint(1, 17), (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    generator = torch.Generator().manual_seed(rng.randint(0, 1 << 30))
    weight = torch.randint(-128, 128, (groups * outputs, per_group, *kernel), dtype=torch.int8, generator=generator)
    x = torch.randint(
        0, 256, (rng.choice([1, 1, 3]), groups * per_group, *size), dtype=torch.uint8, generator=generator
    )
    if dimensions == 2:
        x = x.contiguous(memory_format=torch.channels_last)
    weight_zero = rng.choice([0, 0, 0, 7])
    bias = torch.randn(groups * outputs, generator=generator) * 10
    operator = ops.Conv(
        weight, per_tensor(0.1, weight_zero, qint8), bias, False, *map(tuple, (stride, padding, dilation)), groups
    )
    args = x, per_tensor(0.1, rng.choice([0, 3, 255]), quint8), per_tensor(20.0, 100, quint8)
    expected = qcore.registry.get("reference").build(operator)(*args)
    assert torch.equal(FbgemmX86().build(operator, isa=isa)(*args), expected)


@pytest.mark.parametrize("seed", range(30))
def test_grouped(isa, seed):
    rng = random.Random(seed)
    groups = rng.choice([2, 3, 4, 5, 8, 16, 32])
    sizes = [1, 2, 4, 8, 16] if groups > 8 else [1, 2, 3, 4, 8, 12, 16, 29, 32, 64]
    check(isa, rng, groups, rng.choice(sizes), rng.choice(sizes), rng.choice([1, 2, 2, 2, 3]))


@pytest.mark.parametrize("seed", range(12))
def test_any_channels(isa, seed):
    rng = random.Random(seed)
    check(isa, rng, 1, rng.randint(1, 130), rng.randint(1, 100))


@pytest.mark.parametrize("channels", [2, 5, 15, 17, 31, 33, 47, 48, 49, 61, 63, 65, 79, 95, 97, 112, 120, 127, 140])
def test_depthwise_of_any_channels(isa, channels):
    for seed in range(4):
        check(isa, random.Random(seed), channels, 1, 1)


def test_large_steps_over_a_small_input(isa):
    """The padded input would have 4 TB."""
    step = 1 << 20
    weight = torch.full((16, 4, 3, 3), 1, dtype=torch.int8)
    x = torch.full((1, 16, 5, 5), 10, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    operator = ops.Conv(weight, per_tensor(1.0, 0, qint8), None, False, (step, step), (step, step), (1, 1), 4)
    y = FbgemmX86().build(operator, isa=isa)(x, per_tensor(1.0, 0, quint8), per_tensor(2.0, 1, quint8))
    expected = torch.full((1, 16, 3, 3), 1, dtype=torch.uint8)
    expected[:, :, 1, 1] = 4 * 9 * 10 // 2 + 1  # one window lies in the input
    assert torch.equal(y, expected)
