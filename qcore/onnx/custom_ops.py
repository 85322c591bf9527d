"""The steps of a quantized model that torch has no operator for, each with its translation to ONNX.

They compute in torch too, so that what is exported can be run and compared before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from qcore.errors import UnsupportedError

OPSET = 21
"""The first version of the ONNX operators with all that is needed here."""


@custom_op("qcore_onnx::quantize", mutates_args=())
def quantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Float -> integers of the zero point's dtype, per tensor."""
    limits = torch.iinfo(zero_point.dtype)
    return ((x / scale).round() + zero_point).clamp(limits.min, limits.max).to(zero_point.dtype)


@quantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=zero_point.dtype)


@custom_op("qcore_onnx::dequantize", mutates_args=())
def dequantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """Integers -> float, per tensor, or per channel of an axis where `scale` has a dimension."""
    if scale.ndim:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return (x.float() - zero_point) * scale


@dequantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    return torch.empty_like(x, dtype=torch.float32)


@custom_op("qcore_onnx::matmul_integer", mutates_args=())
def matmul_integer(x: Tensor, weight: Tensor, weight_zero_point: Tensor) -> Tensor:
    """uint8 (..., in) times 8-bit (in, out) less its zero point -> int32 sums (..., out)."""
    return (x.double() @ (weight.double() - weight_zero_point)).to(torch.int32)


@matmul_integer.register_fake
def _(x: Tensor, weight: Tensor, weight_zero_point: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[1]), dtype=torch.int32)


def translations() -> dict[Any, Callable[..., Any]]:
    """For torch.onnx.export: what each of them is in ONNX, and what torch has no translation for itself."""
    from onnxscript import opset21

    op: Any = opset21  # its types do not know that numbers become constants

    def to_quantize(x: Any, scale: Any, zero_point: Any) -> Any:
        return op.QuantizeLinear(x, scale, zero_point)

    def to_dequantize(x: Any, scale: Any, zero_point: Any, axis: int) -> Any:
        return op.DequantizeLinear(x, scale, zero_point, axis=axis)

    def to_adaptive_average(x: Any, output_size: Any) -> Any:
        # windows are boxes, so that the mean of means along each dimension is theirs
        for axis, size, goal in zip((-3, -2, -1), map(int, x.shape[-3:]), output_size, strict=True):
            ends = [(i * size // goal, -(-(i + 1) * size // goal)) for i in range(goal)]
            means = [op.ReduceMean(op.Slice(x, [low], [high], [axis]), [axis], keepdims=1) for low, high in ends]
            x = op.Concat(*means, axis=axis)
        return x

    def to_matmul_integer(x: Any, weight: Any, weight_zero_point: Any) -> Any:
        return op.MatMulInteger(x, weight, None, weight_zero_point)

    def to_leaky(x: Any, noise: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Any:
        if training:
            raise UnsupportedError("rrelu with training=True draws its slopes, which ONNX cannot")
        return op.LeakyRelu(x, alpha=(lower + upper) / 2), noise

    return {
        torch.ops.qcore_onnx.quantize.default: to_quantize,
        torch.ops.qcore_onnx.dequantize.default: to_dequantize,
        torch.ops.qcore_onnx.matmul_integer.default: to_matmul_integer,
        # torch's exporter has none of these
        torch.ops.aten._adaptive_avg_pool3d.default: to_adaptive_average,
        torch.ops.aten.rrelu_with_noise_functional.default: to_leaky,
    }
