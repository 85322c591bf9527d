"""Checks of what users give as arguments: each names the argument, what was given and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from operator import index
from typing import Any

from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError


def check_module(name: str, model: Any) -> None:
    """ArgumentTypeError for anything but a module; `name`: what was called."""
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"{name}: the model must be a torch.nn.Module, not {type(model).__name__}")


def check_callable(**functions: Any) -> None:
    """ArgumentTypeError for what cannot be called."""
    for name, function in functions.items():
        if not callable(function):
            raise ArgumentTypeError(f"{name}={function!r} must be a function, or a class")


def check_whole(least: int | None = None, **values: Any) -> None:
    """Whole numbers, of at least `least`; ArgumentTypeError for anything else, ArgumentError for smaller ones."""
    for name, value in values.items():
        try:
            number = None if isinstance(value, bool | Tensor) else index(value)
        except TypeError:
            number = None
        if number is None:
            raise ArgumentTypeError(f"{name}={value!r} must be a whole number")
        if least is not None and number < least:
            raise ArgumentError(f"{name}={value!r} must be at least {least}")


def check_number(least: float = -math.inf, most: float = math.inf, **values: Any) -> None:
    """Finite numbers in [least, most]; ArgumentTypeError for anything else, ArgumentError for other numbers."""
    for name, value in values.items():
        try:
            number = None if isinstance(value, bool | str) else float(value)
        except (TypeError, ValueError, RuntimeError):
            number = None
        if number is None:
            raise ArgumentTypeError(f"{name}={value!r} must be a number")
        if not (math.isfinite(number) and least <= number <= most):
            raise ArgumentError(f"{name}={value!r} must be a finite number in [{least:g}, {most:g}]")


def check_broadcast(name: str, a: Sequence[int], b: Sequence[int]) -> None:
    """ArgumentError for shapes that do not broadcast."""
    pairs = zip_longest(reversed(a), reversed(b), fillvalue=1)
    if any(m != n and 1 not in (m, n) for m, n in pairs):
        raise ArgumentError(f"{name}: shapes {tuple(a)} and {tuple(b)} do not broadcast")


def check_cat(name: str, shapes: Sequence[Sequence[int]], dim: Any) -> None:
    """ArgumentError for a dimension that is not there, or shapes that differ in another one."""
    check_whole(dim=dim)
    rank = len(shapes[0])
    if not -rank <= dim < rank:
        raise ArgumentError(f"{name}: dim={dim} does not exist in a tensor of shape {tuple(shapes[0])}")
    others = [(*shape[: dim % rank], *shape[dim % rank + 1 :]) for shape in shapes]
    if any(len(shape) != rank for shape in shapes) or len(set(others)) > 1:
        raise ArgumentError(f"{name}: shapes {', '.join(map(str, map(tuple, shapes)))} differ in more than dim={dim}")
