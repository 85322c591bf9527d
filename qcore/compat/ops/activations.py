"""Activation functions."""

from __future__ import annotations

from torch import Tensor

from qcore import operators as ops
from qcore.binding import bind
from qcore.compat.ops.calls import operator, output, per_tensor_quantized, run
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.quantized import functional
from qcore.tensor.qtensor import QTensor


@operator
def relu6(qx: Tensor, inplace: bool = False) -> Tensor:
    """The tensor clamped to [0, 6]."""
    x = per_tensor_quantized(qx, "relu6")
    result = run(ops.Clamp(0.0, 6.0), x)
    if not inplace:
        return result
    x.raw.copy_(result.raw)
    return x


@operator
def leaky_relu(qx: Tensor, negative_slope: float, inplace: bool, output_scale: float, output_zero_point: int) -> Tensor:
    """x, or negative_slope * x below zero; the result is a new tensor with the parameters given."""
    x = per_tensor_quantized(qx, "leaky_relu")
    return functional.leaky_relu(x, negative_slope, False, output_scale, output_zero_point)


@operator
def elu(
    self: Tensor,
    output_scale: float,
    output_zero_point: int,
    alpha: float = 1,
    scale: float = 1,
    input_scale: float = 1,
) -> Tensor:
    """x, or alpha * (exp(x) - 1) below zero; UnsupportedError for other factors."""
    if scale != 1 or input_scale != 1:
        raise ArgumentError(f"torch.ops.quantized.elu: scale={scale} and input_scale={input_scale} must be 1")
    return functional.elu(per_tensor_quantized(self, "elu"), output_scale, output_zero_point, alpha)


@operator
def celu(self: Tensor, output_scale: float, output_zero_point: int, alpha: float = 1) -> Tensor:
    """x, or alpha * (exp(x / alpha) - 1) below zero."""
    return functional.celu(per_tensor_quantized(self, "celu"), output_scale, output_zero_point, alpha)


@operator
def hardswish(input: Tensor, output_scale: float, output_zero_point: int) -> Tensor:
    """x * relu6(x + 3) / 6."""
    return functional.hardswish(per_tensor_quantized(input, "hardswish"), output_scale, output_zero_point)


@operator
def sigmoid(qx: Tensor, output_scale: float, output_zero_point: int) -> Tensor:
    """1 / (1 + exp(-x))."""
    x = per_tensor_quantized(qx, "sigmoid")
    return run(ops.Lookup("sigmoid"), x, output(x, output_scale, output_zero_point))


@operator
def softmax(qx: Tensor, dim: int, output_scale: float, output_zero_point: int) -> Tensor:
    """exp(x) over its sum along dim."""
    x = per_tensor_quantized(qx, "softmax")
    return run(ops.Softmax(dim), x, output(x, output_scale, output_zero_point))


@operator
def threshold(qx: Tensor, threshold: float, value: float) -> Tensor:
    """x where it is above the threshold, else the value."""
    return functional.threshold(per_tensor_quantized(qx, "threshold"), threshold, value)


@operator
def prelu(qx: Tensor, weight: Tensor, output_scale: float, output_zero_point: int) -> Tensor:
    """x, or weight * x below zero; the weight is quantized, of one element or one for each channel of axis 1."""
    x = per_tensor_quantized(qx, "prelu")
    if not isinstance(weight, QTensor):
        raise ArgumentTypeError(f"torch.ops.quantized.prelu: weight must be a quantized tensor, not {weight.dtype}")
    out = output(x, output_scale, output_zero_point)
    binding = bind(x.backend, ops.PReLU(weight.raw.flatten(), weight.qparams), (x.qparams.dtype, out.dtype))
    return QTensor(binding.build()(x.raw, x.qparams, out), out, x.backend)


@operator
def dropout(
    self: Tensor, output_scale: float, output_zero_point: int, p: float = 0.5, training: bool = False
) -> Tensor:
    """The tensor as it is: dropout is for training, and integers are not trained."""
    return per_tensor_quantized(self, "dropout")
