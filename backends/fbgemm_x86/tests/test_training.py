"""Ranges, histograms and fake quantization give the bits of the reference, on every instruction set."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import training_operators as ops
from qcore.api._observers import grid

CPU = FbgemmX86()
REFERENCE = qcore.registry.get("reference")
SHAPES = [(1,), (15,), (16,), (17,), (5, 3), (3, 16), (7, 19), (64, 9), (2, 3, 4, 5), (4, 70, 7, 7), (2, 40, 33)]
SHAPES += [(40000,)]
SPECIAL = [float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-42, 0.0, -0.0]


def kernels(operator, isa):
    return CPU.build(operator, isa=isa), REFERENCE.build(operator)


def inputs(rng, shape):
    """Floats of a shape in one of many layouts in memory."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    x = torch.randn(shape, generator=generator) * rng.choice([1e-30, 0.1, 3, 1e30])
    layouts = [x, x.transpose(0, -1).contiguous().transpose(0, -1), torch.stack([x, x], -1)[..., 0]]
    layouts.append(x[:1].expand(x.shape))
    if len(shape) == 4:
        layouts.append(x.contiguous(memory_format=torch.channels_last))
    return rng.choice(layouts)


def an_axis(rng, x):
    return rng.choice([None, *range(x.ndim)])


def same(y, expected):
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    assert torch.equal(y.nan_to_num(nan=12345.0), expected.nan_to_num(nan=12345.0))
    assert torch.equal(y.isnan(), expected.isnan())


def parameters(rng, x, axis, low, high):
    channels = 1 if axis is None else x.shape[axis]
    spread = float(x.abs().max()) or 1.0
    scale = torch.tensor([spread * rng.uniform(1e-3, 0.02) for _ in range(channels)])
    return scale, torch.tensor([rng.randint(low, high) for _ in range(channels)], dtype=torch.int32)


@pytest.mark.parametrize("seed", range(120))
def test_fake_quantize_and_its_gradient(isa, seed):
    rng = random.Random(seed)
    low, high = rng.choice([(0, 255), (-128, 127), (-127, 127), (0, 127), (0, 15), (-32768, 32767)])
    x = inputs(rng, rng.choice(SHAPES))
    axis = an_axis(rng, x)
    scale, zero_point = parameters(rng, x, axis, low, high)
    native, reference = kernels(ops.FakeQuantize(low, high), isa)
    if rng.random() < 0.3:  # ties, and the ends of the range
        x = (x / scale.max()).round() * scale.max() / 2
    if rng.random() < 0.3:
        x = torch.where(torch.rand(x.shape) < rng.random(), torch.tensor(rng.choice(SPECIAL)), x)
    y, mask = native(x, scale, zero_point, axis)
    expected, inside = reference(x, scale, zero_point, axis)
    same(y, expected)
    assert not (y.signbit() & (y == 0) & (scale.min() > 0)).any()
    native, reference = kernels(ops.FakeQuantizeBackward(), isa)
    grad = torch.empty_strided(y.shape, y.stride()).normal_(generator=torch.Generator().manual_seed(seed))
    same(native(grad, mask), reference(grad, inside))


@pytest.mark.parametrize("seed", range(80))
def test_range(isa, seed):
    rng = random.Random(seed)
    x = inputs(rng, rng.choice(SHAPES))
    if rng.random() < 0.4:
        x = x.clone()
        x[tuple(rng.randrange(size) for size in x.shape)] = rng.choice(SPECIAL)
    axis = an_axis(rng, x)
    native, reference = kernels(ops.Range(), isa)
    for y, expected in zip(native(x, axis), reference(x, axis), strict=True):
        same(y, expected)


@pytest.mark.parametrize("seed", range(80))
def test_observed_fake_quantize(isa, seed):
    rng = random.Random(seed)
    low, high = rng.choice([(0, 255), (-128, 127), (-127, 127), (0, 15)])
    rule = rng.choice([None, 2.0**-23, 1e-30, 0.5]), rng.choice([low, 0, 3])
    operator = ops.ObserveFakeQuantize(low, high, rng.random() < 0.5, rng.choice([0.0, 0.01, 0.3, 1.0]), *rule)
    shape = rng.choice(SHAPES)
    axis = rng.choice([None, *range(len(shape))])
    channels = 1 if axis is None else shape[axis]
    states = [
        [torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf), torch.ones(channels)]
        + [torch.zeros(channels, dtype=torch.int32)]
        for _ in range(2)
    ]
    both = kernels(operator, isa)
    for _ in range(3):
        x = inputs(rng, shape) * rng.choice([1, 0, 1e-12])
        x = rng.choice([x, x.abs(), -x.abs()])
        (y, _), (expected, _) = (kernel(x, *state, axis) for kernel, state in zip(both, states, strict=True))
        same(y, expected)
        for mine, theirs in zip(*states, strict=True):
            same(mine, theirs)


def test_what_is_not_finite_changes_nothing(isa):
    kernel, reference = kernels(ops.ObserveFakeQuantize(), isa)
    x = torch.randn(3, 40)
    x[1, 7] = torch.inf
    state = [torch.zeros(3), torch.ones(3), torch.ones(3), torch.zeros(3, dtype=torch.int32)]
    before = [value.clone() for value in state]
    for one in (kernel, reference):
        assert one(x, *state, 0) is None
        assert all(map(torch.equal, state, before))


@pytest.mark.parametrize("seed", range(60))
def test_histograms(isa, seed):
    rng = random.Random(seed)
    x = inputs(rng, rng.choice(SHAPES))
    low, high = x.aminmax()
    bins = rng.choice([2, 100, 2048, 4096])
    if low < high:
        native, reference = kernels(ops.EvenHistogram(bins), isa)
        same(native(x, low, high), reference(x, low, high))
    coarser = rng.randint(0, 3)
    exponent = grid.exponent_for(float(low), float(high)) + coarser
    first = int(torch.floor(low.double() * 2.0**-exponent))
    if coarser and abs(first) < 2**23:
        first -= rng.randint(0, 2000)
    native, reference = kernels(ops.Histogram(4096), isa)
    for y, expected in zip(native(x, exponent, first), reference(x, exponent, first), strict=True):
        same(y, expected)


def test_thread_count_does_not_matter(isa):
    x = torch.randn(40, 37, 61, 17)
    scale, zero_point = torch.rand(37) * 0.02 + 0.001, torch.arange(37, dtype=torch.int32)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        y, mask = CPU.build(ops.FakeQuantize(), isa=isa)(x, scale, zero_point, 1)
        low, high = CPU.build(ops.Range(), isa=isa)(x, 1)
        counts, *_ = CPU.build(ops.Histogram(), isa=isa)(x, -8, -2048)
        results.append((y, mask, low, high, counts))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


X, ONE, ZERO = torch.zeros(4, 5), torch.ones(1), torch.zeros(1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: CPU.build(ops.FakeQuantize())(X.double(), ONE, ZERO, None), "x must be torch.float32"),
        (lambda: CPU.build(ops.FakeQuantize())(X, ONE, ZERO, 2), "no dimension 2"),
        (lambda: CPU.build(ops.FakeQuantize())(X, ONE, ZERO, 0), "scale must have 4 elements, not 1"),
        (lambda: CPU.build(ops.FakeQuantize())(X, ONE, ZERO.float(), None), "zero_point must be torch.int32"),
        (lambda: CPU.build(ops.FakeQuantize())(X, ONE, ZERO + 2**30, None), "zero_point must lie within 65536"),
        (lambda: CPU.build(ops.FakeQuantize(5, 5))(X, ONE, ZERO, None), "must rise"),
        (lambda: CPU.build(ops.FakeQuantize(0, 2**20))(X, ONE, ZERO, None), "within 65536"),
        (lambda: CPU.build(ops.FakeQuantize())(X[:0], ONE, ZERO, None), "x has no elements"),
        (lambda: CPU.build(ops.FakeQuantizeBackward())(X, torch.zeros(3, dtype=torch.uint8)), "mask must have 4 el"),
        (lambda: CPU.build(ops.Range())(X[:0], None), "x has no elements"),
        (lambda: CPU.build(ops.Range())(X.to("meta"), None), "on the CPU"),
        (lambda: CPU.build(ops.Histogram())(X, 200, 0), "exponent must be"),
        (lambda: CPU.build(ops.Histogram())(X, 0, 2**30), "start within"),
        (lambda: CPU.build(ops.EvenHistogram())(X, ONE, ONE), "low must be below high"),
    ],
)
def test_bad_arguments_are_errors_in_words(call, words):
    with pytest.raises((qcore.ArgumentError, qcore.ArgumentTypeError), match=words):
        call()
