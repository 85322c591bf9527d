"""Operators that write into a quantized tensor: real numbers are quantized with its parameters on the way in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qcore.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from qcore.tensor.dispatch import dequantize, implements, overrides, per_tensor_only, quantize
from qcore.tensor.qtensor import QTensor


@implements("copy_.default")
def copy_(func: Any, x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """A float32 source is quantized with x's parameters; a quantized one of the same dtype and scheme gives x its own.

    A view cannot take other parameters than those of the tensor it shows, so there a quantized source is requantized.
    """
    if not isinstance(x, QTensor):
        raise UnsupportedError("copy_ of a quantized tensor into a float one: use dequantize() on the source first")
    if x.shape != source.shape:
        raise ArgumentError(f"copy_ between quantized tensors needs one shape: got {tuple(source.shape)} for {tuple(x.shape)}")
    if isinstance(source, QTensor):
        if source.dtype != x.dtype or source.qscheme() != x.qscheme():
            raise ArgumentTypeError(
                f"copy_ between quantized tensors needs one dtype and scheme: got {source.dtype!r}, {source.qscheme()!r} for "
                f"{x.dtype!r}, {x.qscheme()!r}; dequantize() the source to requantize it"
            )
        if source.qparams != x.qparams:
            if x.is_window:
                return copy_(func, x, dequantize(source))
            x.qparams = source.qparams
        x.raw.copy_(source.raw, non_blocking)
        return x
    if source.dtype != torch.float32:
        raise ArgumentTypeError(f"copy_ into a quantized tensor needs a float32 or a quantized source, not {source.dtype}")
    x.raw.copy_(quantize(source.to(x.device), x, x.qparams))
    return x


@implements("fill_.Scalar", "fill_.Tensor")
def fill_(func: Any, x: QTensor, value: Any) -> QTensor:
    """One real number everywhere, quantized."""
    number = float(value)
    x.raw.copy_(quantize(torch.full(x.shape, number, device=x.device), x, x.qparams))
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
    return masked_fill_(func, x.clone(), mask, value)


@implements("index_put_.default", "_index_put_impl_.default")
def index_put_(func: Any, x: QTensor, indices: Any, values: Tensor, accumulate: bool = False, *unsafe: bool) -> QTensor:
    """Real numbers, or quantized ones, at some indices."""
    per_tensor_only(x, "assignment by index")
    if accumulate:
        raise UnsupportedError("index_put_ with accumulate=True on a quantized tensor is not defined; dequantize() first")
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
        target = x[index] if _is_basic(index) else None
        if target is None:
            x.__setitem__(index, value)
        else:
            target.copy_(torch.as_tensor(value, dtype=torch.float32, device=x.device).expand(target.shape))


@implements("resize_.default")
def resize_(func: Any, x: QTensor, size: Sequence[int], memory_format: torch.memory_format | None = None) -> QTensor:
    """Other sizes over the same storage, grown when needed."""
    per_tensor_only(x, "resize_")
    x._adopt(x.raw.resize_(size, **({} if memory_format is None else {"memory_format": memory_format})), x.qparams)
    return x


@implements("_has_compatible_shallow_copy_type.default")
def can_adopt(func: Any, x: Tensor, other: Tensor) -> bool:
    """torch asks this when the data of one tensor is set from another."""
    return isinstance(x, QTensor) and isinstance(other, QTensor)


@implements("empty_like.default")
def empty_like(func: Any, x: QTensor, *, dtype: Any = None, **kwargs: Any) -> QTensor:
    """The shape and parameters of x, without values."""
    return QTensor(func(x.raw, **kwargs), x.qparams, x.backend)


def _integer(x: QTensor, value: Any) -> int:
    return int(quantize(torch.full((1,), float(value), device=x.device), x, x.qparams))


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or (isinstance(part, int | slice) and not isinstance(part, bool)) for part in parts)
