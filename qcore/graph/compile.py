"""Compile a model that was converted module by module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import fx, nn

from qcore.errors import ArgumentError, QuantizationError
from qcore.fx.arguments import by_parameter
from qcore.fx.graph_module import QuantizedGraphModule
from qcore.fx.trace import Untraceable, trace
from qcore.fx.views import reshape_views
from qcore.graph.from_fx import FUNCTIONALS
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.functional_modules import QFunctional
from qcore.registry import registry
from qcore.report import Report, Row


def compile(model: nn.Module, example_inputs: tuple[Any, ...]) -> nn.Module:
    """A model from convert or quantize_dynamic, traced, so that what its backend claims runs as compiled parts.

    The result shares the model's modules, and so its weights; a model from convert_fx is returned as it is.
    `example_inputs`: a tuple of inputs as the model takes them. Modules that cannot be traced are called as they are;
    where that is the model itself, the result runs its modules, and its report says why. Raises ArgumentError for
    example inputs that are no tuple, QuantizationError for a model that is not converted.
    """
    if isinstance(model, QuantizedGraphModule) and "qcore_runs_on" in vars(model):
        return model
    if not isinstance(example_inputs, tuple):
        raise ArgumentError(f"compile: example_inputs must be a tuple of inputs, not {type(example_inputs).__name__}")
    if not any(isinstance(module, QuantizedModule) for module in model.modules()):
        raise QuantizationError(
            "compile: this model has no quantized modules; give it what convert, quantize_dynamic or convert_fx made"
        )
    try:
        with _recording(model):
            traced = trace(model, lambda path, module: "", by_parameter(model, example_inputs)).model
    except Untraceable as error:
        return _on_modules(model, str(error))
    reshape_views(traced.graph)
    traced.recompile()
    traced.qcore_runs_on = registry.choose(getattr(model, "qcore_backend", None)).name  # type: ignore[assignment]
    traced.carry(model)
    shared = set(model.modules())  # which keep their modes
    for module in traced.modules():
        if module not in shared:
            module.training = model.training
    return traced


def _on_modules(model: nn.Module, reason: str) -> nn.Module:
    """A model that shares all that another has, with a report that says why it is not compiled."""
    same: nn.Module = copy.copy(model)
    found: Any = getattr(model, "qcore_report", None)
    row = Row("", type(model).__name__, "passed through", reason=f"not compiled, as it {reason}", asked=False)
    if isinstance(found, Report):
        same.qcore_report = replace(found, rows=(row, *found.rows))  # type: ignore[assignment]
    return same


_METHODS = (*FUNCTIONALS, "matmul", "add_scalar", "mul_scalar")


@contextmanager
def _recording(model: nn.Module) -> Iterator[None]:
    """Within it, methods of QFunctionals that are called with what a tracer gives are recorded, as calls of methods."""
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, QFunctional)]
    for path, module in found:
        vars(module).update({name: _recorder(module, path, name) for name in _METHODS})
    try:
        yield
    finally:
        for _, module in found:
            for name in _METHODS:
                vars(module).pop(name)


def _recorder(module: nn.Module, path: str, name: str) -> Callable[..., Any]:
    def record(*args: Any, **kwargs: Any) -> Any:
        given = args[0][0] if name == "cat" else args[0]
        if not isinstance(given, fx.Proxy):
            return getattr(type(module), name)(module, *args, **kwargs)
        owner = given.tracer.create_proxy("get_attr", path, (), {})
        return given.tracer.create_proxy("call_method", name, (owner, *args), kwargs)

    return record
