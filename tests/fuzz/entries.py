"""Every public name that can be called, found by introspection: functions, classes, methods, torch's functions, ops."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import torch

import qcore
from qcore.custom_ops.schema import CALLS
from qcore.operators import Operator

PACKAGES = "qcore.api", "qcore.nn", "qcore.onnx", "qcore.operators"
HOMES = ("qcore.nn.quantized.functional",)
"""Modules without a list of names, of which those that are written there are public."""
NOT_CALLED = {
    "registry.when_changed": "takes a listener that every later call would run",
    "qcore.hookimpl": "marks the functions of plugins",
    "qcore.operators.is_constant_free": "asked by qcore of operators",
}
_NAMES = """
    add radd iadd sub rsub mul rmul imul truediv matmul neg abs getitem setitem len bool int float iter contains eq ne
    lt le gt ge hash format invert and or pow
"""
OPERATORS = tuple(f"__{name}__" for name in _NAMES.split())


MADE_BY_QCORE = ("binding", "operator", "planned", "reason_against", "reason_against_layer", "activation_dtypes")
MADE_BY_QCORE += ("problem", "verdict", "find", "quantized_weight", "activated", "take")
"""Methods that qcore calls as it makes modules, with what it has made itself."""


@dataclass(frozen=True)
class Entry:
    """One thing to call; `takes_self`: its first argument is the object whose method it is."""

    name: str
    kind: str
    call: Callable[..., Any]
    takes_self: bool = False

    @property
    def short(self) -> str:
        return self.name.rpartition(".")[2]


def modules() -> Iterator[ModuleType]:
    """The modules whose names are public: those that list them, and those of `qcore.api`."""
    names = ["qcore", *PACKAGES]
    for package in PACKAGES:
        found = importlib.import_module(package)
        names += [info.name for info in pkgutil.walk_packages(found.__path__, package + ".")]
    for name in names:
        if any(part.startswith("_") for part in name.split(".")):
            continue
        module = importlib.import_module(name)
        if hasattr(module, "__all__") or name in HOMES or name.startswith("qcore.api."):
            yield module


def names_of(module: ModuleType) -> list[str]:
    """Those in `__all__`; without one, those that are written there."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return [name for name in own if not name.startswith("_")]


def _of_class(name: str, kind: type) -> Iterator[Entry]:
    yield Entry(name, "python", kind)
    for method in sorted(dir(kind)):
        home = next((base for base in kind.__mro__ if method in vars(base)), object)
        private = method.startswith("_") and method != "__call__"
        if private or method in MADE_BY_QCORE or not home.__module__.startswith("qcore"):
            continue
        value = inspect.getattr_static(kind, method)
        if isinstance(value, classmethod | staticmethod):
            yield Entry(f"{name}.{method}", "python", getattr(kind, method))
        elif inspect.isfunction(value):
            yield Entry(f"{name}.{method}", "python", _method(kind, method), True)


def _method(kind: type, name: str) -> Callable[..., Any]:
    """The method as a user calls it: a module's forward through the module, with its hooks."""
    if name == "forward" and issubclass(kind, torch.nn.Module):
        return lambda module, /, *args, **kwargs: module(*args, **kwargs)
    return lambda object, /, *args, **kwargs: getattr(object, name)(*args, **kwargs)


def python_entries() -> Iterator[Entry]:
    """Functions, classes and their methods, each once, under the first public name."""
    seen: set[int] = set()
    for module in modules():
        for name in names_of(module):
            value = getattr(module, name)
            whole = f"{module.__name__}.{name}"
            if id(value) in seen or whole in NOT_CALLED or not callable(value):
                continue
            if isinstance(value, type) and (
                issubclass(value, BaseException | Enum) or not value.__module__.startswith("qcore")
            ):
                continue
            seen.add(id(value))
            if value is qcore.QTensor or (isinstance(value, type) and issubclass(value, Operator)):
                yield Entry(whole, "python", value)
            elif isinstance(value, type):
                yield from _of_class(whole, value)
            elif not isinstance(value, qcore.Backend):
                yield Entry(whole, "python", value)
    for entry in _of_class("registry", type(qcore.registry)):
        if entry.name not in NOT_CALLED:
            yield entry


def torch_entries() -> Iterator[Entry]:
    """Methods and operators of a quantized tensor, and torch's functions that can be given one."""
    for method in sorted({*dir(torch.Tensor), *dir(qcore.QTensor)}):
        value = inspect.getattr_static(qcore.QTensor, method)
        if callable(value) and (method in OPERATORS or not method.startswith("_")):
            yield Entry(f"QTensor.{method}", "torch", _method(qcore.QTensor, method), True)
    for function in torch.overrides.get_testing_overrides():
        name = torch.overrides.resolve_name(function) or ""
        if name.startswith(("torch.nn.functional.", "torch.")) and not name.startswith(("torch.Tensor", "torch._")):
            yield Entry(name, "torch", function)


def op_entries() -> Iterator[Entry]:
    """Each operator as torch's custom op."""
    for kind in CALLS:
        yield Entry(f"torch.ops.qcore.{kind.name}", "op", getattr(torch.ops.qcore, kind.name))
