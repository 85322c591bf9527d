"""Fake quantization as one differentiable step: quantize and dequantize, with the straight-through gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, quant_min: int, quant_max: int
) -> Tensor:
    """x rounded to the values that integers quant_min..quant_max stand for; shape and dtype of x.

    `scale` and `zero_point` have one element, or with `axis` one for each channel; a float zero_point is not rounded.
    The gradient passes where the integer lies within the range and is 0 elsewhere. NaN stays NaN.
    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2017.
    """
    if axis is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    result: Tensor = _FakeQuantize.apply(x, scale, zero_point, quant_min, quant_max)  # type: ignore[no-untyped-call]
    return result


class _FakeQuantize(torch.autograd.Function):
    """fake_quantize with parameters that broadcast over x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> Tensor:
        data = x.to(torch.float32)
        if zero_point.is_floating_point():
            # both roundings are those of one fused multiply-add, as in torch
            wide = data.double() * scale.reciprocal().double() + zero_point.double()
            unclamped = wide.to(torch.float32).round_()
        else:
            unclamped = torch.mul(data, scale.reciprocal()).round_().add_(zero_point)
        ctx.bounds = quant_min - 0.5, quant_max + 0.5
        if x.requires_grad:
            ctx.save_for_backward(unclamped)
            integers = unclamped.clamp(quant_min, quant_max)
        else:
            integers = unclamped.clamp_(quant_min, quant_max)
        if zero_point.is_floating_point():
            return ((integers.double() - zero_point.double()) * scale.double()).to(x.dtype)
        return integers.sub_(zero_point).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (unclamped,) = ctx.saved_tensors
        # hardtanh's gradient is the clamp's, three times faster than a comparison and a product with its mask
        gradient = torch.ops.aten.hardtanh_backward(grads[0].to(torch.float32), unclamped, *ctx.bounds)
        return gradient.to(grads[0].dtype), None, None, None, None
