"""Run the callers in one process: on torch as it is, or on qcore in torch's place.

    python -m tests.compat.run MODE OUT [NAME...]

MODE: `torch`, the originals under the fbgemm engine; `installed`, qcore in their place; `raising`, the same where every
line of the originals, Python or native, raises; `removed`, the same where torch has none of them any more.
OUT: a file for the results; NAME: modules of tests.compat.callers, by default all.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import traceback
import warnings
from typing import Any

import torch

from tests.compat import callers

MODES = ("torch", "installed", "raising", "removed")


def names() -> list[str]:
    """Modules of callers."""
    return sorted(each.name for each in pkgutil.iter_modules(callers.__path__))


def run(modules: list[str]) -> dict[str, Any]:
    """What each caller returns, by "module.function"; of one that fails, the traceback."""
    found: dict[str, Any] = {}
    for name in modules:
        module = importlib.import_module(f"tests.compat.callers.{name}")
        for function in list(vars(module).values()):
            key = f"{name}.{getattr(function, '__name__', '')}"
            if getattr(function, "__module__", "") != module.__name__ or not _is_caller(function):
                continue
            torch.manual_seed(0)
            try:
                found[key] = {item: _plain(value) for item, value in function().items()}
            except Exception:
                found[key] = traceback.format_exc()
    return found


def _is_caller(function: Any) -> bool:
    """A public function without arguments."""
    named = inspect.isfunction(function) and not function.__name__.startswith("_")
    return named and not inspect.signature(function).parameters


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def prepare(mode: str) -> None:
    """Bring this process into a mode."""
    if mode == "torch":
        warnings.simplefilter("ignore")
        from tests.compat.originals import use_fbgemm

        use_fbgemm()
        return
    warnings.filterwarnings("error", module=r"qcore(\..*)?")
    if mode == "removed":
        from tests.without_legacy_torch import remove

        remove()
    if mode == "raising":
        from tests.compat.originals import raise_everywhere

        raise_everywhere()
    import qcore.compat

    qcore.compat.install()


if __name__ == "__main__":
    mode, out, *chosen = sys.argv[1:]
    prepare(mode)
    torch.save(run(chosen or names()), out)
