"""The steps that operators share, as docs/numerics.md writes them: exact, or with one rounding to float32 each."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.tensor.dtypes import QDType
from qcore.tensor.qparams import QParams


def f32(value: float | Tensor) -> Tensor:
    """The nearest float32."""
    return torch.as_tensor(value, dtype=torch.float64).to(torch.float32)


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """float32 a * b + c with a single rounding.

    The product of two float32 is exact in float64. Its sum with c is rounded to odd there, after which rounding to
    float32 gives what rounding the exact value gives (Boldo, Melquiond: Emulation of FMA and correctly rounded sums).
    """
    product, addend = a.double() * b.double(), c.double()
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)  # exact: Knuth's two-sum
    bits = total.view(torch.int64)
    inexact = (error != 0) & total.isfinite() & (bits % 2 == 0)
    step = torch.where((error > 0) == (total > 0), 1, -1)
    return torch.where(inexact, bits + step, bits).view(torch.float64).float()


def sqrt(x: Tensor) -> Tensor:
    """The nearest float32 to the square root of each float32: torch's own may be off by a last bit."""
    return torch.sqrt(x.double()).float()


def along(values: Tensor, axis: int, ndim: int) -> Tensor:
    """A vector shaped to broadcast along `axis` of a tensor of `ndim` dimensions."""
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


def centered(x: Tensor, params: QParams) -> Tensor:
    """x - zero point, exact, as float64 (which holds every sum and product of ours below 2**53 exactly)."""
    if params.axis is None:
        return x.double() - params.zero_point
    return x.double() - along(torch.as_tensor(params.zero_point), params.axis, x.ndim)


def saturate(value: Tensor, dtype: QDType, zero_point: int = 0, low: int | None = None) -> Tensor:
    """clamp(rint(value) + zero_point) to [`low`, or dtype's least; dtype's greatest]; NaN becomes the greatest."""
    whole = torch.round(value).double() + zero_point
    whole = whole.clamp(dtype.qmin if low is None else low, dtype.qmax)
    return whole.nan_to_num(nan=dtype.qmax).to(dtype.storage)


def requantize(value: Tensor, multiplier: Tensor, out: QParams, relu: bool = False) -> Tensor:
    """clamp(rint(value * multiplier) + zero_point), value and multiplier float32; with relu, from zero_point up."""
    zero_point = int(out.zero_point)
    return saturate(value * multiplier, out.dtype, zero_point, zero_point if relu else None)


def channels_last(x: Tensor) -> Tensor:
    """x with its channels of axis 1 innermost in memory, for 4 and 5 dimensions."""
    return x.contiguous(memory_format=_LAST.get(x.ndim, torch.contiguous_format))


def like(y: Tensor, x: Tensor) -> Tensor:
    """y, with channels last where x has them so."""
    last = x.ndim in _LAST and not x.is_contiguous() and x.is_contiguous(memory_format=_LAST[x.ndim])
    return channels_last(y) if last else y.contiguous()


_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
