"""Sizes, dtype and memory layout of results, known without their numbers: for fake tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from qcore.tensor.qparams import QParams

Form: TypeAlias = tuple[Sequence[Any], torch.dtype, torch.memory_format]
"""Sizes, which may be symbols, dtype and layout of one result."""

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Layouts with the channels last, by the number of dimensions."""


def layout(x: Tensor, rank: int) -> torch.memory_format:
    """channels_last for a result of `rank` dimensions where x is, else contiguous."""
    last = LAST.get(rank)
    if last is None or x.ndim != rank or x.is_contiguous() or not x.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


def like(x: Tensor, shape: Sequence[Any], dtype: torch.dtype) -> Form:
    """A result that is laid out as x."""
    return shape, dtype, layout(x, len(shape))


def floats(*shape: Any) -> Form:
    """A float32 result in the order of its dimensions."""
    return shape, torch.float32, torch.contiguous_format


def broadcast(a: Tensor, b: Tensor, dtype: torch.dtype) -> Form:
    """A result of two tensors that broadcast."""
    shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    return like(a if a.ndim >= b.ndim else b, shape, dtype)


def windows(
    sizes: Sequence[Any],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool = False,
) -> list[Any]:
    """How many windows fit into padded sizes, for each dimension, as in torch's pooling and convolutions."""
    found = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = (room + (s - 1 if ceil_mode else 0)) // s + 1
        # the last window must begin inside of the input or the padding before it
        found.append(count - 1 if ceil_mode and (count - 1) * s >= n + p else count)
    return found


def storage(x: Tensor, out: QParams | None) -> torch.dtype:
    """The dtype of integers of `out`; of x where these keep its parameters."""
    return x.dtype if out is None else out.dtype.storage
