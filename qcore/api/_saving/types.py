"""Whether a value from a file is of the type that a constructor says it takes."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch


def hints(kind: type) -> dict[str, Any]:
    """The types of the arguments of a class's constructor by name, of those that it says."""
    return _hints(kind)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    made = kind if hasattr(kind, "__dataclass_fields__") else kind.__init__
    try:
        return {name: each for name, each in typing.get_type_hints(made).items() if name != "return"}
    except (NameError, TypeError):
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; lists and tuples are taken for each other, as torch's modules do."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is typing.Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is Callable:
        return False
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        is_row = isinstance(value, tuple | list) and len(value) == len(inner)
        return is_row and all(fits(each, wanted) for each, wanted in zip(value, inner, strict=True))
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return isinstance(value, tuple | list) and all(fits(each, inner[0]) for each in value)
    if hint is torch.Size:
        return isinstance(value, tuple | list) and all(type(each) is int for each in value)
    if hint in (int, bool, str):
        return type(value) is hint
    if hint is float:
        return type(value) in (int, float)
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)
