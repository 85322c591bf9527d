"""What a module of the user's class holds beside modules, parameters and buffers: numbers, tensors, lists of them.

Code reads it, and may change it: a scale that was set later, a list that grows with each call. It goes with the model.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from qcore.api._saving.values import Reader, Writer
from qcore.errors import ArgumentError, UnsupportedError
from qcore.fx.names import is_name

_OWN = frozenset(vars(nn.Module())) | {"qconfig", "activation_post_process"}
_PLAIN = (bool, int, float, slice, torch.dtype, torch.memory_format, type(None))
_MOST, _LONGEST = 10_000, 1000


def write(module: nn.Module, writer: Writer, path: str) -> dict[str, Any]:
    """The attributes of a module, by name. Functions, objects and what holds them are its code, and left to that."""
    found: dict[str, Any] = {}
    if type(module).__module__.partition(".")[0] in ("torch", "qcore"):
        return found
    for name, value in vars(module).items():
        if name in _OWN or name.startswith("qcore") or not is_name(name) or not _is_data(value):
            continue
        with suppress(UnsupportedError):  # a sparse tensor, say, which is left to the code as well
            found[name] = writer.write(value, f"{path}.{name}" if path else name)
    return found


def take(module: nn.Module, stored: dict[str, Any], where: str, reader: Reader) -> None:
    """Give a module the attributes that it had; ArgumentError for the name of what is no such value, and for another
    string than it has: code may mean more by one than a value."""
    for name, each in stored.items():
        value = reader.read(each)
        now = vars(module).get(name, inspect.getattr_static(type(module), name, None))
        is_taken = any(name in held for held in (module._parameters, module._buffers, module._modules))
        if is_taken or name in _OWN or name.startswith("qcore") or not _is_data(now):
            raise ArgumentError(f"{where}: its attribute {name!r} has the name of something else")
        if _has_text(value) and not _same(value, now):
            raise ArgumentError(
                f"{where} had {name}={str(value)[:60]!r}, and the model that was given has {str(now)[:60]!r}: set it "
                "there"
            )
        vars(module)[name] = value  # past what a class of the user's does where it is set


def _is_data(value: Any) -> bool:
    left, pending = _MOST, [value]
    while pending and left:
        each = pending.pop()
        left -= 1
        if type(each) in (tuple, list):
            pending += each
        elif type(each) is dict and all(type(key) is str for key in each):
            pending += each.values()
        elif isinstance(each, str):
            if len(each) > _LONGEST or not each.isprintable():
                return False
        elif not isinstance(each, _PLAIN) and type(each) is not Tensor:
            return False
    return not pending


def _has_text(value: Any) -> bool:
    if isinstance(value, dict):
        return True
    return isinstance(value, str) or (isinstance(value, tuple | list) and any(map(_has_text, value)))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)
