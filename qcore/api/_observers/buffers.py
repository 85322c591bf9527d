"""Buffers whose size is known only when data come."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def hold(module: nn.Module, **values: Tensor) -> None:
    """Give buffers these values: in place where the shape stays, else in memory of their own.

    What is shared between processes, mapped from a file or lent by NumPy cannot be resized.
    """
    for name, value in values.items():
        make_room(module, name, value)
        getattr(module, name).copy_(value)


def make_room(module: nn.Module, name: str, like: Any) -> None:
    """Give a buffer the shape of `like`, for what is copied into it next; anything but a tensor is left to torch."""
    buffer = getattr(module, name)
    if isinstance(like, Tensor) and buffer.shape != like.shape:
        setattr(module, name, buffer.new_empty(like.shape))
