"""Linear layers: packing, on integers, and on floats."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.compat.ops.calls import operator, output, per_tensor_quantized
from qcore.compat.ops.packed import Packed, integer_weight, packed_as
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.quantized.dynamic.options import to_float16
from qcore.tensor.dtypes import quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor

__all__ = [
    "linear",
    "linear_dynamic",
    "linear_dynamic_fp16",
    "linear_dynamic_fp16_unpacked_weight",
    "linear_prepack",
    "linear_prepack_fp16",
    "linear_relu",
    "linear_relu_dynamic",
    "linear_relu_dynamic_fp16",
    "linear_unpack",
    "linear_unpack_fp16",
    "linear_with_input_q_dq_qweight_dq_output_fp32",
    "linear_with_input_q_dq_qweight_dq_relu_output_fp32",
]


class LinearPacked(Packed):
    """An int8 weight (out, in) and a bias."""


class LinearPackedFp16(Packed):
    """A weight (out, in) rounded to float16, and a bias."""

    def unpack(self) -> tuple[Tensor, Tensor | None]:
        """The weight as float32, and the bias."""
        return self.weight.float(), self.bias


@operator
def linear_prepack(W: Tensor, B: Tensor | None = None) -> LinearPacked:
    """A qint8 weight (out, in) and a float bias (out,) or None -> packed."""
    if W.ndim != 2:
        raise ArgumentError(f"torch.ops.quantized.linear_prepack: W of shape {tuple(W.shape)} must be (out, in)")
    return LinearPacked(integer_weight(W, B, "linear_prepack", 0, W.shape[0]), B)


@operator
def linear_prepack_fp16(W: Tensor, B: Tensor | None = None) -> LinearPackedFp16:
    """A float weight (out, in), rounded to float16, and a float bias (out,) or None -> packed."""
    if W.ndim != 2 or isinstance(W, QTensor):
        raise ArgumentError("torch.ops.quantized.linear_prepack_fp16: W must be a float tensor (out, in)")
    return LinearPackedFp16(to_float16(W), B)


@operator
def linear_unpack(W_prepack: Any) -> tuple[Tensor, Tensor | None]:
    """The weight and the bias."""
    return packed_as(LinearPacked, W_prepack, "linear_unpack").unpack()  # type: ignore[no-any-return]


@operator
def linear_unpack_fp16(W_prepack: Any) -> tuple[Tensor, Tensor | None]:
    """The weight as float32, and the bias."""
    return packed_as(LinearPackedFp16, W_prepack, "linear_unpack_fp16").unpack()  # type: ignore[no-any-return]


def _static(name: str, X: Any, W_prepack: Any, scale: float, zero_point: int, relu: bool) -> QTensor:
    x, packed = per_tensor_quantized(X, name), packed_as(LinearPacked, W_prepack, name)
    out = output(x, scale, zero_point)
    weight: QTensor = packed.weight
    kernel = packed.kernel(
        ("linear", relu),
        lambda: ops.Linear(weight.raw, weight.qparams, packed.bias, relu),
        (x.qparams.dtype, out.dtype),
    )
    return QTensor(kernel(x.raw, x.qparams, out), out, packed.backend)


@operator
def linear(X: Tensor, W_prepack: Any, Y_scale_i: float, Y_zero_point_i: int) -> Tensor:
    """x @ weight.T + bias: quantized (..., in) -> quantized (..., out)."""
    return _static("linear", X, W_prepack, Y_scale_i, Y_zero_point_i, False)


@operator
def linear_relu(X: Tensor, W_prepack: Any, Y_scale_i: float, Y_zero_point_i: int) -> Tensor:
    """relu(x @ weight.T + bias): quantized (..., in) -> quantized (..., out)."""
    return _static("linear_relu", X, W_prepack, Y_scale_i, Y_zero_point_i, True)


def _floats(X: Any, name: str) -> Tensor:
    if not isinstance(X, Tensor) or isinstance(X, QTensor) or not X.is_floating_point():
        raise ArgumentTypeError(f"torch.ops.quantized.{name} takes a float tensor and quantizes it itself")
    return X.float()


def _dynamic(name: str, X: Any, W_prepack: Any, reduce_range: bool, relu: bool) -> Tensor:
    packed = packed_as(LinearPacked, W_prepack, name)
    weight: QTensor = packed.weight
    kernel = packed.kernel(
        ("dynamic", relu, reduce_range),
        lambda: ops.LinearDynamic(weight.raw, weight.qparams, packed.bias, relu, reduce_range),
        (quint8,),
    )
    return kernel(_floats(X, name))  # type: ignore[no-any-return]


@operator
def linear_dynamic(X: Tensor, W_prepack: Any, reduce_range: bool = False) -> Tensor:
    """x @ weight.T + bias: floats (..., in), quantized inside, -> floats (..., out)."""
    return _dynamic("linear_dynamic", X, W_prepack, reduce_range, False)


@operator
def linear_relu_dynamic(X: Tensor, W_prepack: Any, reduce_range: bool = False) -> Tensor:
    """relu(x @ weight.T + bias): floats (..., in), quantized inside, -> floats (..., out)."""
    return _dynamic("linear_relu_dynamic", X, W_prepack, reduce_range, True)


def _fp16(name: str, X: Any, W_prepack: Any, relu: bool) -> Tensor:
    packed = packed_as(LinearPackedFp16, W_prepack, name)
    kernel = packed.kernel(("fp16", relu), lambda: ops.LinearFp16(packed.weight, packed.bias, relu))
    return kernel(_floats(X, name))  # type: ignore[no-any-return]


@operator
def linear_dynamic_fp16(X: Tensor, W_prepack: Any) -> Tensor:
    """x @ weight.T + bias: floats (..., in) -> floats (..., out), the weight rounded to float16."""
    return _fp16("linear_dynamic_fp16", X, W_prepack, False)


@operator
def linear_relu_dynamic_fp16(X: Tensor, W_prepack: Any) -> Tensor:
    """relu(x @ weight.T + bias): floats (..., in) -> floats (..., out), the weight rounded to float16."""
    return _fp16("linear_relu_dynamic_fp16", X, W_prepack, True)


@operator
def linear_dynamic_fp16_unpacked_weight(X: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """linear_dynamic_fp16 with a float weight (out, in), which is packed on each call."""
    return _fp16("linear_dynamic_fp16_unpacked_weight", X, linear_prepack_fp16(weight, bias), False)


def _around(name: str, X: Any, scale: float, zero_point: int, W_prepack: Any, relu: bool) -> Tensor:
    """A float input quantized with given parameters; floats out of the sums, without rounding to integers between."""
    packed = packed_as(LinearPacked, W_prepack, name)
    quantized = quantize(_floats(X, name), per_tensor(scale, zero_point, quint8), packed.backend)
    from torch.nn import functional as F

    result = F.linear(quantized.dequantize(), packed.weight.dequantize(), packed.bias)
    return result.relu() if relu else result


@operator
def linear_with_input_q_dq_qweight_dq_output_fp32(
    X: Tensor, X_scale: float, X_zero_point: int, W_prepack: Any
) -> Tensor:
    """x, rounded to what its parameters can hold, @ weight.T + bias, in float32."""
    return _around("linear_with_input_q_dq_qweight_dq_output_fp32", X, X_scale, X_zero_point, W_prepack, False)


@operator
def linear_with_input_q_dq_qweight_dq_relu_output_fp32(
    X: Tensor, X_scale: float, X_zero_point: int, W_prepack: Any
) -> Tensor:
    """relu of x, rounded to what its parameters can hold, @ weight.T + bias, in float32."""
    return _around("linear_with_input_q_dq_qweight_dq_relu_output_fp32", X, X_scale, X_zero_point, W_prepack, True)
