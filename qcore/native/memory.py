"""Memory formats: kernels of images want their channels innermost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qcore.errors import ArgumentError
from qcore.tensor.qparams import QParams

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(x: Tensor) -> Tensor:
    """x with channels (axis 1) innermost in memory, in 3 to 5 dimensions; x itself where it is so."""
    found = _FORMATS.get(x.ndim)
    if found is not None:
        return x.contiguous(memory_format=found)
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def no_room(shape: Sequence[int], error: Exception) -> ArgumentError:
    """What to raise where torch has no memory for a result of this shape."""
    return ArgumentError(f"a result of {tuple(shape)} does not fit into memory: {str(error).splitlines()[0]}")


def empty_channels_last(shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Tensor:
    """A tensor with channels innermost in memory. Raises ArgumentError where there is no room for it."""
    found = _FORMATS.get(len(shape))
    try:
        if found is not None:  # sizes one by one are parsed faster than a tuple
            return torch.empty(*shape, dtype=dtype, memory_format=found)
        batch, channels, length = shape
        return torch.empty((batch, length, channels), dtype=dtype).transpose(1, 2)
    except (RuntimeError, TypeError) as error:
        raise no_room(shape, error) from None


def empty_contiguous(shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Tensor:
    """A contiguous tensor. Raises ArgumentError where there is no room for it."""
    try:
        return torch.empty(*shape, dtype=dtype)
    except (RuntimeError, TypeError) as error:
        raise no_room(shape, error) from None


def is_channels_last(x: Tensor) -> bool:
    """Whether x asks for a result with channels innermost, rather than contiguous."""
    found = _FORMATS.get(x.ndim)
    return found is not None and not x.is_contiguous() and x.is_contiguous(memory_format=found)


def as_bytes(x: Tensor) -> Tensor:
    """Integers of int8 as uint8, bit for bit."""
    return x.view(torch.uint8) if x.dtype == torch.int8 else x


def unsigned(x: Tensor, q: QParams) -> tuple[Tensor, int | Tensor]:
    """Integers as uint8, and their zero point: those of int8 are 128 more."""
    return (x.view(torch.uint8) ^ 128, q.zero_point + 128) if x.dtype == torch.int8 else (x, q.zero_point)


def dense(x: Tensor) -> Tensor:
    """x as one run of memory: contiguous, or channels last as it is."""
    return x if x.is_contiguous() or is_channels_last(x) else x.contiguous()


def alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both broadcast to one shape, dense, with the same strides: those of a."""
    if a.shape != b.shape:
        a, b = torch.broadcast_tensors(a, b)  # type: ignore[no-untyped-call]
    a = dense(a)
    if a.stride() == b.stride():
        return a, b
    return a, b.contiguous(memory_format=_FORMATS[a.ndim] if is_channels_last(a) else torch.contiguous_format)
