"""Scale and zero point: the only home of their arithmetic (the formulas are in docs/numerics.md)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError
from qcore.tensor.dtypes import (
    QDType,
    QScheme,
    per_channel_affine,
    per_channel_affine_float_qparams,
    per_tensor_affine,
    quint8,
)


@dataclass(frozen=True, eq=False, slots=True)
class QParams:
    """How integers of a tensor map to real numbers: real = (integer - zero_point) * scale.

    Per tensor, `scale` is a float and `zero_point` an int. Per channel along `axis`, they are 1-D tensors:
    float64 scales, and int64 zero points, or float32 ones for the scheme per_channel_affine_float_qparams.
    Made by `per_tensor` and `per_channel`, which check; the plain constructor does not.
    """

    dtype: QDType
    scale: float | Tensor
    zero_point: int | Tensor
    axis: int | None = None

    @property
    def scheme(self) -> QScheme:
        """The scheme that a tensor with these parameters reports."""
        if self.axis is None:
            return per_tensor_affine
        assert isinstance(self.zero_point, Tensor)
        return per_channel_affine_float_qparams if self.zero_point.is_floating_point() else per_channel_affine

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QParams):
            return NotImplemented
        if self.axis is None or other.axis is None:
            return (self.dtype, self.axis, self.scale, self.zero_point) == (
                (other.dtype, other.axis, other.scale, other.zero_point) if other.axis is None else None
            )
        return (
            self.dtype == other.dtype
            and self.axis == other.axis
            and torch.equal(torch.as_tensor(self.scale), torch.as_tensor(other.scale))
            and torch.equal(torch.as_tensor(self.zero_point), torch.as_tensor(other.zero_point))
        )

    def __hash__(self) -> int:
        if self.axis is None:
            return hash((self.dtype, self.scale, self.zero_point))
        return hash((self.dtype, self.axis))


def per_tensor(scale: float | Tensor, zero_point: int | Tensor, dtype: QDType) -> QParams:
    """One scale and zero point for the whole tensor.

    Raises ArgumentError for a scale that is not positive and finite in float32, or a zero point outside of dtype's
    range, ArgumentTypeError for what is no number.
    """
    try:
        number, whole = float(scale), int(zero_point)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ArgumentTypeError(
            f"scale={scale!r} and zero_point={zero_point!r} must be a number and a whole number"
        ) from error
    if whole != zero_point:
        raise ArgumentError(f"zero_point={zero_point!r} must be a whole number")
    _check_scale(number)
    _check_zero_point(whole, dtype)
    return QParams(dtype, number, whole)


def per_channel(scales: Tensor, zero_points: Tensor, axis: int, dtype: QDType) -> QParams:
    """One scale and zero point per slice along `axis`; both are 1-D tensors of equal length, which are copied.

    Raises ArgumentError for other shapes, for a scale that is not positive and finite in float32 (it names the
    channel), or a zero point outside of dtype's range.
    """
    if scales.ndim != 1 or zero_points.ndim != 1 or scales.shape != zero_points.shape:
        raise ArgumentError(
            f"scales and zero_points must be 1-D tensors of one length; got shapes {tuple(scales.shape)} and "
            f"{tuple(zero_points.shape)}"
        )
    scales = scales.detach().to(torch.float64, copy=True)
    floating = zero_points.is_floating_point()
    zero_points = zero_points.detach().to(torch.float32 if floating else torch.int64, copy=True)
    as_float = scales.float()
    bad = ~(torch.isfinite(as_float) & (as_float > 0)) if not floating else ~torch.isfinite(as_float)
    if bad.any():
        channel = int(bad.nonzero()[0])
        raise ArgumentError(
            f"scale {float(scales[channel])!r} of channel {channel} must be a positive, finite float32 number; "
            "was this module calibrated, with finite data?"
        )
    if floating:
        if not bool(torch.isfinite(zero_points).all()):
            raise ArgumentError("zero_points hold NaN or infinity; all must be finite")
    else:
        outside = (zero_points < dtype.qmin) | (zero_points > dtype.qmax)
        if outside.any():
            channel = int(outside.nonzero()[0])
            _check_zero_point(int(zero_points[channel]), dtype, f" of channel {channel}")
    return QParams(dtype, scales, zero_points, axis)


def check_again(name: str, values: Any) -> None:
    """ArgumentError or ArgumentTypeError, with the name of what was called, where parameters in `values` were made by
    hand and are none."""
    for each in tree_leaves(values):
        if isinstance(each, QParams):
            make: Any = per_tensor if each.axis is None else partial(per_channel, axis=each.axis)
            try:
                make(each.scale, each.zero_point, dtype=each.dtype)
            except QcoreError as error:
                raise type(error)(f"{name}: {error}") from None


def _check_scale(scale: float) -> None:
    try:
        (rounded,) = struct.unpack("f", struct.pack("f", scale))
    except OverflowError:
        rounded = math.inf
    if not 0.0 < rounded < math.inf:
        raise ArgumentError(
            f"scale={scale!r} must be a positive, finite float32 number; was this module calibrated, with finite data?"
        )


def _check_zero_point(zero_point: int, dtype: QDType, which: str = "") -> None:
    if not dtype.qmin <= zero_point <= dtype.qmax:
        raise ArgumentError(f"zero_point={zero_point}{which} is outside of {dtype!r}: [{dtype.qmin}, {dtype.qmax}]")


def choose_qparams(
    min_val: Tensor,
    max_val: Tensor,
    dtype: QDType,
    qscheme: QScheme,
    quant_min: int,
    quant_max: int,
    eps: Tensor,
    custom_range: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scale and zero point for observed ranges, by the rule of torch's observers: integers quant_min..quant_max.

    `min_val` and `max_val`: tensors of one shape, () or (channels,), in the dtype of `eps`, of shape (1,), the
    smallest scale.
    `custom_range`: whether the integers are not dtype's own, which moves the zero point of symmetric quint8 to their
    middle.
    Returns scales in the dtype of `eps` and zero points: int32 for affine schemes, int64 for symmetric, float32 for
    float_qparams.
    """
    if qscheme == per_channel_affine_float_qparams:
        scale = (max_val - min_val) / float(quant_max - quant_min)
        scale = torch.where(scale > eps, scale, torch.ones_like(scale))
        return scale, -1 * min_val / scale
    middle = middle_of(dtype, quant_min, quant_max, custom_range) if qscheme.symmetric else None
    return choose_qparams_observed(min_val, max_val, quant_min, quant_max, eps, middle)


def middle_of(dtype: QDType, quant_min: int, quant_max: int, custom_range: bool) -> int:
    """The zero point of symmetric ranges, as `choose_qparams` has it."""
    if dtype != quint8:
        return 0
    return (quant_min + quant_max) // 2 if custom_range else 128


def choose_qparams_observed(
    min_val: Tensor, max_val: Tensor, quant_min: int, quant_max: int, eps: Tensor, middle: int | None
) -> tuple[Tensor, Tensor]:
    """`choose_qparams` with integer zero points; `middle`: the one of symmetric ranges, None for affine ones."""
    steps = float(quant_max - quant_min)
    low, high = min_val.clamp(max=0), max_val.clamp(min=0)
    if middle is not None:
        scale = torch.maximum(torch.maximum(-low, high) / (steps / 2), eps)
        return scale, torch.full_like(scale, middle, dtype=torch.int64)
    scale = torch.maximum((high - low) / steps, eps)
    zero_point = quant_min - torch.round(low / scale).to(torch.int32)
    return scale, zero_point.clamp(quant_min, quant_max)


def choose_qparams_dynamic(low: Tensor, high: Tensor, reduce_range: bool = False) -> tuple[Tensor, Tensor]:
    """Scale (float64) and zero point (int64) of quint8 for values in [low, high], as torch chooses them dynamically.

    `low` and `high` are float32 tensors of one shape, which the results have too; the range is widened to hold 0.
    `reduce_range` uses 0..127 instead of 0..255. The steps: docs/numerics.md, "Dynamic quantization".
    Raises ArgumentError where a bound is not finite.
    """
    if not bool((low.isfinite() & high.isfinite()).all()):
        raise ArgumentError("x holds NaN or infinity: dynamic quantization needs finite values")
    return choose_qparams_native(low, high, 0, 127 if reduce_range else 255)


def choose_qparams_native(
    low: Tensor, high: Tensor, quant_min: int, quant_max: int, symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """Scale (float64) and zero point (int64) for values in [low, high], by the rule of torch's native kernels.

    They use it for dynamic quantization and fused fake-quantize; it keeps scales from 6.1e-5 up. `low` and `high` are
    finite float32 tensors of one shape, which the results have too; the range is widened to hold 0, and with
    `symmetric`, where it has values on both sides, to the same number of steps on both. The steps: docs/numerics.md,
    "Dynamic quantization".
    """
    steps = quant_max - quant_min
    low, high = low.clamp(max=0), high.clamp(min=0)
    both_sides = (low < 0) & (high > 0) & symmetric
    if symmetric:
        step = torch.maximum((low / -(steps // 2 + 1)).abs(), (high / (steps // 2)).abs())
        low = torch.where(both_sides, step * -(steps // 2 + 1), low)
        high = torch.where(both_sides, step * (steps // 2), high)
    scale = (high.double() - low.double()) / steps
    single = scale.float()
    scale = torch.where((single == 0) | (1 / single).isinf(), 0.1, scale)
    small = scale < _SMALL_SCALE
    growth = torch.full_like(low, _SMALL_SCALE) / scale.float()  # not `float / Tensor`, which rounds twice
    widest = torch.full_like(low, _SMALL_SCALE) * steps
    grown_low = torch.where(low == 0, 0.0, torch.where(high == 0, -widest, low * growth))
    grown_high = torch.where(low == 0, widest, torch.where(high == 0, 0.0, high * growth))
    low, high = torch.where(small, grown_low, low).double(), torch.where(small, grown_high, high).double()
    scale = torch.where(small, _SMALL_SCALE, scale)
    from_low, from_high = quant_min - low / scale, quant_max - high / scale
    low_is_nearer = abs(quant_min) + (low / scale).abs() < abs(quant_max) + (high / scale).abs()
    zero_point = torch.where(low_is_nearer, from_low, from_high)
    zero_point = torch.where(both_sides, (quant_min + quant_max) / 2, zero_point)
    return scale, torch.round(zero_point.clamp(quant_min, quant_max)).to(torch.int64)


_SMALL_SCALE = float(torch.tensor(6.1e-5, dtype=torch.float32))  # the nearest float32
