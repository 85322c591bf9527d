"""Transposed convolution: bit for bit torch's fbgemm engine, and beyond it per channel and with relu."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.operators import ConvTranspose
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from tests import oracle


def drawn(rng, spatial, generator):
    """An operator, its input, and the parameters of input and output, all sizes small and odd."""
    groups, per_group, channels = rng.choice([1, 1, 2, 3]), rng.randint(1, 9), rng.randint(1, 9)
    kernel = tuple(rng.randint(1, 3) for _ in range(spatial))
    stride = tuple(rng.randint(1, 3) for _ in range(spatial))
    dilation = tuple(rng.randint(1, 2) for _ in range(spatial))
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(rng.randint(0, min(r, 1 + r // 2)) for r in reach)
    extra = tuple(rng.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    sizes = tuple(rng.randint(3, 6) for _ in range(spatial))
    low, high = rng.choice([(0, 256), (0, 256), (0, 1), (255, 256)])
    shape = (rng.randint(1, 2), groups * per_group, *sizes)
    x = torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)
    weight = torch.randint(-128, 128, (groups * per_group, channels, *kernel), generator=generator, dtype=torch.int8)
    sx, sw = 10 ** rng.uniform(-8, 0), 10 ** rng.uniform(-5, 0)
    sy = sx * sw * 10 ** rng.uniform(1.5, 3.5)
    bias = torch.randn(channels * groups, generator=generator) * sy * 20 if rng.random() < 0.7 else None
    qweight = per_tensor(sw, rng.choice([0, 0, -128, 127, rng.randint(-128, 127)]), qint8)
    operator = ConvTranspose(weight, qweight, bias, False, stride, padding, extra, dilation, groups)
    qx, out = (per_tensor(s, rng.choice([0, 255, rng.randint(0, 255)]), quint8) for s in (sx, sy))
    return operator, x, qx, out


def fbgemm(operator, x, qx, out):
    prepack = getattr(oracle.quantized, f"conv_transpose{operator.spatial}d_prepack")
    convolve = getattr(oracle.quantized, f"conv_transpose{operator.spatial}d")
    where = (operator.stride, operator.padding, operator.output_padding, operator.dilation, operator.groups)
    with oracle.engine():
        packed = prepack(oracle.to_torch(operator.weight, operator.qweight), operator.bias, *where)
    return oracle.run(convolve, oracle.to_torch(x, qx), packed, out.scale, out.zero_point)


@pytest.mark.parametrize(("spatial", "cases"), [(1, 300), (2, 300), (3, 100)])
def test_equals_torch(spatial, cases):
    if oracle.saturates():
        pytest.skip("torch's engine saturates on this CPU, so its results are no reference")
    rng, generator = random.Random(spatial), torch.Generator().manual_seed(spatial)
    build = registry.get("reference").build
    for _ in range(cases):
        operator, x, qx, out = drawn(rng, spatial, generator)
        assert torch.equal(build(operator)(x, qx, out), fbgemm(operator, x, qx, out))


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_relu_is_a_lower_bound(spatial):
    rng, generator = random.Random(spatial), torch.Generator().manual_seed(spatial)
    build = registry.get("reference").build
    for _ in range(20):
        operator, x, qx, out = drawn(rng, spatial, generator)
        fused = ConvTranspose(**{**vars(operator), "relu": True})
        assert torch.equal(build(fused)(x, qx, out), build(operator)(x, qx, out).clamp(min=out.zero_point))


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_per_channel_equals_one_channel_at_a_time(spatial):
    """Output channel c of a group takes scale and zero point c, as if it stood alone with those per tensor."""
    rng, generator = random.Random(spatial), torch.Generator().manual_seed(spatial)
    build = registry.get("reference").build
    for _ in range(20):
        operator, x, qx, out = drawn(rng, spatial, generator)
        channels = operator.weight.shape[1]
        scales = torch.rand(channels, generator=generator).double() * 0.1 + 1e-3
        zero_points = torch.randint(-128, 128, (channels,), generator=generator)
        axis_one = per_channel(scales, zero_points, 1, qint8)
        whole = build(ConvTranspose(**{**vars(operator), "qweight": axis_one}))(x, qx, out)
        for c in range(channels):
            alone = per_tensor(scales[c], zero_points[c], qint8)
            expected = build(ConvTranspose(**{**vars(operator), "qweight": alone}))(x, qx, out)
            assert torch.equal(whole[:, c::channels], expected[:, c::channels])


def test_an_empty_batch_stays_empty():
    operator, x, qx, out = drawn(random.Random(0), 2, torch.Generator().manual_seed(0))
    build = registry.get("reference").build
    full = build(operator)(x, qx, out)
    assert build(operator)(x[:0], qx, out).shape == (0, *full.shape[1:])
