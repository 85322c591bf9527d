"""Calibration and training: ranges, histograms and fake quantization of floats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.checks import check_dtype
from qcore.errors import ArgumentError
from qcore.operators import Operator
from qcore.tensor.qparams import choose_qparams_native, choose_qparams_observed
from qcore.training_operators import (
    EvenHistogram,
    FakeQuantize,
    FakeQuantizeBackward,
    Histogram,
    ObserveFakeQuantize,
    Range,
)
from qcore_reference.arithmetic import along

_MOST_INTEGER = 65536
_MOST_FIRST = 2**24


def check_input(operator: Operator, x: Any, axis: Any = None) -> None:
    """Raises ArgumentError or ArgumentTypeError for an x that is not float32 or is empty, or has no such axis."""
    check_dtype(operator, x, torch.float32)
    if not x.numel():
        raise ArgumentError(f"{operator.name}: x has no elements")
    if axis is not None and not 0 <= axis < x.ndim:
        raise ArgumentError(f"{operator.name}: axis={axis} must be None or a dimension of x, 0 to {x.ndim - 1}")


def check_integers(operator: FakeQuantize | ObserveFakeQuantize) -> None:
    """Raises ArgumentError for a range of integers that is empty or too wide."""
    low, high = operator.quant_min, operator.quant_max
    if not -_MOST_INTEGER <= low < high <= _MOST_INTEGER:
        raise ArgumentError(
            f"{operator.name}: quant_min={low} and quant_max={high} must rise, within {_MOST_INTEGER} of 0"
        )


def check_rule(operator: ObserveFakeQuantize) -> None:
    """Raises ArgumentError for a least scale that is none, or a zero point out of reach."""
    if operator.eps is not None and not 0 < torch.tensor(operator.eps, dtype=torch.float32) < torch.inf:
        raise ArgumentError(f"{operator.name}: eps={operator.eps} must be a positive, finite float32 number")
    if abs(operator.middle) > _MOST_INTEGER:
        raise ArgumentError(f"{operator.name}: middle={operator.middle} must lie within {_MOST_INTEGER} of 0")


def check_bins(operator: Histogram | EvenHistogram) -> None:
    """Raises ArgumentError for a histogram without bins."""
    if operator.bins < 1:
        raise ArgumentError(f"{operator.name}: bins={operator.bins} must be at least 1")


def check_state(operator: Operator, channels: int, **state: Any) -> None:
    """Raises ArgumentError or ArgumentTypeError for scales, averages or zero points of a wrong kind or number."""
    for name, value in state.items():
        check_dtype(operator, value, torch.int32 if name == "zero_point" else torch.float32)
        if value.numel() != channels:
            raise ArgumentError(f"{operator.name}: {name} must have {channels} elements, not {value.numel()}")


def extremes(x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Least and greatest; NaN for both where not all is finite."""
    slices = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).reshape(x.shape[axis], -1)
    finite = slices.isfinite().all(1)
    low, high = (torch.where(finite, value, torch.nan) for value in (slices.amin(1), slices.amax(1)))
    return (low, high) if axis is not None else (low[0], high[0])


def build_range(operator: Range) -> Kernel:
    """The least and the greatest."""

    def ranges(x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
        check_input(operator, x, axis)
        return extremes(x, axis)

    return ranges


def build_histogram(operator: Histogram) -> Kernel:
    """Bin floor(x * 2**-exponent) - first, exact in float64; what lies beyond the bins is not counted."""
    check_bins(operator)

    def histogram(x: Tensor, exponent: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
        check_input(operator, x)
        if not (-126 <= exponent <= 127 and abs(first) <= _MOST_FIRST):
            raise ArgumentError(
                f"{operator.name}: exponent={exponent} must be in -126..127, first={first} within {_MOST_FIRST} of 0"
            )
        low, high = extremes(x, None)
        index = torch.floor(x.double().reshape(-1) * 2.0**-exponent) - first
        inside = index[(index >= 0) & (index < operator.bins)].long()
        return torch.bincount(inside, minlength=operator.bins), low, high

    return histogram


def build_even_histogram(operator: EvenHistogram) -> Kernel:
    """Bin min(floor(((x - low) * bins) / (high - low)), bins - 1), each step rounded to float32."""
    check_bins(operator)

    def even_histogram(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        check_input(operator, x)
        check_state(operator, 1, low=low, high=high)
        if not low < high:
            raise ArgumentError(f"{operator.name}: low={float(low)} must be below high={float(high)}")
        index = ((x.reshape(-1) - low) * operator.bins) / (high - low)
        return torch.bincount(index.clamp(max=operator.bins - 1).long(), minlength=operator.bins)

    return even_histogram


def build_fake_quantize(operator: FakeQuantize) -> Kernel:
    """y = (clamp(whole + zero_point) - zero_point) * scale with whole = rint(x * (1 / scale)), exact; NaN stays."""
    check_integers(operator)

    def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
        check_input(operator, x, axis)
        check_state(operator, 1 if axis is None else x.shape[axis], scale=scale, zero_point=zero_point)
        if (zero_point.abs() > _MOST_INTEGER).any():
            raise ArgumentError(f"{operator.name}: zero_point must lie within {_MOST_INTEGER} of 0")
        if axis is None:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        else:
            scale, zero_point = along(scale, axis, x.ndim), along(zero_point, axis, x.ndim)
        integer = torch.round(x * (1 / scale)).double() + zero_point
        clamped = integer.clamp(operator.quant_min, operator.quant_max)
        return (clamped - zero_point).float() * scale, clamped == integer

    return fake_quantize


def build_fake_quantize_backward(operator: FakeQuantizeBackward) -> Kernel:
    """The gradient where the integer was inside of the range."""

    def fake_quantize_backward(grad: Tensor, mask: Tensor) -> Tensor:
        check_dtype(operator, grad, torch.float32)
        check_dtype(operator, mask, torch.bool)
        if grad.shape != mask.shape:
            raise ArgumentError(f"{operator.name}: grad is {tuple(grad.shape)}, and mask {tuple(mask.shape)}")
        return torch.where(mask, grad, 0.0)

    return fake_quantize_backward


def build_observe_fake_quantize(operator: ObserveFakeQuantize) -> Kernel:
    """average + constant * (new - average); parameters by one of two rules, rounded to float32."""
    quantize = build_fake_quantize(FakeQuantize(operator.quant_min, operator.quant_max))
    check_rule(operator)

    def choose(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        if operator.eps is None:
            return choose_qparams_native(low, high, operator.quant_min, operator.quant_max, operator.symmetric)
        middle = operator.middle if operator.symmetric else None
        return choose_qparams_observed(
            low, high, operator.quant_min, operator.quant_max, torch.tensor([operator.eps], dtype=torch.float32), middle
        )

    def observe_fake_quantize(
        x: Tensor, min_val: Tensor, max_val: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None
    ) -> tuple[Tensor, Tensor] | None:
        check_input(operator, x, axis)
        channels = 1 if axis is None else x.shape[axis]
        check_state(operator, channels, min_val=min_val, max_val=max_val, scale=scale, zero_point=zero_point)
        new = extremes(x, axis)
        if bool(new[0].isnan().any()):
            return None
        first = ~min_val.isfinite()
        for average, value in zip((min_val, max_val), new, strict=True):
            value = value.reshape(average.shape)
            average.copy_(torch.where(first, value, average + operator.averaging_constant * (value - average)))
        s, z = choose(min_val, max_val)
        scale.copy_(s.reshape(scale.shape))
        zero_point.copy_(z.reshape(zero_point.shape))
        result: tuple[Tensor, Tensor] = quantize(x, scale, zero_point, axis)
        return result

    return observe_fake_quantize


KERNELS = {
    Range: build_range,
    Histogram: build_histogram,
    EvenHistogram: build_even_histogram,
    FakeQuantize: build_fake_quantize,
    FakeQuantizeBackward: build_fake_quantize_backward,
    ObserveFakeQuantize: build_observe_fake_quantize,
}
OPS = tuple(OpSpec(operator, activations=()) for operator in KERNELS)
