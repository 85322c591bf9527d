"""Linear, dynamic linear and convolution give the bits of the reference, on every instruction set."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams, per_channel, per_tensor

CPU = FbgemmX86()
REFERENCE = qcore.registry.get("reference")


def kernels(operator, isa):
    return CPU.build(operator, isa=isa), REFERENCE.build(operator)


def activation(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def weights(*shape, rng, channels=None):
    """An int8 weight, its QParams (per tensor or channel, with zero points or without), bias or none, relu or not."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    weight = torch.randint(-128, 128, shape, dtype=torch.int8, generator=generator)
    channels = shape[0]
    affine = rng.random() < 0.3
    if rng.random() < 0.5:
        qweight = per_tensor(rng.uniform(1e-3, 1e-1), rng.randint(-128, 127) if affine else 0, qint8)
    else:
        scales = torch.rand(channels, generator=generator) * 0.1 + 1e-3
        zeros = (
            torch.randint(-128, 128, (channels,), generator=generator)
            if affine
            else torch.zeros(channels, dtype=torch.int64)
        )
        qweight = per_channel(scales, zeros, 0, qint8)
    bias = torch.randn(channels, generator=generator) * 3 if rng.random() < 0.7 else None
    return {"weight": weight, "qweight": qweight, "bias": bias, "relu": rng.random() < 0.5}


def params(rng, spread=1.0):
    return per_tensor(
        rng.choice([rng.uniform(1e-3, 0.1), 1e-8, 30.0, rng.uniform(0.5, 2)]) * spread,
        rng.choice([0, 255, rng.randint(0, 255)]),
        quint8,
    )


def same(y, expected):
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    assert torch.equal(y, expected)


SIZES = (1, 2, 3, 4, 5, 15, 16, 17, 33, 63, 64, 65, 80, 130, 193)


@pytest.mark.parametrize("seed", range(60))
def test_linear(isa, seed):
    rng = random.Random(seed)
    k, n = rng.choice(SIZES), rng.choice(SIZES)
    leading = rng.choice([(), (0,), (1,), (rng.randint(2, 70),), (3, 5), (2, 0, 3), (300,)])
    operator = ops.Linear(**weights(n, k, rng=rng))
    native, reference = kernels(operator, isa)
    x, qx = activation(*leading, k, seed=seed), params(rng)
    out = params(rng, spread=k**0.5)
    same(native(x, qx, out), reference(x, qx, out))


@pytest.mark.parametrize("seed", range(60))
def test_linear_dynamic(isa, seed):
    rng = random.Random(seed)
    k, n = rng.choice(SIZES), rng.choice(SIZES)
    leading = rng.choice([(), (0,), (1,), (rng.randint(2, 70),), (3, 5), (300,)])
    options = {"reduce_range": rng.random() < 0.5, "per_row": rng.random() < 0.5}
    native, reference = kernels(ops.LinearDynamic(**weights(n, k, rng=rng), **options), isa)
    scale = rng.choice([1e-30, 1e-7, 1.0, 1e4, 1e30])
    x = torch.randn(*leading, k, generator=torch.Generator().manual_seed(seed)) * scale
    x = rng.choice([x, x.abs(), -x.abs(), x * 0])
    same(native(x), reference(x))


@pytest.mark.parametrize("k", [252, 256, 257, 511, 512, 514, 1030, 1541])
@pytest.mark.parametrize("rows", [18, 19, 23, 197])
def test_long_sums(isa, rows, k):
    """Sums that kernels cut along K, from the largest products, and with zero points in the weight."""
    rng = random.Random(f"{rows} {k}")
    x, n = activation(rows, k, seed=k), rng.choice((16, 17, 70, 130))
    x[: rows // 2] = torch.tensor([0, 255], dtype=torch.uint8)[torch.randint(0, 2, (rows // 2, 1))]
    for zero in (0, 3):
        weight = torch.randint(-128, 128, (n, k), dtype=torch.int8, generator=torch.Generator().manual_seed(k + rows))
        weight[: n // 3], weight[n // 3 : n // 2] = -128, 127
        qweight = per_channel(torch.rand(n) * 0.1 + 1e-3, torch.full((n,), zero), 0, qint8)
        native, reference = kernels(ops.Linear(weight, qweight, torch.randn(n), False), isa)
        qx, out = per_tensor(0.02, 255, quint8), per_tensor(k * 0.01, 120, quint8)
        same(native(x, qx, out), reference(x, qx, out))


CONVS = [
    # spatial, in per group, out per group, groups
    (2, 1, 1, 37), (2, 1, 1, 64), (2, 1, 2, 8), (2, 3, 5, 4), (2, 8, 8, 4), (2, 4, 16, 1), (2, 3, 64, 1),
    (2, 33, 40, 1), (1, 5, 17, 1), (1, 1, 1, 19), (3, 4, 6, 1), (3, 1, 1, 16), (2, 64, 70, 1),
]  # fmt: skip


@pytest.mark.parametrize("case", CONVS, ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_conv(isa, seed, case):
    spatial, per_group, outputs, groups = case
    rng = random.Random(f"{seed} {case}")
    kernel = [rng.choice([1, 2, 3, 5]) for _ in range(spatial)]
    if seed == 0:
        kernel = [1] * spatial
    geometry = {
        "stride": tuple(rng.choice([1, 1, 2, 3]) for _ in kernel),
        "padding": tuple(rng.randint(0, k) for k in kernel),
        "dilation": tuple(rng.choice([1, 1, 2]) for _ in kernel),
        "groups": groups,
    }
    if seed == 0:
        geometry |= {"stride": (1,) * spatial, "padding": (0,) * spatial}
    operator = ops.Conv(**weights(outputs * groups, per_group, *kernel, rng=rng), **geometry)
    native, reference = kernels(operator, isa)
    sizes = [rng.randint(9, 14) for _ in kernel]
    x = activation(rng.choice([0, 1, 2, 3]), per_group * groups, *sizes, seed=seed)
    if rng.random() < 0.5 and spatial > 1:
        x = x.contiguous(memory_format=torch.channels_last if spatial == 2 else torch.channels_last_3d)
    qx, out = params(rng), params(rng, spread=10.0)
    y, expected = native(x, qx, out), reference(x, qx, out)
    same(y, expected)
    if spatial > 1 and y.numel():
        assert y.stride() == expected.stride()


@pytest.mark.parametrize("case", CONVS, ids=str)
@pytest.mark.parametrize("width", [1, 2, 3])
def test_windows_that_lie_wholly_in_the_padding(isa, width, case):
    spatial, per_group, outputs, groups = case
    rng = random.Random(f"{width} {case}")
    geometry = {
        "stride": (1,) * spatial,
        "padding": (width + 2,) * spatial,
        "dilation": (1,) * spatial,
        "groups": groups,
    }
    operator = ops.Conv(**weights(outputs * groups, per_group, *(width,) * spatial, rng=rng), **geometry)
    native, reference = kernels(operator, isa)
    x = activation(2, per_group * groups, *(2,) * spatial, seed=width)
    qx, out = params(rng), params(rng, spread=10.0)
    same(native(x, qx, out), reference(x, qx, out))


@pytest.mark.parametrize("low", [-128, 127])
@pytest.mark.parametrize("k", [1, 2, 64, 67, 33025])
def test_extreme_values_do_not_saturate(isa, k, low):
    weight = torch.full((17, k), low, dtype=torch.int8)
    kernel = CPU.build(ops.LinearDynamic(weight, per_tensor(1.0, 0, qint8)), isa=isa)
    # 0 .. 255 quantizes to itself, with scale 1
    x = torch.full((7, k + 1), 255.0)[:, 1:]
    assert torch.equal(kernel(x), torch.full((7, 17), float(255 * low * k)).float())


@pytest.mark.parametrize("low", [-128, 127])
def test_static_sums_are_exact(isa, low):
    weight = torch.full((33, 258), low, dtype=torch.int8)
    operator = ops.Linear(weight, per_tensor(1.0, 0, qint8))
    native, reference = kernels(operator, isa)
    x = torch.full((9, 258), 255, dtype=torch.uint8)
    out = per_tensor(255 * 128 * 258 / 100, 120, quint8)
    qx = per_tensor(1.0, 0, quint8)
    same(native(x, qx, out), reference(x, qx, out))


@pytest.mark.parametrize("shape", [(5, 96, 200), (700, 96, 70), (1, 300, 2000)])
def test_thread_count_does_not_matter(isa, shape):
    m, k, n = shape
    rng = random.Random(1)
    operator = ops.Linear(**weights(n, k, rng=rng))
    kernel = CPU.build(operator, isa=isa)
    x, qx, out = activation(m, k), per_tensor(0.1, 3, quint8), per_tensor(3.0, 100, quint8)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(kernel(x, qx, out))
    same(results[0], results[1])
    same(results[0], results[2])


def test_inputs_may_be_views(isa):
    rng = random.Random(2)
    native, reference = kernels(ops.Linear(**weights(20, 30, rng=rng)), isa)
    x, qx, out = activation(30, 80), params(rng), params(rng)
    for view in (x.T[:7], x[:, 3:33], x[::2, 10:70:2], x[:1, :30].expand(4, 30)):
        same(native(view, qx, out), reference(view, qx, out))
    native, reference = kernels(
        ops.Conv(**weights(6, 4, 3, 3, rng=rng), padding=(1, 1), stride=(1, 1), dilation=(1, 1)), isa
    )
    x = activation(2, 8, 12, 20)
    for view in (x[:, ::2], x[:, 2:6, ::2], x.transpose(2, 3)[:, :4], x[..., :1][:, 1:5].expand(2, 4, 12, 9)):
        same(native(view, qx, out), reference(view, qx, out))


X8 = torch.zeros(2, 8, dtype=torch.uint8)
GOOD = per_tensor(1.0, 0, quint8)


def linear():
    return CPU.build(ops.Linear(torch.zeros(4, 8, dtype=torch.int8), per_tensor(1.0, 0, qint8)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear()(X8[:, :7], GOOD, GOOD), "size 8 in dimension 1, not 7"),
        (lambda: linear()(X8[0, 0], GOOD, GOOD), "at least one dimension"),
        (lambda: linear()(X8.float(), GOOD, GOOD), r"x must be torch.uint8, not torch.float32"),
        (lambda: linear()(X8.to("meta"), GOOD, GOOD), "x must be on the CPU"),
        (lambda: linear()(X8, QParams(quint8, float("nan"), 0), GOOD), "scale of x"),
        (lambda: linear()(X8, QParams(quint8, 0.0, 0), GOOD), "scale of x"),
        (lambda: linear()(X8, GOOD, QParams(quint8, 1e60, 0)), "scale of y"),
        (lambda: linear()(X8, GOOD, QParams(quint8, 1.0, 256)), "zero point of y"),
        (lambda: CPU.build(ops.Linear(torch.zeros(4, 0, dtype=torch.int8), per_tensor(1.0, 0, qint8))), "no elements"),
        (lambda: CPU.build(ops.Linear(torch.zeros(4, 8), per_tensor(1.0, 0, qint8))), "weight must be torch.int8"),
        (
            lambda: CPU.build(ops.Linear(torch.zeros(4, 40000, dtype=torch.int8), per_tensor(1.0, 0, qint8))),
            "at most 33025",
        ),
        (
            lambda: CPU.build(
                ops.Linear(torch.zeros(4, 8, dtype=torch.int8), per_tensor(1.0, 0, qint8), torch.zeros(3))
            ),
            "bias must have 4 elements, not 3",
        ),
        (
            lambda: CPU.build(ops.LinearDynamic(torch.zeros(4, 8, dtype=torch.int8), per_tensor(1.0, 0, qint8)))(
                torch.tensor([float("nan")] * 8)
            ),
            "NaN or infinity",
        ),
    ],
)
def test_bad_arguments_are_errors_in_words(call, words):
    with pytest.raises((qcore.ArgumentError, qcore.ArgumentTypeError), match=words):
        call()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups": 3}, "groups"),
        ({"groups": 0}, "groups"),
        ({"stride": (0, 1)}, "at least 1"),
        ({"padding": (-1, 0)}, "at least 0"),
        ({"stride": (1,)}, "2 values"),
        ({"padding": (2**40, 0)}, "at most"),
    ],
)
def test_bad_geometry_is_an_error(change, words):
    geometry = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)} | change
    operator = ops.Conv(torch.zeros(4, 8, 3, 3, dtype=torch.int8), per_tensor(1.0, 0, qint8), **geometry)
    with pytest.raises(qcore.ArgumentError, match=words):
        CPU.build(operator)(torch.zeros(1, 8, 5, 5, dtype=torch.uint8), GOOD, GOOD)


@pytest.mark.parametrize("seed", range(24))
def test_conv_3x3(isa, seed):
    """Stride 1 and channels enough for Winograd's tiles: all of them at their extremes, odd sizes, any padding."""
    rng = random.Random(seed)
    inputs, outputs = rng.choice([16, 17, 40, 64]), rng.choice([16, 24, 33, 96])
    constants = weights(outputs, inputs, 3, 3, rng=rng)
    if seed % 3 == 0:
        constants["qweight"] = per_tensor(0.01, 0, qint8)
        constants["weight"] = torch.where(constants["weight"] < 0, -128, 127).to(torch.int8)
        constants["weight"][::2] = rng.choice([-128, 127])
    padding = rng.randint(0, 3), rng.randint(0, 3)
    operator = ops.Conv(**constants, stride=(1, 1), padding=padding, dilation=(1, 1), groups=1)
    native, reference = kernels(operator, isa)
    x = activation(rng.choice([1, 2, 3]), inputs, rng.randint(5, 30), rng.randint(5, 30), seed=seed)
    if seed % 2:
        x = torch.where(x > 100, 255, 0).to(torch.uint8)
    qx, out = params(rng), params(rng, spread=10.0)
    same(native(x, qx, out), reference(x, qx, out))


def test_conv_checks_its_input():
    operator = ops.Conv(
        torch.zeros(4, 8, 3, 3, dtype=torch.int8),
        per_tensor(1.0, 0, qint8),
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
    )
    kernel = CPU.build(operator)
    for shape, words in [
        ((1, 7, 5, 5), "size 8"),
        ((1, 8, 2, 5), "larger than"),
        ((8, 5, 5), "4 dimensions"),
        ((1, 8, 5, 5, 5), "4 dimensions"),
    ]:
        with pytest.raises(qcore.ArgumentError, match=words):
            kernel(torch.zeros(shape, dtype=torch.uint8), GOOD, GOOD)
