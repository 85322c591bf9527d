"""Functions in the place of torch's: they ask tensor subclasses and torch.fx first, as torch's own do."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from torch.overrides import handle_torch_function, has_torch_function

from qcore.tensor.qtensor import QTensor

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def overridable(module: str) -> Callable[[FunctionT], FunctionT]:
    """The function under the name of a module of torch's; arguments with a `__torch_function__` of their own, such as
    the proxies of torch.fx, are asked, and get the function itself."""

    def decorate(function: FunctionT) -> FunctionT:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            others = tuple(_others(args, kwargs))
            if has_torch_function(others):
                return handle_torch_function(call, others, *args, **kwargs)
            return function(*args, **kwargs)

        del call.__wrapped__  # what is pickled by name is the function asked for
        call.__module__ = module
        call.__qualname__ = call.__name__
        return cast(FunctionT, call)

    return decorate


def _others(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Arguments to ask, those in lists too; our own tensors need not be."""
    flat: list[Any] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, list | tuple):
            flat += value
        else:
            flat.append(value)
    return [value for value in flat if not isinstance(value, QTensor)]
