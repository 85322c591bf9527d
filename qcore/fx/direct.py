"""direct: the functions that a forward calls by itself, for the report on forwards that cannot be traced."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from qcore.fx.constants import WITH_WEIGHTS
from qcore.fx.patterns import CALLS, Role

_TORCH = str(Path(torch.__file__).parent)
_NAMES = {
    str(getattr(target, "__name__", target))
    for target in (
        *(target for target, rule in CALLS.items() if rule.role in (Role.COMPUTE, Role.FIXED)),
        *WITH_WEIGHTS,
        F.scaled_dot_product_attention,
        torch.cat,
    )
}
"""Names of functions that quantize where they are traced."""


@dataclass(frozen=True)
class DirectCall:
    """A function that a forward calls, and the line of the user's code that does."""

    name: str
    where: str


class DirectCalls(TorchFunctionMode):
    """Notes the functions that quantize, by the path of the module that calls them; `stack`: paths of modules that run
    now, the innermost last."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.found: dict[str, dict[DirectCall, None]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if self.stack and name in _NAMES and isinstance(result, Tensor) and result.is_floating_point():
            self.found.setdefault(self.stack[-1], {})[DirectCall(name, _line())] = None
        return result


def _line() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    path, number = frame.f_code.co_filename, frame.f_lineno
    return f"{path}:{number}: {linecache.getline(path, number).strip()}"
