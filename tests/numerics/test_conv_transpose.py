"""Transposed convolution where torch has none: per channel, and with relu (conv_transpose_cases has the rest)."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.operators import Conv, ConvTranspose
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from tests.numerics.conv_transpose_cases import drawn


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
        whole = build(ConvTranspose(**{**vars(operator), "qweight": axis_one, "bias": None}))(x, qx, out)
        for c in range(channels):
            alone = per_tensor(scales[c], zero_points[c], qint8)
            expected = build(ConvTranspose(**{**vars(operator), "qweight": alone, "bias": None}))(x, qx, out)
            assert torch.equal(whole[:, c::channels], expected[:, c::channels])


def test_a_kernel_of_one_point_is_a_convolution():
    """Weights per channel, with a bias: against the convolution, whose weight has the axes swapped."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    build = registry.get("reference").build
    for _ in range(50):
        weight = torch.randint(-128, 128, (rng.randint(1, 9), rng.randint(1, 9), 1, 1), generator=generator)
        weight = weight.to(torch.int8)
        scales = torch.rand(weight.shape[1], generator=generator).double() * 0.1 + 1e-3
        zero_points = torch.zeros(len(scales), dtype=torch.int64)
        bias = torch.randn(len(scales), generator=generator)
        x = torch.randint(0, 256, (2, len(weight), 3, 4), generator=generator, dtype=torch.uint8)
        qx, out = per_tensor(0.02, rng.randint(0, 255), quint8), per_tensor(0.5, rng.randint(0, 255), quint8)
        where = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
        transposed = ConvTranspose(
            weight, per_channel(scales, zero_points, 1, qint8), bias, output_padding=(0, 0), **where
        )
        plain = Conv(weight.transpose(0, 1).contiguous(), per_channel(scales, zero_points, 0, qint8), bias, **where)
        assert torch.equal(build(transposed)(x, qx, out), build(plain)(x, qx, out))


def test_an_empty_batch_stays_empty():
    operator, x, qx, out = drawn(random.Random(0), 2, torch.Generator().manual_seed(0))
    build = registry.get("reference").build
    full = build(operator)(x, qx, out)
    assert build(operator)(x[:0], qx, out).shape == (0, *full.shape[1:])
