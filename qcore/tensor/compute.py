"""Operators that run a backend's kernel: the relu family, functions of one variable, cat, pooling, resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qcore import operators as ops
from qcore.errors import ArgumentError, UnsupportedError
from qcore.tensor import qparams as _qparams
from qcore.tensor.dispatch import implements, kernel, overrides, per_tensor_only, quantize
from qcore.tensor.dtypes import qint8, qint32
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor
from qcore.tensor.recording import unseen
from qcore.tensor.windows import scales, shaped, sizes, window


def same(x: QTensor, operator: ops.Operator) -> QTensor:
    """The result of an operator that keeps x's parameters."""
    return QTensor(kernel(x, operator)(x.raw, x.qparams), x.qparams, x.backend)


def into(x: QTensor, result: QTensor) -> QTensor:
    """Write the result of an operator that keeps x's parameters over x."""
    x.raw.copy_(result.raw)
    return x


# --- clamping -------------------------------------------------------------------------------------------------------


@overrides(torch.relu, Tensor.relu, F.relu)
def relu(input: QTensor, inplace: bool = False) -> QTensor:
    """max(x, 0), without a kernel, as the zero point is the integer of 0."""
    per_tensor_only(input, "relu")
    if inplace:
        input.raw.clamp_(min=input.qparams.zero_point)
        return input
    return QTensor(input.raw.clamp(min=input.qparams.zero_point), input.qparams, input.backend)


@implements("relu.default")
def aten_relu(func: Any, x: QTensor) -> QTensor:
    """max(x, 0)."""
    return relu(x)


@implements("relu_.default")
def aten_relu_(func: Any, x: QTensor) -> QTensor:
    """max(x, 0) in place."""
    return relu(x, inplace=True)


def clamped(x: QTensor, low: float | None, high: float | None) -> QTensor:
    """Clamp to real bounds (None: open); ArgumentError for NaN."""
    if low != low or high != high:
        raise ArgumentError(f"clamp: bounds {low} and {high} must not be NaN")
    return same(x, ops.Clamp(None if low is None else float(low), None if high is None else float(high)))


@implements("hardtanh.default")
def hardtanh(func: Any, x: QTensor, min_val: float = -1.0, max_val: float = 1.0) -> QTensor:
    """Clamp to real bounds, in order, else ArgumentError; relu6 comes here too."""
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val={min_val} must be at most max_val={max_val}")
    return clamped(x, min_val, max_val)


@implements("hardtanh_.default")
def hardtanh_(func: Any, x: QTensor, min_val: float = -1.0, max_val: float = 1.0) -> QTensor:
    """Clamp to real bounds in place."""
    return into(x, hardtanh(func, x, min_val, max_val))


@implements("clamp.default")
def clamp(func: Any, x: QTensor, min: float | None = None, max: float | None = None) -> QTensor:
    """Clamp to real bounds."""
    return clamped(x, min, max)


@implements("clamp_.default")
def clamp_(func: Any, x: QTensor, min: float | None = None, max: float | None = None) -> QTensor:
    """Clamp to real bounds in place."""
    return into(x, clamp(func, x, min, max))


@implements("clamp_min.default")
def clamp_min(func: Any, x: QTensor, min: float) -> QTensor:
    """Clamp to a lower bound."""
    return clamped(x, min, None)


@implements("clamp_max.default")
def clamp_max(func: Any, x: QTensor, max: float) -> QTensor:
    """Clamp to an upper bound."""
    return clamped(x, None, max)


# --- functions of one variable --------------------------------------------------------------------------------------


def lookup(x: QTensor, function: str, args: tuple[float, ...] = (), out: QParams | None = None) -> QTensor:
    """A function of each element, through a table of all integers; ArgumentError for an argument that is NaN."""
    if any(arg != arg for arg in args):
        raise ArgumentError(f"{function}: its arguments {args} must not be NaN")
    out = x.qparams if out is None else out
    return QTensor(kernel(x, ops.Lookup(function, args))(x.raw, x.qparams, out), out, x.backend)


def _unit(x: QTensor) -> QParams:
    """0 to 1 over the whole range of the dtype, as torch's sigmoid has it."""
    dtype = x.qparams.dtype
    if dtype == qint32:
        return _qparams.per_tensor(1.0 / 2**32, 0, dtype)
    return _qparams.per_tensor(1.0 / 256, -128 if dtype == qint8 else 0, dtype)


@implements("sigmoid.default")
def sigmoid(func: Any, x: QTensor) -> QTensor:
    """The result has scale 1/256 and its zero point at the low end."""
    return lookup(x, "sigmoid", out=_unit(x))


@implements("hardsigmoid.default")
def hardsigmoid(func: Any, x: QTensor) -> QTensor:
    """The result has scale 1/256 and its zero point at the low end."""
    return lookup(x, "hardsigmoid", out=_unit(x))


@implements("tanh.default")
def tanh(func: Any, x: QTensor) -> QTensor:
    """The result has scale 2/256 and its zero point in the middle."""
    middle = 0 if x.qparams.dtype == qint8 else 128
    return lookup(x, "tanh", out=_qparams.per_tensor(2.0 / 256, middle, x.qparams.dtype))


@implements("threshold.default")
def threshold(func: Any, x: QTensor, threshold: float, value: float) -> QTensor:
    """x where it is above the threshold, else the value; the result has x's parameters."""
    return lookup(x, "threshold", (float(threshold), float(value)))


@implements("gelu.default")
def gelu(func: Any, x: QTensor, *, approximate: str = "none") -> QTensor:
    """The result has x's parameters, with the scale rounded to float32."""
    out = _qparams.per_tensor(torch.tensor(x.q_scale(), dtype=torch.float32), x.q_zero_point(), x.dtype)
    return lookup(x, "gelu_tanh" if approximate == "tanh" else "gelu", out=out)


@implements("leaky_relu.default")
def leaky_relu(func: Any, x: QTensor, negative_slope: float = 0.01) -> QTensor:
    """The result has x's parameters."""
    return lookup(x, "leaky_relu", (float(negative_slope),))


@implements("leaky_relu_.default")
def leaky_relu_(func: Any, x: QTensor, negative_slope: float = 0.01) -> QTensor:
    """In place."""
    return into(x, leaky_relu(func, x, negative_slope))


# --- concatenation and padding --------------------------------------------------------------------------------------


@implements("cat.default", mixed=True)
def aten_cat(func: Any, tensors: Sequence[Tensor], dim: int = 0) -> QTensor:
    """See `cat`."""
    return cat(tensors, dim)


@overrides(torch.cat, torch.concat, torch.concatenate)
def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None, out: Tensor | None = None) -> QTensor:
    """Concatenate; the result has the first tensor's parameters, and others are requantized to them."""
    quantized = [x for x in tensors if isinstance(x, QTensor)]
    first, dim = quantized[0], dim if axis is None else axis
    if out is not None or len(quantized) < len(tensors) or any(x.dtype != first.dtype for x in quantized):
        raise UnsupportedError(
            f"cat of {', '.join(str(x.dtype) for x in tensors)}{'' if out is None else ' with out'}: all must be "
            "quantized, of one dtype, without out; quantize the others, or dequantize() these"
        )
    for x in quantized:
        per_tensor_only(x, "cat")
    raws = [x.raw for x in quantized]
    if all(x.qparams == first.qparams for x in quantized):
        return QTensor(torch.cat(raws, dim), first.qparams, first.backend)
    run = kernel(first, ops.Cat(dim))
    return QTensor(run(raws, [x.qparams for x in quantized], first.qparams), first.qparams, first.backend)


@implements("constant_pad_nd.default")
def constant_pad(func: Any, x: QTensor, pad: Sequence[int], value: float = 0) -> QTensor:
    """Padding by a real number, quantized with x's parameters."""
    per_tensor_only(x, "pad")
    with unseen():
        number = int(quantize(torch.full((1,), float(value), dtype=torch.float32), x, x.qparams))
    return QTensor(func(x.raw, pad, number), x.qparams, x.backend)


# --- pooling, reduction, resampling ---------------------------------------------------------------------------------


def _max_pool(rank: int) -> Any:
    def max_pool(
        input: QTensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> QTensor:
        # return_indices is False here: torch calls max_pool2d_with_indices otherwise, which is refused
        name = f"max_pool{rank}d"
        sizes = window(input, name, rank, kernel_size, stride, padding, dilation)
        return same(input, ops.MaxPool(*sizes, ceil_mode=ceil_mode))

    return max_pool


for _rank in (1, 2, 3):
    overrides(getattr(torch, f"max_pool{_rank}d"), getattr(F, f"max_pool{_rank}d"))(_max_pool(_rank))


@implements("avg_pool2d.default", "avg_pool3d.default")
def avg_pool(
    func: Any,
    x: QTensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> QTensor:
    """Average pooling."""
    rank = 2 if func is torch.ops.aten.avg_pool2d.default else 3
    return average(x, rank, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def average(
    x: QTensor,
    rank: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> QTensor:
    """Average pooling over the last `rank` dimensions; ArgumentError for sizes that do not fit, or a divisor of 0."""
    kernel_size, stride, padding, _ = window(x, f"avg_pool{rank}d", rank, kernel_size, stride, padding)
    if divisor_override is not None and (not isinstance(divisor_override, int) or divisor_override == 0):
        raise ArgumentError(f"avg_pool{rank}d: divisor_override={divisor_override!r} must be a whole number, not 0")
    return same(x, ops.AvgPool(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override))


@implements("avg_pool1d.default")
def avg_pool1d(func: Any, x: QTensor, kernel_size: Any, stride: Any = (), padding: Any = 0, *options: bool) -> QTensor:
    """Average pooling in one dimension."""
    return average(x, 1, kernel_size, stride, padding, *options)


@implements("_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default", "adaptive_avg_pool1d.default")
def adaptive_avg_pool(func: Any, x: QTensor, output_size: Sequence[int]) -> QTensor:
    """Average pooling to a given size."""
    rank = len(output_size)
    name = f"adaptive_avg_pool{rank}d"
    shaped(x, name, rank)
    given = [n if size is None else size for n, size in zip(x.raw.shape[-rank:], output_size, strict=True)]
    return same(x, ops.AdaptiveAvgPool(sizes(name, "output_size", given, rank, 1)))


def _adaptive_function(rank: int) -> Any:
    def pool(input: QTensor, output_size: Any) -> QTensor:
        # torch's own function would decompose size 1 into a mean and a change of strides, before it asks us
        many = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * rank
        if len(many) != rank:
            raise ArgumentError(f"adaptive_avg_pool{rank}d: output_size={output_size!r} must be {rank} numbers, or one")
        return adaptive_avg_pool(None, input, many)

    return pool


overrides(F.adaptive_avg_pool2d)(_adaptive_function(2))
overrides(F.adaptive_avg_pool3d)(_adaptive_function(3))


@implements("mean.default", "mean.dim")
def mean(
    func: Any, x: QTensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> QTensor:
    """Mean over some dimensions, or all; ArgumentError for one that x has not, or that is named twice."""
    if dtype is not None and dtype != x.dtype:
        raise UnsupportedError(
            f"mean of a quantized tensor to {dtype}: the result keeps {x.dtype!r}; dequantize() first"
        )
    rank = max(x.ndim, 1)
    if any(not -rank <= d < rank for d in dim or ()) or len({d % rank for d in dim or ()}) < len(dim or ()):
        raise ArgumentError(f"mean: dim={dim} must name dimensions of a tensor of shape {tuple(x.shape)}, each once")
    return same(x, ops.Mean(tuple(d % rank for d in dim or ()) if x.ndim else (), keepdim))


@overrides(F.interpolate)
def interpolate(
    input: QTensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> QTensor:
    """Resampling by nearest (2-D and 3-D) or bilinear (2-D)."""
    rank = input.ndim - 2
    if antialias or recompute_scale_factor or mode not in ("nearest", "bilinear") or rank < 1:
        raise UnsupportedError(
            f"interpolate of a quantized tensor of {input.ndim} dimensions with mode={mode!r}, antialias={antialias}: "
            "only nearest and bilinear, without antialias and recompute_scale_factor; dequantize() first"
        )
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate needs one of size and scale_factor")
    if align_corners and mode == "nearest":
        raise ArgumentError("interpolate: align_corners is for mode='bilinear'; leave it out")
    fixed = None if size is None else sizes("interpolate", "size", size, rank, 1)
    factors = None if scale_factor is None else scales("interpolate", scale_factor, input.raw.shape[2:])
    return same(input, ops.Interpolate(fixed, factors, mode, bool(align_corners)))
