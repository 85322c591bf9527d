"""Norms and means give the bits of the reference, on every instruction set, also over very long rows."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_tensor

CPU = FbgemmX86()
REFERENCE = qcore.registry.get("reference")
NHWC = torch.channels_last


def integers(rng, shape):
    low, high = rng.choice([(0, 256), (250, 256), (0, 3), (7, 8)])
    return torch.randint(
        low, high, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(rng.randrange(999))
    )


def params(rng):
    return per_tensor(
        rng.choice([rng.uniform(1e-3, 0.1), 1e-8, 30.0]), rng.choice([0, 255, rng.randint(0, 255)]), quint8
    )


def constants(rng, count):
    generator = torch.Generator().manual_seed(rng.randrange(999))
    return [torch.randn(count, generator=generator) if rng.random() < 0.7 else None for _ in range(2)]


def same(operator, isa, *args):
    y, expected = CPU.build(operator, isa=isa)(*args), REFERENCE.build(operator)(*args)
    assert y.shape == expected.shape
    assert y.stride() == expected.stride()
    assert torch.equal(y, expected)


@pytest.mark.parametrize("seed", range(40))
def test_layer_norm(isa, seed):
    rng = random.Random(seed)
    shape = rng.choice([(5, 17), (2, 3, 384), (70, 33), (4, 5, 6), (1, 1), (0, 8), (2, 600000)])
    last = rng.randint(1, len(shape) - 1) if len(shape) > 2 else 1
    weight, bias = (
        v if v is None else v.view(shape[-last:]) for v in constants(rng, torch.zeros(shape[-last:]).numel())
    )
    operator = ops.LayerNorm(tuple(shape[-last:]), weight, bias, rng.choice([1e-5, 1e-12]))
    same(operator, isa, integers(rng, shape), params(rng), params(rng))


@pytest.mark.parametrize("seed", range(40))
def test_group_and_instance_norm(isa, seed):
    rng = random.Random(seed)
    shape = rng.choice([(2, 6, 5, 7), (3, 12, 16), (1, 6, 3, 4, 5), (2, 24, 1, 1), (0, 6, 2), (1, 6, 90, 90)])
    x = integers(rng, shape)
    x = x.contiguous(memory_format=NHWC) if x.ndim == 4 and rng.random() < 0.5 else x
    groups = rng.choice([1, 2, 3, 6])
    same(ops.GroupNorm(groups, *constants(rng, shape[1])), isa, x, params(rng), params(rng))
    same(ops.InstanceNorm(*constants(rng, shape[1])), isa, x, params(rng), params(rng))


@pytest.mark.parametrize("seed", range(40))
def test_batch_norm(isa, seed):
    rng = random.Random(seed)
    shape = rng.choice([(2, 6, 5, 7), (3, 12, 16), (5, 33), (1, 6, 3, 4, 5), (2, 24, 1, 1), (0, 6, 2), (4, 19, 40, 40)])
    x = integers(rng, shape)
    x = x.contiguous(memory_format=NHWC) if x.ndim == 4 and rng.random() < 0.5 else x
    generator = torch.Generator().manual_seed(seed)
    mean, var = (
        torch.randn(shape[1], generator=generator),
        torch.rand(shape[1], generator=generator) * rng.choice([2, 0]),
    )
    operator = ops.BatchNorm(*constants(rng, shape[1]), mean, var, rng.choice([1e-5, 1e-3]), relu=rng.random() < 0.5)
    same(operator, isa, x, params(rng), params(rng))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dims", [(), (0,), (1,), (-1,), (2, 3), (1, 2, 3), (0, 2), (-1, 0)], ids=str)
def test_mean(isa, dims, keepdim):
    rng = random.Random(str(dims))
    for shape in [(2, 19, 7, 7), (3, 64, 20, 11), (2, 3, 40, 500)]:
        x = integers(rng, shape)
        for view in (x, x.contiguous(memory_format=NHWC), x[:, ::2], x.transpose(1, 3)):
            same(ops.Mean(dims, keepdim), isa, view, params(rng))
