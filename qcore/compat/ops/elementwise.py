"""Adding, multiplying, joining, clamping and matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qcore import operators as ops
from qcore.binding import shared_kernel
from qcore.compat.ops.calls import into, operator, output, per_tensor_quantized
from qcore.errors import ArgumentError
from qcore.nn.quantized import scalar
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


def _binary(kind: ops.Operator, qa: Any, qb: Any, out: QParams) -> QTensor:
    a, b = per_tensor_quantized(qa, kind.name), per_tensor_quantized(qb, kind.name)
    kernel = shared_kernel(a.backend, kind, (a.qparams.dtype, b.qparams.dtype, out.dtype))
    return QTensor(kernel(a.raw, a.qparams, b.raw, b.qparams, out), out, a.backend)


def _arithmetic(name: str, kind: ops.Operator, by_number: Any, relu: bool) -> Any:
    """The operator for two tensors, for a tensor and a number in either order, and into a given tensor."""

    def call(
        qa: Any, qb: Any = None, scale: Any = None, zero_point: Any = None, *, b: Any = None, out: Any = None
    ) -> Any:
        qb = b if qb is None else qb
        out = scale if isinstance(scale, QTensor) else out
        a, other = (qa, qb) if isinstance(qa, Tensor) else (qb, qa)
        if not isinstance(other, QTensor):
            result = by_number(per_tensor_quantized(a, name), _number(other, name), relu)
            return result if out is None else into(out, result, name)
        if out is not None:
            target = per_tensor_quantized(out, name)
            return into(out, _binary(kind, a, other, target.qparams), name)
        if scale is None or zero_point is None:
            raise ArgumentError(f"torch.ops.quantized.{name}: give scale and zero_point of the result, or out")
        return _binary(kind, a, other, output(per_tensor_quantized(a, name), scale, zero_point))

    call.__name__ = name
    call.__doc__ = f"{kind} of two quantized tensors of broadcastable shapes, or of one and a number."
    return operator(call)


def _by_number(name: str, by_number: Any, relu: bool) -> Any:
    """The operator for a tensor and a number, which may be a tensor of one element."""

    def call(qa: Any, b: Any, out: Any = None) -> Any:
        result = by_number(per_tensor_quantized(qa, name), _number(b, name), relu)
        return result if out is None else into(out, result, name)

    call.__name__ = name
    call.__doc__ = (
        "A quantized tensor and a number; the result has parameters made from the tensor's, unless out is given."
    )
    return operator(call)


def _number(value: Any, name: str) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.item())
    if not isinstance(value, int | float):
        raise ArgumentError(f"torch.ops.quantized.{name}: {value!r} must be a number or a quantized tensor")
    return float(value)


add = _arithmetic("add", ops.Add(), scalar.add_scalar, False)
add_relu = _arithmetic("add_relu", ops.Add(relu=True), scalar.add_scalar, True)
add_out = _arithmetic("add_out", ops.Add(), scalar.add_scalar, False)
add_relu_out = _arithmetic("add_relu_out", ops.Add(relu=True), scalar.add_scalar, True)
mul = _arithmetic("mul", ops.Mul(), scalar.mul_scalar, False)
mul_relu = _arithmetic("mul_relu", ops.Mul(relu=True), scalar.mul_scalar, True)
mul_out = _arithmetic("mul_out", ops.Mul(), scalar.mul_scalar, False)
mul_relu_out = _arithmetic("mul_relu_out", ops.Mul(relu=True), scalar.mul_scalar, True)
add_scalar = _by_number("add_scalar", scalar.add_scalar, False)
add_scalar_out = _by_number("add_scalar_out", scalar.add_scalar, False)
add_scalar_relu = _by_number("add_scalar_relu", scalar.add_scalar, True)
add_scalar_relu_out = _by_number("add_scalar_relu_out", scalar.add_scalar, True)
mul_scalar = _by_number("mul_scalar", scalar.mul_scalar, False)
mul_scalar_out = _by_number("mul_scalar_out", scalar.mul_scalar, False)
mul_scalar_relu = _by_number("mul_scalar_relu", scalar.mul_scalar, True)
mul_scalar_relu_out = _by_number("mul_scalar_relu_out", scalar.mul_scalar, True)


@operator
def matmul(qa: Tensor, qb: Tensor, scale: float, zero_point: int) -> Tensor:
    """The matrix product of the real numbers of two quantized tensors, in float32, quantized."""
    a, b = per_tensor_quantized(qa, "matmul"), per_tensor_quantized(qb, "matmul")
    return quantize(torch.matmul(a.dequantize(), b.dequantize()), output(a, scale, zero_point), a.backend)


def _cat(qx: Any, dim: int, out: QParams | None, relu: bool) -> QTensor:
    tensors = [per_tensor_quantized(each, "cat") for each in qx]
    if not tensors:
        raise ArgumentError("torch.ops.quantized.cat needs at least one tensor")
    first = tensors[0]
    out = first.qparams if out is None else out
    kernel = shared_kernel(first.backend, ops.Cat(dim, relu), (first.qparams.dtype, out.dtype))
    raw = kernel([each.raw for each in tensors], [each.qparams for each in tensors], out)
    return QTensor(raw, out, first.backend)


def _cat_to(qx: Any, dim: int, scale: float | None, zero_point: int | None, relu: bool) -> QTensor:
    if scale is None or zero_point is None:
        return _cat(qx, dim, None, relu)
    return _cat(qx, dim, output(per_tensor_quantized(qx[0], "cat"), scale, zero_point), relu)


@operator
def cat(qx: Any, dim: int, scale: float | None, zero_point: int | None) -> Tensor:
    """Tensors joined along dim; without scale and zero point, with those of the first."""
    return _cat_to(qx, dim, scale, zero_point, False)


@operator
def cat_relu(qx: Any, dim: int, scale: float | None, zero_point: int | None) -> Tensor:
    """Tensors joined along dim, and relu of it."""
    return _cat_to(qx, dim, scale, zero_point, True)


@operator
def cat_out(qx: Any, dim: int, out: Tensor) -> Tensor:
    """Tensors joined along dim into another one, with its parameters."""
    return into(out, _cat(qx, dim, per_tensor_quantized(out, "cat_out").qparams, False), "cat_out")


@operator
def cat_relu_out(qx: Any, dim: int, out: Tensor) -> Tensor:
    """Tensors joined along dim, and relu of it, into another one, with its parameters."""
    return into(out, _cat(qx, dim, per_tensor_quantized(out, "cat_relu_out").qparams, True), "cat_relu_out")


@operator
def clamp(qx: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """The tensor clamped to real bounds."""
    return torch.clamp(per_tensor_quantized(qx, "clamp"), min, max)


@operator
def max_pool1d(qx: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
    """Max pooling in one dimension; the parameters stay."""
    x = per_tensor_quantized(qx, "max_pool1d")
    return F.max_pool1d(x, kernel_size, stride or None, padding, dilation, ceil_mode)


@operator
def max_pool2d(qx: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
    """Max pooling in two dimensions; the parameters stay."""
    x = per_tensor_quantized(qx, "max_pool2d")
    return F.max_pool2d(x, kernel_size, stride or None, padding, dilation, ceil_mode)
