"""torch.compile breaks its graph around quantized tensors, and modules on them, which run as they do without it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

_looks_on = torch._C._dynamo.eval_frame.get_eval_frame_callback
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def outside_of_graphs(function: FunctionT) -> FunctionT:
    """The function, hidden from torch.compile.

    As torch.compiler.disable, which takes a second to import what it needs, and so is called when that is there; its
    detour is taken only where a compiler looks on.
    """
    hidden: Callable[..., Any] | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hidden
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not torch.compiler.is_compiling() and _looks_on() is None:
            return function(*args, **kwargs)
        if hidden is None:
            hidden = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return hidden(*args, **kwargs)

    return cast(FunctionT, call)
