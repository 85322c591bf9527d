"""PReLU and softmax against torch's quantized kernels."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import PReLU, Softmax
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle

NICE = [0.5, 0.25, 0.1, 0.05, 0.02, 1 / 255, 0.3]


def drawn(rng, dtype):
    zero_point = rng.choice([dtype.qmin, dtype.qmax, rng.randint(dtype.qmin, dtype.qmax)])
    return per_tensor(rng.choice([*NICE, 10 ** rng.uniform(-3, 0)]), zero_point, dtype)


def test_prelu_equals_torch():
    """torch multiplies values over zero by its quantized 1, so that its weights here can hold a 1 exactly."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    for _ in range(400):
        channels = rng.randint(1, 5)
        x = torch.randint(0, 256, (rng.randint(1, 3), channels, 64), generator=generator, dtype=torch.uint8)
        qx, out, qweight = drawn(rng, quint8), drawn(rng, quint8), per_tensor(1 / 64, rng.randint(0, 191), quint8)
        count = rng.choice([1, channels])
        raw = torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8)
        y = registry.get("reference").build(PReLU(raw, qweight))(x, qx, out)
        arguments = (oracle.to_torch(x, qx), oracle.to_torch(raw, qweight), out.scale, out.zero_point)
        assert torch.equal(y, oracle.run(oracle.quantized.prelu, *arguments))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_equals_torch(dim):
    rng, generator = random.Random(dim), torch.Generator().manual_seed(0)
    for _ in range(300):
        x = torch.randint(0, 256, (rng.randint(1, 5), rng.randint(1, 9), rng.randint(1, 40)), generator=generator)
        x, qx = x.to(torch.uint8), drawn(rng, quint8)
        out = rng.choice([per_tensor(1 / 256, 0, quint8), drawn(rng, quint8)])
        y = registry.get("reference").build(Softmax(dim))(x, qx, out)
        q = oracle.to_torch(x, qx)
        assert torch.equal(y, oracle.run(oracle.quantized.softmax, q, dim, out.scale, out.zero_point))


def test_softmax_of_signed_integers_sums_to_one():
    x = torch.randint(-128, 128, (50, 20), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    y = registry.get("reference").build(Softmax())(x, per_tensor(0.05, 3, qint8), per_tensor(1 / 256, -128, qint8))
    assert ((y.double() + 128).sum(-1) / 256 - 1).abs().max() <= 20 / 512


def test_prelu_refuses_channels_that_do_not_fit():
    params = per_tensor(1.0, 0, quint8)
    kernel = registry.get("reference").build(PReLU(torch.ones(3, dtype=torch.uint8), params))
    with pytest.raises(ArgumentError, match="channels"):
        kernel(torch.zeros(2, 4, dtype=torch.uint8), params, params)
