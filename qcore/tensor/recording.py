"""What records operators (torch.jit.trace, torch.export) sees the integers of quantized tensors, not their wrappers.

It would record an operator on the wrapper before our handler is asked, and miss what that does with the integers. So
an operator on quantized tensors runs twice: unseen, to learn what it is made of, and then by our handlers alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from qcore.process import Shared

_is_tracing = torch._C._is_tracing
_modes = torch._C._len_torch_dispatch_stack
_LOG: ContextVar[list[Any] | tuple[()] | None] = ContextVar("qcore_learned_operators", default=None)
"""The ATen operators that a call which is being learned was made of so far; () inside of one of them; None: none is."""
log = _LOG.get

RESHAPING = ("flatten", "reshape", "view", "unflatten", "expand")
"""Functions recorded on the integers as they are called: what they are made of would fix the sizes of the example."""


def is_recording() -> bool:
    """Whether something sees every operator that runs."""
    return _is_tracing() or bool(_modes())


def is_learning() -> bool:
    """Whether a call is run to learn what it is made of."""
    return log() is not None


@contextmanager
def _without_tracer_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


quiet = Shared(_without_tracer_warnings)
"""A block of checks of ours while a trace is made: that they are not recorded needs no warning."""


@contextmanager
def unseen() -> Iterator[None]:
    """A block that nothing records."""
    state = torch._C._get_tracing_state() if _is_tracing() else None
    if state is not None:
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        with _disable_current_modes():
            yield
    finally:
        if state is not None:
            torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


@contextmanager
def _learning(operators: list[Any] | tuple[()]) -> Iterator[None]:
    token = _LOG.set(operators)
    try:
        yield
    finally:
        _LOG.reset(token)


def noted(run: Callable[..., Any], func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """`run` an ATen operator, and note it where a call is being learned."""
    operators = log()
    if not isinstance(operators, list):
        return run(func, args, kwargs)
    with _learning(()):  # what handlers call themselves belongs to them
        result = run(func, args, kwargs)
    operators.append((func, args, kwargs, result))
    return result


def recorded(run: Callable[..., Any], func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A function on quantized tensors, by the handlers of the ATen operators that it is made of, which are recorded."""
    operators: list[Any] = []
    with _learning(operators), unseen(), torch._C.DisableTorchFunctionSubclass():
        result = func(*args, **kwargs)
    twins: dict[int, Any] = {}

    def twin(value: Any) -> Any:
        return twins.get(id(value), value)

    for operator, operands, options, outcome in operators:
        again = run(operator, tree_map(twin, operands), tree_map(twin, options))
        twins.update(zip(map(id, tree_leaves(outcome)), tree_leaves(again), strict=True))
    return tree_map(twin, result)
