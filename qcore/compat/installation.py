"""Putting qcore under the names of torch's legacy stack, and taking it away again."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import fx

from qcore.compat import leaves
from qcore.compat.engine import QuantizedEngine
from qcore.compat.functions.loading import loader
from qcore.compat.functions.scripting import scripter
from qcore.compat.modules import KEPT, functions, legacy_modules, operators
from qcore.compat.patches import Patches
from qcore.registry import registry

SWITCH = "QCORE_COMPAT"
_LOCK = threading.RLock()
_patches: Patches | None = None
_preferred: str | None = None


def is_installed() -> bool:
    """Whether torch's names mean qcore now."""
    return _patches is not None


def install() -> None:
    """Let every public name of torch's legacy quantization mean qcore; once installed, a second call does nothing.

    Modules that have imported names from there before keep torch's own: a warning lists them.
    """
    global _patches, _preferred
    with _LOCK:
        if _patches is not None:
            return
        _warn_of_early_imports()
        patches = Patches()
        _preferred = registry.preferred
        try:
            _replace(patches)
        except BaseException:
            patches.undo()
            raise
        _patches = patches


def uninstall() -> None:
    """Put back everything that `install` has replaced; nothing where it has not."""
    global _patches
    with _LOCK:
        if _patches is not None:
            _patches.undo()
            _patches = None
            registry.prefer(_preferred)


@contextmanager
def installed() -> Iterator[None]:
    """Installed for the time of a block; where it is already, it stays so after."""
    before = is_installed()
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()


def install_if_asked() -> bool:
    """`install` where the environment variable QCORE_COMPAT is 1, and say so; a program that calls this lets its users
    choose."""
    if os.environ.get(SWITCH) == "1":
        install()
    return is_installed()


def _replace(patches: Patches) -> None:
    made = legacy_modules()
    own = sys.modules.get(KEPT)
    stale = [name for name in sys.modules if name not in made and _legacy(name, made)]
    for name in stale:
        patches.module(name, None)
    for name, module in made.items():
        patches.module(name, module)
    for name in ("torch.ao", "torch.ao.nn"):
        if not isinstance(sys.modules.get(name), ModuleType):
            patches.module(name, ModuleType(name))
    for name in ("torch.ao", *made):
        parent, _, child = name.rpartition(".")
        if parent not in made:
            patches.attribute(sys.modules[parent], child, sys.modules[name])
    _keep(patches, made["torch.ao.quantization.fx"], own)
    for name, value in functions().items():
        patches.attribute(torch, name, value)
    patches.attribute(torch.jit, "script", scripter(torch.jit.script))
    load = loader(torch.load)
    for owner in (torch, torch.serialization):
        patches.attribute(owner, "load", load)
    namespace = operators()
    patches.module("torch.ops.quantized", namespace)
    patches.attribute(torch.ops, "quantized", namespace)
    engine = QuantizedEngine()
    patches.module("torch.backends.quantized", engine)
    patches.attribute(torch.backends, "quantized", engine)
    patches.attribute(fx.Tracer, "is_leaf_module", leaves.is_leaf_module)


def _legacy(name: str, made: Mapping[str, ModuleType]) -> bool:
    """Whether a module lies under one that is replaced."""
    parts = name.split(".")
    return any(".".join(parts[:cut]) in made for cut in range(2, len(parts)))


def _keep(patches: Patches, package: ModuleType, own: ModuleType | None) -> None:
    """Leave the one module of torch's importable that other parts of torch need."""
    if own is not None:
        patches.module(KEPT, own)
        package._decomposed = own  # type: ignore[attr-defined]
    folders = (os.path.join(folder, "ao", "quantization", "fx") for folder in torch.__path__)
    package.__path__ = [folder for folder in folders if os.path.exists(os.path.join(folder, "_decomposed.py"))]


def _warn_of_early_imports() -> None:
    """One warning that lists modules, not torch's, which hold classes and functions of torch's legacy stack already."""
    prefixes = ("torch.ao.quantization", "torch.ao.nn.", "torch.quantization")
    early = sorted(
        name
        for name, module in list(sys.modules.items())
        if not name.startswith("torch.") and isinstance(module, ModuleType) and _holds(module, prefixes)
    )
    if early:
        shown = ", ".join(early[:5]) + (f" and {len(early) - 5} more" if len(early) > 5 else "")
        warnings.warn(
            f"qcore.compat.install(): {shown} imported torch's own quantization before, and keeps using it; call "
            "install() before importing that",
            stacklevel=3,
        )


def _holds(module: ModuleType, prefixes: tuple[str, ...]) -> bool:
    for value in list(vars(module).values()):
        if isinstance(value, type) or callable(value):
            origin = getattr(value, "__module__", None)
            if isinstance(origin, str) and origin.startswith(prefixes):
                return True
    return False
