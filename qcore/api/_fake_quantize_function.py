"""Fake quantization as one differentiable step: quantize and dequantize, with the straight-through gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from qcore.api._observers.kernels import is_eager, kernels_for
from qcore.errors import ArgumentError
from qcore.training_operators import FakeQuantize, FakeQuantizeBackward

MOST_INTEGER = 65536
"""The integers that kernels of backends take lie within -MOST_INTEGER..MOST_INTEGER."""

Rounding: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From x to the rounded x, and a mask of what lay inside of the range."""
Keeping: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From the gradient, with the strides of the rounded x, and the mask to the gradient inside of the range."""


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    quant_min: int,
    quant_max: int,
    backend: str | None = None,
) -> Tensor:
    """x rounded to the values that integers quant_min..quant_max stand for; shape and dtype of x.

    `scale` and `zero_point` have one element, or with `axis` one for each channel; a float zero_point is not rounded.
    The gradient passes where the integer lies within the range and is 0 elsewhere. NaN stays NaN.
    `backend` (None: the automatic choice) runs it where it has the kernel.
    Raises ArgumentError for an axis that x does not have, another number of channels, or a scale that is not positive.
    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2017.
    """
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ArgumentError(f"axis={axis} does not exist in an input of shape {tuple(x.shape)}")
    axis = None if axis is None else axis % x.ndim
    if is_eager(scale):
        _check(scale, zero_point, 1 if axis is None else x.shape[axis])
    if zero_point.dtype == torch.int32 and scale.dtype == torch.float32 and max(-quant_min, quant_max) <= MOST_INTEGER:
        kernels = kernels_for(x, backend, FakeQuantize(quant_min, quant_max), FakeQuantizeBackward())
        if kernels is not None:
            kernel, keep = kernels
            return straight_through(x, lambda data: kernel(data, scale, zero_point, axis), keep)
    shape = [1] * x.ndim
    if axis is not None:
        shape[axis] = -1
    scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return straight_through(x, lambda data: _round(data, scale, zero_point, quant_min, quant_max), _keep)


def _check(scale: Tensor, zero_point: Tensor, channels: int) -> None:
    if not scale.numel() == zero_point.numel() == channels:
        shapes = tuple(scale.shape), tuple(zero_point.shape)
        raise ArgumentError(f"scale and zero_point, of shapes {shapes}, must have one element for each of {channels}")
    if not bool((scale > 0).all()):
        raise ArgumentError(f"scale must be positive everywhere; got {scale.tolist()}")


def straight_through(x: Tensor, rounding: Rounding, keep: Keeping) -> Tensor:
    """x rounded; its gradient is what `keep` leaves of that of the result."""
    result: Tensor = _StraightThrough.apply(x, rounding, keep)  # type: ignore[no-untyped-call]
    return result


def _round(x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> tuple[Tensor, Tensor]:
    """In plain torch, with parameters that broadcast over x; the mask is a bool tensor."""
    data = x.to(torch.float32)
    if zero_point.is_floating_point():
        # both roundings are those of one fused multiply-add, as in torch
        wide = data.double() * scale.reciprocal().double() + zero_point.double()
        unclamped = wide.to(torch.float32).round_()
    else:
        unclamped = torch.mul(data, scale.reciprocal()).round_().add_(zero_point)
    integers = unclamped.clamp(quant_min, quant_max)
    mask = integers == unclamped
    if zero_point.is_floating_point():
        return ((integers.double() - zero_point.double()) * scale.double()).to(x.dtype), mask
    return integers.sub_(zero_point).mul_(scale).to(x.dtype), mask


def _keep(grad: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, grad, 0.0)


def _keep_strided(grad: Tensor, mask: Tensor, keep: Keeping, stride: tuple[int, ...]) -> Tensor:
    if grad.stride() != stride:
        grad = torch.empty_strided(grad.shape, stride, dtype=grad.dtype, device=grad.device).copy_(grad)
    return keep(grad, mask)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rounding: Rounding, keep: Keeping) -> Tensor:
        result, mask = rounding(x)
        ctx.save_for_backward(mask)
        ctx.keep, ctx.stride = keep, result.stride()
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        kept: Any = _Kept.apply if torch.is_grad_enabled() else _keep_strided  # the former where it has a gradient too
        return kept(grads[0], *ctx.saved_tensors, ctx.keep, ctx.stride), None, None


class _Kept(torch.autograd.Function):
    """The gradient inside of the range: linear, so that its own gradient is the same once more."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, mask: Tensor, keep: Keeping, stride: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.keep, ctx.stride = keep, stride
        return _keep_strided(grad, mask, keep, stride)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gradient = _Kept.apply(grads[0], *ctx.saved_tensors, ctx.keep, ctx.stride)  # type: ignore[no-untyped-call]
        return gradient, None, None, None
