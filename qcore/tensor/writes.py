"""Operators that write into a quantized tensor: real numbers are quantized with its parameters on the way in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qcore.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from qcore.tensor.dispatch import dequantize, implements, overrides, per_tensor_only, quantize
from qcore.tensor.qtensor import QTensor


@implements("copy_.default", mixed=True)
def copy_(func: Any, x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """A float32 source is quantized with x's parameters; a quantized one of the same dtype and scheme gives x its own.

    A view cannot take other parameters than those of the tensor it shows, so there a quantized source is requantized.
    """
    if not isinstance(x, QTensor):
        raise UnsupportedError("copy_ of a quantized tensor into a float one: use dequantize() on the source first")
    if x.shape != source.shape:
        raise ArgumentError(
            f"copy_ into a quantized tensor of shape {tuple(x.shape)} from one of shape {tuple(source.shape)}"
        )
    if isinstance(source, QTensor):
        if source.dtype != x.dtype or source.qscheme() != x.qscheme():
            raise ArgumentTypeError(
                f"copy_ between quantized tensors needs one dtype and scheme: got {source.dtype!r}, "
                f"{source.qscheme()!r} for {x.dtype!r}, {x.qscheme()!r}; dequantize() the source to requantize it"
            )
        if source.qparams != x.qparams:
            if x.is_window:
                return copy_(func, x, dequantize(source))
            x._held[0] = source.qparams
        x.raw.copy_(source.raw, non_blocking)
        return x
    if source.dtype != torch.float32:
        raise ArgumentTypeError(
            f"copy_ into a quantized tensor needs a float32 or quantized source, not {source.dtype}"
        )
    x.raw.copy_(quantize(source.to(x.device), x, x.qparams))
    return x


@implements("fill_.Scalar", "fill_.Tensor")
def fill_(func: Any, x: QTensor, value: Any) -> QTensor:
    """One real number everywhere, quantized."""
    number = float(value)
    x.raw.copy_(quantize(torch.full(x.shape, number, dtype=torch.float32, device=x.device), x, x.qparams))
    return x


@implements("zero_.default")
def zero_(func: Any, x: QTensor) -> QTensor:
    """The real number 0 everywhere: the zero point."""
    return fill_(func, x, 0.0)


@implements("masked_fill_.Scalar", "masked_fill_.Tensor")
def masked_fill_(func: Any, x: QTensor, mask: Tensor, value: Any) -> QTensor:
    """One real number where `mask` is true."""
    per_tensor_only(x, "masked_fill")
    x.raw.masked_fill_(mask, _integer(x, value))
    return x


@implements("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(func: Any, x: QTensor, mask: Tensor, value: Any) -> QTensor:
    """A copy with one real number where `mask` is true."""
    return masked_fill_(func, QTensor(x.raw.clone(), x.qparams, x.backend), mask, value)


@implements("index_put_.default", "_index_put_impl_.default")
def index_put_(func: Any, x: QTensor, indices: Any, values: Tensor, accumulate: bool = False, *unsafe: bool) -> QTensor:
    """Real numbers, or quantized ones, at some indices."""
    per_tensor_only(x, "assignment by index")
    if accumulate:
        raise UnsupportedError("accumulate=True is not defined for quantized tensors; dequantize() first")
    numbers = dequantize(values) if isinstance(values, QTensor) else values.float()
    x.raw.index_put_(indices, quantize(numbers.to(x.device), x, x.qparams))
    return x


@overrides(Tensor.__setitem__)
def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Assignment to a part; numbers of other parameters than x's are requantized."""
    if not isinstance(x, QTensor):
        if isinstance(value, QTensor):
            raise UnsupportedError("a quantized tensor assigned into a float one: use dequantize() on the value first")
        raise UnsupportedError("a quantized tensor as an index: use int_repr()")
    if isinstance(value, QTensor):
        value = dequantize(value)
    elif isinstance(value, Tensor):
        value = value.float()
    with torch._C.DisableTorchFunctionSubclass():
        x.__setitem__(index, value)


@implements("resize_.default")
def resize_(func: Any, x: QTensor, size: Sequence[int], memory_format: torch.memory_format | None = None) -> QTensor:
    """Other sizes over the same storage, grown when needed."""
    per_tensor_only(x, "resize_")
    raw = x.raw.resize_(size) if memory_format is None else x.raw.resize_(size, memory_format=memory_format)
    x._adopt(raw, x._held)
    return x


@implements("_has_compatible_shallow_copy_type.default")
def can_adopt(func: Any, x: Tensor, other: Tensor) -> bool:
    """torch asks this when the data of one tensor is set from another."""
    return isinstance(x, QTensor) and isinstance(other, QTensor)


@implements("resize_as_.default")
def resize_as_(func: Any, x: QTensor, like: Tensor, *, memory_format: torch.memory_format | None = None) -> QTensor:
    """The sizes of another tensor over the same storage."""
    return resize_(func, x, like.shape, memory_format)


@implements("empty_like.default")
def empty_like(func: Any, x: QTensor, *, memory_format: torch.memory_format | None = None, **options: Any) -> QTensor:
    """The shape and parameters of x, without values; a dtype or device of its own raises."""
    if any(options.get(name) is not None for name in ("dtype", "device", "layout")):
        raise UnsupportedError(f"{func} of a quantized tensor keeps its dtype and device; dequantize() first")
    return QTensor(torch.empty_like(x.raw, memory_format=memory_format or torch.preserve_format), x.qparams, x.backend)


@implements("full_like.default")
def full_like(func: Any, x: QTensor, value: Any, **options: Any) -> QTensor:
    """The shape and parameters of x, and one real number everywhere."""
    return fill_(func, empty_like(func, x, **options), value)


@implements("ones_like.default")
def ones_like(func: Any, x: QTensor, **options: Any) -> QTensor:
    """The shape and parameters of x, and 1 everywhere."""
    return full_like(func, x, 1.0, **options)


@implements("zeros_like.default")
def zeros_like(func: Any, x: QTensor, **options: Any) -> QTensor:
    """The shape and parameters of x, and 0 everywhere."""
    return full_like(func, x, 0.0, **options)


@implements("is_pinned.default")
def is_pinned(func: Any, x: QTensor, device: Any = None) -> bool:
    """Whether the integers lie in page-locked memory."""
    return x.raw.is_pinned()


def _integer(x: QTensor, value: Any) -> int:
    return int(quantize(torch.full((1,), float(value), dtype=torch.float32, device=x.device), x, x.qparams))
