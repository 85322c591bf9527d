"""The float32 steps of docs/numerics.md, one rounding per step, for the kit's oracle.

Independent of every backend on purpose: nothing here may be imported by one, and nothing of one is imported here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.tensor.dtypes import QDType


def f32(value: Tensor | float | int) -> Tensor:
    """Round to float32, once: integers and float64 go through float64, which holds all of ours exactly."""
    return torch.as_tensor(value).to(torch.float64).to(torch.float32)


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b + c of float32 numbers, rounded once to float32.

    The product is exact in float64. The sum is rounded to odd there (Boldo and Melquiond, "Emulation of a FMA and
    correctly rounded sums", 2008), after which rounding to float32 equals rounding the exact sum.
    """
    product, addend = a.double() * b.double(), c.double()
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    even = (total.view(torch.int64) & 1) == 0
    inexact = torch.isfinite(total) & (error != 0) & even
    toward = torch.where(error > 0, torch.inf, -torch.inf).to(torch.float64)
    return torch.where(inexact, torch.nextafter(total, toward), total).float()


def to_integers(rounded: Tensor, zero_point: int | Tensor, dtype: QDType, low: int | None = None) -> Tensor:
    """clamp(rounded + zero_point) in dtype's storage, NaN at the upper end; `low`: the lower bound of a fused relu."""
    bottom = dtype.qmin if low is None else max(dtype.qmin, low)
    shifted = rounded.double() + torch.as_tensor(zero_point).double()
    return shifted.nan_to_num(nan=dtype.qmax).clamp(bottom, dtype.qmax).to(torch.int64).to(dtype.storage)
