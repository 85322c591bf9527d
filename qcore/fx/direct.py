"""direct: the functions that a forward calls by itself, for the report on forwards that cannot be traced."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from qcore.fx.constants import WITH_WEIGHTS
from qcore.fx.patterns import CALLS

_LEAVES = str(Path(__file__).with_name("leaves.py"))
_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))


def _names(targets: Iterable[Any]) -> frozenset[str]:
    return frozenset(str(getattr(target, "__name__", target)).strip("_") for target in targets)


_COMPUTING = _names(
    (*(key for key, rule in CALLS.items() if not rule.moves), *WITH_WEIGHTS, F.scaled_dot_product_attention)
)
_MOVING = _names(key for key, rule in CALLS.items() if rule.moves) | {
    "get", "to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "requires_grad",
}  # fmt: skip


@dataclass(frozen=True)
class DirectCall:
    """A function that a forward calls, and the line of the user's code that does; `quantizes`: where it is traced."""

    name: str
    where: str
    quantizes: bool


class DirectCalls(TorchFunctionMode):
    """Notes the functions that compute floats from floats, by the path of the module that calls them; `stack`: paths of
    modules that run now, the innermost last."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.found: dict[str, dict[DirectCall, None]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        makes = name in _MOVING or name.startswith("new_") or name.endswith("_like")
        if self.stack and not makes and _is_float(result) and any(map(_is_float, tree_leaves((args, kwargs)))):
            self.found.setdefault(self.stack[-1], {})[DirectCall(name, _line(), name in _COMPUTING)] = None
        return result


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _line() -> str:
    """The line that calls: the user's, or, of a module of torch's that no module of the user's calls, its own."""
    frame: FrameType | None = sys._getframe(2)
    found = None
    while frame is not None and frame.f_code.co_filename != _LEAVES:
        path = frame.f_code.co_filename
        users = not path.startswith(_NOT_THE_USERS)
        if users or (found is None and "/nn/" in path and not path.endswith("functional.py")):
            found = frame
        frame = None if users else frame.f_back
    if found is None:
        return "a place that cannot be found"
    path, number = found.f_code.co_filename, found.f_lineno
    return f"{path}:{number}: {linecache.getline(path, number).strip()}"
