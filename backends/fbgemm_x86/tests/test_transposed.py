"""Transposed convolution gives the bits of the reference, on every instruction set."""

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
CASES = [
    # spatial, in per group, out per group, groups
    (2, 3, 5, 1), (2, 16, 64, 1), (2, 4, 70, 1), (2, 5, 3, 4), (2, 1, 1, 19), (1, 6, 17, 1), (1, 2, 2, 3), (3, 4, 6, 1),
    (3, 2, 3, 2),
]  # fmt: skip


def geometry(rng, spatial):
    """Kernel, stride, padding, output padding and dilation; strides beyond the kernel leave pixels without products."""
    kernel = [rng.choice([1, 2, 3, 4]) for _ in range(spatial)]
    stride = tuple(rng.choice([1, 2, 2, 3, 5]) for _ in kernel)
    dilation = tuple(rng.choice([1, 1, 2, 3]) for _ in kernel)
    padding = tuple(rng.randint(0, 2) for _ in kernel)
    extra = tuple(rng.randint(0, max(pair) - 1) for pair in zip(stride, dilation, strict=True))
    names = ("stride", "padding", "output_padding", "dilation")
    return kernel, dict(zip(names, (stride, padding, extra, dilation), strict=True))


def weights(rng, case, kernel):
    _, per_group, outputs, groups = case
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    weight = torch.randint(-128, 128, (per_group * groups, outputs, *kernel), dtype=torch.int8, generator=generator)
    zeros = torch.randint(-128, 128, (outputs,), generator=generator) * int(rng.random() < 0.3)
    scales = torch.rand(outputs, generator=generator) * 0.1 + 1e-3
    per_axis = per_channel(scales, zeros, 1, qint8)
    qweight = per_axis if rng.random() < 0.5 else per_tensor(rng.uniform(1e-3, 0.1), int(zeros[0]), qint8)
    bias = torch.randn(outputs * groups, generator=generator) * 3 if rng.random() < 0.7 else None
    return {"weight": weight, "qweight": qweight, "bias": bias, "relu": rng.random() < 0.5, "groups": groups}


def params(rng, spread=1.0):
    return per_tensor(rng.choice([rng.uniform(1e-3, 0.1), 1e-8, 30.0]) * spread, rng.choice([0, 255, 77]), quint8)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_conv_transpose(isa, seed, case):
    rng = random.Random(f"{seed} {case}")
    kernel, shape = geometry(rng, case[0])
    operator = ops.ConvTranspose(**weights(rng, case, kernel), **shape)
    sizes = [rng.randint(4, 9) for _ in kernel]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (rng.randint(0, 3), case[1] * case[3], *sizes), dtype=torch.uint8, generator=generator)
    if rng.random() < 0.5 and case[0] == 2:
        x = x.contiguous(memory_format=torch.channels_last)
    qx, out = params(rng), params(rng, spread=10.0)
    y, expected = CPU.build(operator, isa=isa)(x, qx, out), REFERENCE.build(operator)(x, qx, out)
    assert y.shape == expected.shape
    assert torch.equal(y, expected)
    if case[0] > 1 and y.numel():
        assert y.stride() == expected.stride()


def test_thread_count_does_not_matter(isa):
    rng = random.Random(3)
    operator = ops.ConvTranspose(**weights(rng, (2, 16, 48, 1), (4, 4)), stride=(2, 2), padding=(1, 1))
    x = torch.randint(0, 256, (2, 16, 40, 40), dtype=torch.uint8)
    qx, out = per_tensor(0.1, 3, quint8), per_tensor(20.0, 100, quint8)
    kernel = CPU.build(operator, isa=isa)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(kernel(x, qx, out))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups": 3}, "groups"),
        ({"stride": (0, 1)}, "at least 1"),
        ({"padding": (-1, 0)}, "at least 0"),
        ({"output_padding": (-1, 0)}, "at least 0"),
        ({"output_padding": (5, 0)}, "below stride"),
        ({"stride": (1,)}, "2 values"),
        ({"padding": (90, 0)}, "would give sizes"),
    ],
)
def test_bad_geometry_is_an_error(change, words):
    shape = {"stride": (2, 2), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1)} | change
    operator = ops.ConvTranspose(torch.ones(4, 8, 3, 3, dtype=torch.int8), per_tensor(1.0, 0, qint8), **shape)
    qx = per_tensor(1.0, 0, quint8)
    with pytest.raises(qcore.ArgumentError, match=words):
        CPU.build(operator)(torch.zeros(1, 4, 5, 5, dtype=torch.uint8), qx, qx)
