"""Functions on quantized tensors, without state, by the names of torch.nn.quantized.functional.

Each raises ArgumentTypeError for an input that is not quantized, ArgumentError for sizes, scales and zero points out of
range. Those without `scale` and `zero_point` keep the input's. Arithmetic: docs/numerics.md, under the name of the
operator.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.quantized.conv import Conv1d, Conv2d, Conv3d, ConvBase
from qcore.nn.quantized.linear import Linear
from qcore.tensor.arguments import check_whole
from qcore.tensor.compute import average, lookup
from qcore.tensor.dtypes import DTypeLike, as_qdtype, quint8
from qcore.tensor.qparams import QParams, per_tensor
from qcore.tensor.qtensor import QTensor
from qcore.tensor.windows import numbers

Size: TypeAlias = "int | tuple[int, ...]"


# --- pooling and resampling -----------------------------------------------------------------------------------------


def avg_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average pooling of quantized (batch, channels, height, width); arguments as torch.nn.functional.avg_pool2d."""
    x = _quantized(input, "avg_pool2d")
    return average(x, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average pooling of quantized (batch, channels, depth, height, width); as torch.nn.functional.avg_pool3d."""
    x = _quantized(input, "avg_pool3d")
    return average(x, 3, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Average pooling of quantized (batch, channels, height, width) to a height and width (None: the input's)."""
    return F.adaptive_avg_pool2d(_quantized(input, "adaptive_avg_pool2d"), output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Average pooling of quantized (batch, channels, depth, height, width) to three sizes (None: the input's)."""
    return F.adaptive_avg_pool3d(_quantized(input, "adaptive_avg_pool3d"), output_size)


def max_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Max pooling of quantized (batch, channels, length); ArgumentError for `return_indices`."""
    _no_indices(return_indices, "max_pool1d")
    return F.max_pool1d(_quantized(input, "max_pool1d"), kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Max pooling of quantized (batch, channels, height, width); ArgumentError for `return_indices`."""
    _no_indices(return_indices, "max_pool2d")
    return F.max_pool2d(_quantized(input, "max_pool2d"), kernel_size, stride, padding, dilation, ceil_mode)


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resample quantized (batch, channels, ...) to `size`, or by `scale_factor`; `mode` is nearest or bilinear."""
    return F.interpolate(_quantized(input, "interpolate"), size, scale_factor, mode, align_corners)


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Old name of `interpolate`, with the same shapes; warns."""
    warnings.warn("upsample is an old name; use interpolate", FutureWarning, stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Old name of `interpolate` with mode="bilinear", align_corners=True; quantized (batch, channels, ...); warns."""
    warnings.warn("upsample_bilinear is an old name; use interpolate", FutureWarning, stacklevel=2)
    return interpolate(input, size, scale_factor, "bilinear", True)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Old name of `interpolate` with mode="nearest"; quantized (batch, channels, ...); warns."""
    warnings.warn("upsample_nearest is an old name; use interpolate", FutureWarning, stacklevel=2)
    return interpolate(input, size, scale_factor)


# --- with weights ---------------------------------------------------------------------------------------------------


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, scale: float | None = None, zero_point: int | None = None
) -> Tensor:
    """input @ weight.T + bias: quantized (..., in), qint8 weight (out, in), float bias (out,) -> quantized (..., out).

    Without `scale` and `zero_point`, the output has those of the input. The weight is packed on each call: modules keep
    it.
    """
    x, w = _quantized(input, "linear"), _quantized(weight, "linear", "weight")
    if w.raw.ndim != 2:
        raise ArgumentError(f"linear: weight must have 2 dimensions; got shape {tuple(w.raw.shape)}")
    module = Linear(w.raw.shape[1], w.raw.shape[0])
    module.backend = x.backend
    module.set_weight_bias(w, bias)
    module._out = _output(x, scale, zero_point)
    result: Tensor = module(x)
    return result


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    scale: float = 1.0,
    zero_point: int = 0,
    dtype: DTypeLike = quint8,
) -> Tensor:
    """Convolution of quantized (batch, in, length) by a qint8 weight (out, in / groups, kernel), with a bias (out,).

    The output is quantized with `scale`, `zero_point`, `dtype`. The weight is packed on each call: modules keep it.
    """
    sizes = stride, padding, dilation, groups, padding_mode
    return _conv(Conv1d, input, weight, bias, sizes, per_tensor(scale, zero_point, as_qdtype(dtype)))


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    scale: float = 1.0,
    zero_point: int = 0,
    dtype: DTypeLike = quint8,
) -> Tensor:
    """Convolution of quantized (batch, in, height, width) by a qint8 weight; see `conv1d`."""
    sizes = stride, padding, dilation, groups, padding_mode
    return _conv(Conv2d, input, weight, bias, sizes, per_tensor(scale, zero_point, as_qdtype(dtype)))


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    scale: float = 1.0,
    zero_point: int = 0,
    dtype: DTypeLike = quint8,
) -> Tensor:
    """Convolution of quantized (batch, in, depth, height, width) by a qint8 weight; see `conv1d`."""
    sizes = stride, padding, dilation, groups, padding_mode
    return _conv(Conv3d, input, weight, bias, sizes, per_tensor(scale, zero_point, as_qdtype(dtype)))


def _conv(
    kind: type[ConvBase], input: Tensor, weight: Tensor, bias: Tensor | None, sizes: tuple[Any, ...], out: QParams
) -> Tensor:
    x, w = _quantized(input, "conv"), _quantized(weight, "conv", "weight")
    if w.raw.ndim != kind.spatial + 2:
        raise ArgumentError(f"weight must have {kind.spatial + 2} dimensions; got shape {tuple(w.raw.shape)}")
    stride, padding, dilation, groups, mode = sizes
    check_whole(1, groups=groups)
    channels, kernel_size = (w.raw.shape[1] * groups, w.raw.shape[0]), tuple(w.raw.shape[2:])
    module = kind(*channels, kernel_size, stride, padding, dilation, groups, padding_mode=mode)
    module.backend = x.backend
    module.set_weight_bias(w, bias)
    module._out = out
    return module(x)  # type: ignore[no-any-return]


# --- of one variable ------------------------------------------------------------------------------------------------


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """The input, of any shape, clamped to [min_val, max_val]."""
    x = _quantized(input, "hardtanh")
    low, high = numbers("hardtanh", min_val=min_val, max_val=max_val)
    if low > high:
        raise ArgumentError(f"hardtanh: min_val={min_val} is above max_val={max_val}")
    return F.hardtanh(x, low, high, inplace)


def clamp(input: Tensor, min_: float, max_: float) -> Tensor:
    """The input, of any shape, clamped to [min_, max_]."""
    return torch.clamp(_quantized(input, "clamp"), *numbers("clamp", min_=min_, max_=max_))


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """The input, of any shape, where it is above `threshold`, else `value`."""
    x = _quantized(input, "threshold")
    return lookup(x, "threshold", numbers("threshold", threshold=threshold, value=value))


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6, of any shape; the output has scale 1/256 and its zero point at the low end of the dtype."""
    x = _quantized(input, "hardsigmoid")
    if inplace:
        raise ArgumentError("hardsigmoid: inplace=True would need the input's scale to change; use the result instead")
    return F.hardsigmoid(x)


def leaky_relu(
    input: Tensor,
    negative_slope: float = 0.01,
    inplace: bool = False,
    scale: float | None = None,
    zero_point: int | None = None,
) -> Tensor:
    """x of any shape, or negative_slope * x below zero; `scale` and `zero_point` of the output, together or neither."""
    x = _quantized(input, "leaky_relu")
    (negative_slope,) = numbers("leaky_relu", negative_slope=negative_slope)
    if inplace and scale is not None:
        raise ArgumentError("leaky_relu: inplace=True keeps the input's scale; leave scale and zero_point out")
    if scale is None:
        return F.leaky_relu(x, negative_slope, inplace)
    return lookup(x, "leaky_relu", (negative_slope,), _output(x, scale, zero_point))


def elu(input: Tensor, scale: float, zero_point: int, alpha: float = 1.0) -> Tensor:
    """x of any shape, or alpha * (exp(x) - 1) below zero; the output has `scale` and `zero_point`."""
    x = _quantized(input, "elu")
    return lookup(x, "elu", numbers("elu", alpha=alpha), _output(x, scale, zero_point))


def celu(input: Tensor, scale: float, zero_point: int, alpha: float = 1.0) -> Tensor:
    """x of any shape, or alpha * (exp(x / alpha) - 1) below zero; the output has `scale` and `zero_point`."""
    x = _quantized(input, "celu")
    if alpha == 0:
        raise ArgumentError("celu: alpha=0 divides by zero")
    return lookup(x, "celu", numbers("celu", alpha=alpha), _output(x, scale, zero_point))


def hardswish(input: Tensor, scale: float, zero_point: int) -> Tensor:
    """x * relu6(x + 3) / 6 for x of any shape; the output has `scale` and `zero_point`."""
    x = _quantized(input, "hardswish")
    return lookup(x, "hardswish", (), _output(x, scale, zero_point))


def _output(x: QTensor, scale: float | None, zero_point: int | None) -> QParams:
    if (scale is None) != (zero_point is None):
        raise ArgumentError(f"scale={scale!r} and zero_point={zero_point!r} are given together, or neither")
    if scale is None or zero_point is None:
        return x.qparams
    return per_tensor(scale, zero_point, x.qparams.dtype)


def _quantized(tensor: Tensor, function: str, argument: str = "input") -> QTensor:
    if not isinstance(tensor, QTensor):
        raise ArgumentTypeError(
            f"{function}: {argument} must be a quantized tensor (qcore.quantize_per_tensor makes one), not "
            f"{type(tensor).__name__} of {getattr(tensor, 'dtype', 'no dtype')}"
        )
    return tensor


def _no_indices(return_indices: bool, function: str) -> None:
    if return_indices:
        raise ArgumentError(f"{function}: return_indices=True is not there for quantized tensors")
