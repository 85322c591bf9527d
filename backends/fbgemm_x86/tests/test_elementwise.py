"""Elementwise operators and pooling give the bits of the reference, on every instruction set."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor

CPU = FbgemmX86()
REFERENCE = qcore.registry.get("reference")
SHAPES = [(), (0,), (1,), (15,), (16,), (17,), (100,), (3, 0, 2), (2, 5, 7, 3), (40000,), (2, 3, 4, 5, 6)]


def kernels(operator, isa):
    return CPU.build(operator, isa=isa), REFERENCE.build(operator)


def integers(*shape, seed=0, dtype=torch.uint8):
    low = -128 if dtype == torch.int8 else 0
    return torch.randint(low, low + 256, shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def floats(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def params(rng, dtype=quint8):
    scale = rng.choice([rng.uniform(1e-3, 0.1), 1e-8, 1e-40, 30.0, 1e30, rng.uniform(0.5, 2)])
    return per_tensor(scale, rng.choice([dtype.qmin, dtype.qmax, rng.randint(dtype.qmin, dtype.qmax)]), dtype)


def channel_params(rng, n, axis, dtype):
    scales = torch.tensor([rng.uniform(1e-3, 2) for _ in range(n)], dtype=torch.float64)
    zeros = torch.tensor([rng.randint(dtype.qmin, dtype.qmax) for _ in range(n)], dtype=torch.int64)
    return per_channel(scales, zeros, axis, dtype)


def same(y, expected):
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    assert torch.equal(y, expected)


@pytest.mark.parametrize("dtype", [quint8, qint8], ids=repr)
@pytest.mark.parametrize("seed", range(30))
def test_quantize_and_dequantize(isa, seed, dtype):
    rng = random.Random(seed)
    shape = rng.choice(SHAPES)
    q = params(rng, dtype)
    native, reference = kernels(ops.Quantize(), isa)
    x = floats(*shape, seed=seed) * q.scale * rng.choice([1, 60, 1e4])
    x = rng.choice([x, (x / q.scale * 2).round() / 2 * q.scale])
    same(native(x, q), reference(x, q))
    native, reference = kernels(ops.Dequantize(), isa)
    x = integers(*shape, seed=seed, dtype=dtype.storage)
    same(native(x, q), reference(x, q))


@pytest.mark.parametrize("dtype", [quint8, qint8], ids=repr)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_quantize_and_dequantize_per_channel(isa, axis, dtype):
    rng = random.Random(axis)
    shape = (5, 18, 7)
    q = channel_params(rng, shape[axis], axis, dtype)
    native, reference = kernels(ops.Quantize(), isa)
    x = floats(*shape) * 100
    same(native(x, q), reference(x, q))
    same(native(x.transpose(0, 1).contiguous().transpose(0, 1), q), reference(x, q))
    native, reference = kernels(ops.Dequantize(), isa)
    x = integers(*shape, dtype=dtype.storage)
    same(native(x, q), reference(x, q))


def test_quantize_of_the_extraordinary(isa):
    x = torch.tensor([float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 0.0, -0.0, 1e-45] * 5)
    native, reference = kernels(ops.Quantize(), isa)
    for scale in (1e-45, 1e-38, 1.0, 1e38):
        for zero in (0, 7, 255):
            q = per_tensor(scale, zero, quint8)
            same(native(x, q), reference(x, q))


@pytest.mark.parametrize("operator", [ops.Add(), ops.Add(relu=True), ops.Mul(), ops.Mul(relu=True)], ids=str)
@pytest.mark.parametrize("seed", range(30))
def test_add_and_mul(isa, seed, operator):
    rng = random.Random(seed)
    a, b = rng.choice(
        [*((shape, shape) for shape in SHAPES), ((3, 1, 4), (2, 1)), ((5, 6), ()), ((1, 3, 1, 1), (2, 3, 4, 5))]
    )
    native, reference = kernels(operator, isa)
    args = integers(*a, seed=seed), params(rng), integers(*b, seed=seed + 1), params(rng), params(rng)
    same(native(*args), reference(*args))


def test_add_keeps_the_memory_format(isa):
    native, reference = kernels(ops.Add(), isa)
    q = per_tensor(0.1, 3, quint8)
    a = integers(2, 5, 4, 3)
    last = a.contiguous(memory_format=torch.channels_last)
    for x, y in [(a, last), (last, a), (last, last), (a[..., ::2], a[..., 1:]), (a.transpose(1, 2), a.transpose(1, 2))]:
        result = native(x, q, y, q, q)
        same(result, reference(x, q, y, q, q))
    assert native(last, q, a, q, q).is_contiguous(memory_format=torch.channels_last)
    assert native(a, q, last, q, q).is_contiguous()


@pytest.mark.parametrize(
    "bounds",
    [(0.0, None), (0.0, 6.0), (None, 1.0), (-1.0, 1.0), (None, None), (1e30, -1e30), (float("-inf"), float("inf"))],
)
def test_clamp(isa, bounds):
    rng = random.Random(3)
    native, reference = kernels(ops.Clamp(*bounds), isa)
    for shape in SHAPES:
        x, q = integers(*shape), params(rng)
        same(native(x, q), reference(x, q))


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "hardswish"])
def test_lookup(isa, function):
    rng = random.Random(4)
    native, reference = kernels(ops.Lookup(function), isa)
    for shape in SHAPES:
        x, qx, out = (
            integers(*shape),
            per_tensor(rng.uniform(0.01, 1), rng.randint(0, 255), quint8),
            per_tensor(1 / 256, 0, quint8),
        )
        same(native(x, qx, out), reference(x, qx, out))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cat(isa, dim, relu):
    rng = random.Random(5)
    native, reference = kernels(ops.Cat(dim, relu=relu), isa)
    xs = [integers(2, 3, 5), integers(2, 3, 5, seed=1), integers(2, 3, 5, seed=2)]
    qxs, out = [params(rng) for _ in xs], params(rng)
    same(native(xs, qxs, out), reference(xs, qxs, out))


def pooling_operators():
    rng = random.Random(6)
    for spatial in (1, 2, 3):
        for _ in range(6):
            kernel = tuple(rng.choice([1, 2, 3]) for _ in range(spatial))
            common = {
                "kernel_size": kernel,
                "stride": rng.choice([(), tuple(rng.choice([1, 2, 3]) for _ in kernel)]),
                "padding": tuple(rng.randint(0, k // 2) for k in kernel),
                "ceil_mode": rng.random() < 0.5,
            }
            yield ops.MaxPool(**common, dilation=tuple(rng.choice([1, 2]) for _ in kernel))
            yield ops.AvgPool(
                **common, count_include_pad=rng.random() < 0.5, divisor_override=rng.choice([None, None, 3])
            )
            yield ops.AdaptiveAvgPool(tuple(rng.choice([1, 2, 5, None]) for _ in kernel))


@pytest.mark.parametrize(
    "operator", list(pooling_operators()), ids=lambda operator: f"{operator.name}{operator.spatial}"
)
def test_pooling(isa, operator):
    native, reference = kernels(operator, isa)
    rng = random.Random(7)
    for channels in (1, 16, 21):
        for batch in (0, 2):
            q = per_tensor(0.1, rng.choice([0, 100, 255]), quint8)
            x = integers(batch, channels, *[rng.randint(6, 9) for _ in range(operator.spatial)], seed=channels)
            y, expected = native(x, q), reference(x, q)
            same(y, expected)
            if operator.spatial == 2 and batch:
                last = native(x.contiguous(memory_format=torch.channels_last), q)
                same(last, expected)
                assert last.is_contiguous(memory_format=torch.channels_last)
                assert y.is_contiguous()


def test_native_functions_check_what_they_are_given(isa):
    from qcore_fbgemm_x86.backend import FbgemmX86

    native = FbgemmX86().kernels(isa)
    x, y = integers(4, 6), torch.empty(4, 6, dtype=torch.uint8)
    calls = [
        (lambda: native.clamp(x, y[:, :5], 0, 255, 1), "size 6"),
        (lambda: native.clamp(x.T, y.T.contiguous(), 0, 255, 1), "strides"),
        (lambda: native.clamp(x[:, ::2], y[:, ::2], 0, 255, 1), "dense"),
        (lambda: native.clamp(x, y, 0, 256, 1), "bounds"),
        (lambda: native.clamp(x, y, 0, 255, 0), "threads"),
        (lambda: native.clamp([1], y, 0, 255, 1), "must be a tensor"),
        (lambda: native.lookup(x, y, integers(255), 1), "256 elements"),
        (lambda: native.max_pool(x, y, (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1), 1), "3 dimensions"),
    ]
    for call, words in calls:
        with pytest.raises((qcore.ArgumentError, qcore.ArgumentTypeError), match=words):
            call()
