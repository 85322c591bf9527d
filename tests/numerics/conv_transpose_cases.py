"""Drawn cases of transposed convolution."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from qcore.operators import ConvTranspose
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome


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
    # where torch adds pairs of products in saturating int16, 2 * 255 * 64 still fits
    least, end = (-64, 65) if oracle.saturates() else (-128, 128)
    weight = torch.randint(least, end, (groups * per_group, channels, *kernel), generator=generator, dtype=torch.int8)
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


def cases(spatial: int) -> Cases:
    def case(draw: Draw, build: Build) -> Iterator[Outcome]:
        operator, x, qx, out = drawn(draw.random, spatial, draw.generator)
        yield Outcome(f"{operator} {qx} {out}", build(operator)(x, qx, out), fbgemm(operator, x, qx, out))

    return case


CASES: dict[str, Cases] = {f"conv_transpose{spatial}d": cases(spatial) for spatial in (1, 2, 3)}
