"""Calibration and training: ranges, histograms and fake quantization of floats."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.tensor.qparams import choose_qparams_native
from qcore.training_operators import (
    EvenHistogram,
    FakeQuantize,
    FakeQuantizeBackward,
    Histogram,
    ObserveFakeQuantize,
    Range,
)
from qcore_reference.arithmetic import along


def extremes(x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Least and greatest; NaN for both where not all is finite."""
    slices = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).reshape(x.shape[axis], -1)
    finite = slices.isfinite().all(1)
    low, high = (torch.where(finite, value, torch.nan) for value in (slices.amin(1), slices.amax(1)))
    return (low, high) if axis is not None else (low[0], high[0])


def build_range(operator: Range) -> Kernel:
    return extremes


def build_histogram(operator: Histogram) -> Kernel:
    """Bin floor(x * 2**-exponent) - first, exact in float64; what lies beyond the bins is not counted."""

    def histogram(x: Tensor, exponent: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
        low, high = extremes(x, None)
        index = torch.floor(x.double().reshape(-1) * 2.0**-exponent) - first
        inside = index[(index >= 0) & (index < operator.bins)].long()
        return torch.bincount(inside, minlength=operator.bins), low, high

    return histogram


def build_even_histogram(operator: EvenHistogram) -> Kernel:
    """Bin min(floor(((x - low) * bins) / (high - low)), bins - 1), each step rounded to float32."""

    def even_histogram(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        index = ((x.reshape(-1) - low) * operator.bins) / (high - low)
        return torch.bincount(index.clamp(max=operator.bins - 1).long(), minlength=operator.bins)

    return even_histogram


def build_fake_quantize(operator: FakeQuantize) -> Kernel:
    """y = (clamp(whole + zero_point) - zero_point) * scale with whole = rint(x * (1 / scale)), exact; NaN stays."""

    def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
        if axis is not None:
            scale, zero_point = along(scale, axis, x.ndim), along(zero_point, axis, x.ndim)
        integer = torch.round(x * (1 / scale)).double() + zero_point
        clamped = integer.clamp(operator.quant_min, operator.quant_max)
        return (clamped - zero_point).float() * scale, clamped == integer

    return fake_quantize


def build_fake_quantize_backward(operator: FakeQuantizeBackward) -> Kernel:
    """The gradient where the integer was inside of the range."""

    def fake_quantize_backward(grad: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, grad, 0.0)

    return fake_quantize_backward


def build_observe_fake_quantize(operator: ObserveFakeQuantize) -> Kernel:
    """average + constant * (new - average); parameters by the rule of dynamic quantization, rounded to float32."""
    quantize = build_fake_quantize(FakeQuantize(operator.quant_min, operator.quant_max))

    def observe_fake_quantize(
        x: Tensor, min_val: Tensor, max_val: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None
    ) -> tuple[Tensor, Tensor] | None:
        new = extremes(x, axis)
        if bool(new[0].isnan().any()):
            return None
        first = ~min_val.isfinite()
        for average, value in zip((min_val, max_val), new, strict=True):
            value = value.reshape(average.shape)
            average.copy_(torch.where(first, value, average + operator.averaging_constant * (value - average)))
        s, z = choose_qparams_native(min_val, max_val, operator.quant_min, operator.quant_max, operator.symmetric)
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
