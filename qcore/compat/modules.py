"""Modules under the names of torch's legacy ones, filled with what qcore has."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any

from qcore.compat.layout import inventory, resolve
from qcore.compat.refused import refusal

KEPT = "torch.ao.quantization.fx._decomposed"
"""Torch's own still: Inductor and torch.export import it, and nothing in it needs the legacy stack."""


class CompatModule(ModuleType):
    """A module of torch's by name, whose contents are qcore's."""

    def __getattr__(self, name: str) -> Any:
        near = difflib.get_close_matches(name, vars(self), 3)
        hint = f"; the nearest names: {', '.join(near)}" if near else ""
        raise AttributeError(f"module {self.__name__!r}, which qcore.compat has installed, has no {name!r}{hint}")


def legacy_modules() -> dict[str, CompatModule]:
    """Every module of the legacy stack by name; submodules are attributes, unless a function has their name."""
    listed = inventory()
    made = {name: _filled(name, listed[name]) for name in listed if name not in ("torch", "torch.ops.quantized")}
    for name, module in made.items():
        parent, _, child = name.rpartition(".")
        if parent in made and child not in vars(made[parent]):
            setattr(made[parent], child, module)
    return made


def _filled(name: str, names: tuple[str, ...]) -> CompatModule:
    module = CompatModule(name, f"qcore under the names of {name}.")
    module.__path__ = []  # importing a submodule that is not listed is an error, and never loads torch's own
    module.__package__ = name
    for each in names:
        setattr(module, each, resolve(name, each))
    module.__all__ = [each for each in names if not each.startswith("_")]  # type: ignore[attr-defined]
    return module


def operators() -> ModuleType:
    """The namespace torch.ops.quantized: a function for each operator, of which its overloads are attributes."""
    name = "torch.ops.quantized"
    module = CompatModule(name, f"qcore under the names of {name}.")
    for each in inventory()[name]:
        operator, _, overload = each.partition(".")
        found = resolve(name, operator)
        setattr(module, operator, found)
        if overload and refusal(found) is None:
            setattr(found, overload, found)
    return module


def functions() -> dict[str, Any]:
    """Functions, dtypes and schemes of torch itself, by name."""
    return {name: resolve("torch", name) for name in inventory()["torch"]}
