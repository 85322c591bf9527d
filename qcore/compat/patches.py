"""Attributes and entries of sys.modules that were replaced, and how to put them back."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_ABSENT = object()


class Patches:
    """What was replaced, in order; `undo` restores each thing to what it was, an absent one to being absent."""

    def __init__(self) -> None:
        self._attributes: list[tuple[Any, str, Any]] = []
        self._modules: list[tuple[str, Any]] = []

    def attribute(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of a module or class."""
        self._attributes.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def module(self, name: str, module: ModuleType | None) -> None:
        """Set an entry of sys.modules; with None, take it out."""
        self._modules.append((name, sys.modules.get(name, _ABSENT)))
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module

    def undo(self) -> None:
        """Restore everything, the last change first."""
        while self._attributes:
            owner, name, former = self._attributes.pop()
            if former is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, former)
        while self._modules:
            name, former = self._modules.pop()
            if former is _ABSENT:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = former
