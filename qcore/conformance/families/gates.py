"""sigmoid and tanh of the recurrent layers, step by step as docs/numerics.md writes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qcore.conformance.exact import f32

_POWERS = torch.tensor([math.ldexp(1.0, -n) for n in range(127)])
_SERIES = [f32(c) for c in (0.0013946424, 0.008366572, 0.041666284, 0.16666543, 0.5)]


def sigmoid(x: Tensor) -> Tensor:
    """t = S * q + S; 1 / (t + 1) for x >= 0, else t / (t + 1)."""
    power, q = _parts(torch.maximum(-x.abs(), f32(-87.0)))
    t = power * q + power
    return torch.where(x.isnan(), x, torch.where(x >= 0, f32(1.0), t) / (t + 1.0))


def tanh(x: Tensor) -> Tensor:
    """t = S * q + (S - 1); -t / (t + 2) with the sign of x."""
    power, q = _parts(torch.maximum(f32(-2.0) * x.abs(), f32(-87.0)))
    t = power * q + (power - 1.0)
    size = -t / (t + 2.0)
    return torch.where(x.isnan(), x, torch.where(x.signbit(), -size, size))


def _parts(y: Tensor) -> tuple[Tensor, Tensor]:
    """S = 2**n and q, about exp(r) - 1, for y = n * ln(2) + r."""
    y = torch.where(y.isnan(), f32(0.0), y)
    n = torch.round(y * f32(1.442695))
    r = (y - n * f32(45426 / 65536)) - n * f32(1.4286068e-06)
    p = _SERIES[0]
    for coefficient in _SERIES[1:]:
        p = p * r + coefficient
    return _POWERS[(-n).long()], (r * r) * p + r
