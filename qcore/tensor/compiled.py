"""torch.compile breaks its graph around quantized tensors, and modules on them, which run as they do without it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from qcore.tensor.recording import quiet

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def outside_of_graphs(function: FunctionT) -> FunctionT:
    """The function, hidden from torch.compile.

    As torch.compiler.disable, which takes a second to import what it needs, and so is called when that is there.
    """
    hidden: Callable[..., Any] | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hidden
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if hidden is None:
            hidden = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return hidden(*args, **kwargs)

    return cast(FunctionT, call)


def quietly(function: FunctionT) -> FunctionT:
    """The function, whose checks torch.jit.trace does not warn of."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling() and torch._C._is_tracing():
            with quiet():
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    return cast(FunctionT, call)
