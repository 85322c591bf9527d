"""Drawn cases of PReLU and softmax."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from qcore.operators import PReLU, Softmax
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome

NICE = [0.5, 0.25, 0.1, 0.05, 0.02, 1 / 255, 0.3]


def drawn(rng, dtype):
    zero_point = rng.choice([dtype.qmin, dtype.qmax, rng.randint(dtype.qmin, dtype.qmax)])
    return per_tensor(rng.choice([*NICE, 10 ** rng.uniform(-3, 0)]), zero_point, dtype)


def prelu(draw: Draw, build: Build) -> Iterator[Outcome]:
    """torch multiplies values over zero by its quantized 1, so that its weights here can hold a 1 exactly."""
    rng, generator = draw.random, draw.generator
    channels = rng.randint(1, 5)
    x = torch.randint(0, 256, (rng.randint(1, 3), channels, 64), generator=generator, dtype=torch.uint8)
    qx, out, qweight = drawn(rng, quint8), drawn(rng, quint8), per_tensor(1 / 64, rng.randint(0, 191), quint8)
    raw = torch.randint(0, 256, (rng.choice([1, channels]),), generator=generator, dtype=torch.uint8)
    y = build(PReLU(raw, qweight))(x, qx, out)
    arguments = (oracle.to_torch(x, qx), oracle.to_torch(raw, qweight), out.scale, out.zero_point)
    yield Outcome(f"prelu {qx} {out}", y, oracle.run(oracle.quantized.prelu, *arguments))


def softmax(draw: Draw, build: Build) -> Iterator[Outcome]:
    rng, generator = draw.random, draw.generator
    shape = (rng.randint(1, 5), rng.randint(1, 9), rng.randint(1, 40))
    x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    qx, dim = drawn(rng, quint8), rng.choice([0, 1, -1])
    out = rng.choice([per_tensor(1 / 256, 0, quint8), drawn(rng, quint8)])
    arguments = (oracle.to_torch(x, qx), dim, out.scale, out.zero_point)
    y = build(Softmax(dim))(x, qx, out)
    yield Outcome(f"softmax {shape} {dim} {qx} {out}", y, oracle.run(oracle.quantized.softmax, *arguments))


CASES: dict[str, Cases] = {"prelu": prelu, "softmax": softmax}
