"""sigmoid and tanh of float32 in additions, multiplications and one division: the same bits on every machine."""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST = -87.0  # 2**n stays normal from here up
LOG2_E = 1.4426950408889634
LN2_HIGH = 45426 / 65536  # 16 bits: its product with n is exact
LN2_LOW = 1.4286068203094173e-06
# (exp(r) - 1 - r) / r**2 on |r| <= ln(2)/2, within 1.4e-8 / |r|: a minimax fit (Lawson's algorithm), rounded to float32
COEFFICIENTS = (0.0013946424, 0.008366572, 0.041666284, 0.16666543, 0.5)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + t) for x >= 0, t / (1 + t) below, with t = exp(-|x|); NaN for NaN."""
    power, part = _exponential(-x.abs())
    t = power * part + power
    y = torch.where(x < 0, t, torch.ones_like(t)) / (t + 1)
    return y.where(~x.isnan(), x)


def tanh(x: Tensor) -> Tensor:
    """-p / (2 + p), with the sign of x and p = exp(-2|x|) - 1; NaN for NaN."""
    power, part = _exponential(x.abs() * -2)
    p = power * part + (power - 1)
    return (-p / (p + 2)).copysign(x).where(~x.isnan(), x)


def _exponential(y: Tensor) -> tuple[Tensor, Tensor]:
    """2**n and exp(r) - 1 with y = n * ln(2) + r, for y <= 0; y is taken as LOWEST below that."""
    y = y.clamp(min=LOWEST).nan_to_num(nan=0.0)
    n = torch.round(y * LOG2_E)
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    series = torch.full_like(r, COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        series = series * r + coefficient
    power = ((n.int() + 127) << 23).view(torch.float32)
    return power, r * r * series + r
