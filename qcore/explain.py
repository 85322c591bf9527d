"""Node by node, who runs a model and why: what `qcore explain` prints."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from qcore.api._prepare import described
from qcore.api.modes import prepare
from qcore.api.quantize import quantize_dynamic
from qcore.api.saving import load
from qcore.api.stubs import QuantStub
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.quantized.base import QuantizedModule
from qcore.registry import registry
from qcore.report import Report, Row
from qcore.selection import BackendLike

COLUMNS = ("node", "type", "outcome", "runs on", "operator", "why")


def load_model(where: str) -> tuple[nn.Module, tuple[Any, ...] | None]:
    """A model, and example inputs where there are some, from "module:callable" or a file of qcore.save.

    The callable takes no arguments and returns a model, or a pair of a model and a tuple of inputs. ArgumentError for
    what cannot be found or read, a file of torch.save among it: nothing is unpickled. ArgumentTypeError for no model.
    """
    inputs: Any = None
    if Path(where).is_file():
        found = load(where)
    else:
        found = _made(where)
        if isinstance(found, tuple) and len(found) == 2:
            found, inputs = found
    if not isinstance(found, nn.Module) or not isinstance(inputs, tuple | None):
        raise ArgumentTypeError(
            f"{where} gives a {type(found).__name__}; it must be a torch.nn.Module, or a pair of one and a tuple of "
            "example inputs (a state dict alone is no model)"
        )
    return found, inputs


def explained(
    model: nn.Module, inputs: tuple[Any, ...] | None, backend: BackendLike | None, fallback: str | None = None
) -> Report:
    """The report of a model on a backend (None: its own, or the automatic choice), which stays as it is.

    A quantized model as it would run there; a float one as graph mode would quantize it where there are example inputs,
    else in eager mode where it has a QuantStub, else dynamically. Errors as of these.
    """
    if any(isinstance(module, QuantizedModule) for module in model.modules()):
        own: Any = getattr(model, "qcore_report", None)
        if backend is None and fallback is None and isinstance(own, Report):
            return own
        choice = registry.choose(getattr(model, "qcore_backend", None) if backend is None else backend, fallback)
        return Report(choice.name, tuple(_rows(model, choice.name)))
    chosen: Any = {"backend": "auto" if backend is None else backend, "fallback": fallback}
    if inputs is not None:
        return _report(prepare(model, example_inputs=inputs, **chosen))
    if any(isinstance(module, QuantStub) for module in model.modules()):
        return _report(prepare(model, **chosen))
    return _report(quantize_dynamic(model, **chosen))


def lines(report: Report) -> Iterable[tuple[str, ...]]:
    """A line for each node, with a reason on every one."""
    for row in report:
        yield (row.path or "(root)", row.float_type, row.outcome, row.backend, row.operator, row.reason or _why(row))


def _why(row: Row) -> str:
    if row.outcome == "quantized":
        return "first of the chosen that declares it"
    return "does nothing at inference" if row.outcome == "passed through" else ""


def _rows(model: nn.Module, backend: str) -> Iterable[Row]:
    for path, module in model.named_modules():
        if isinstance(module, QuantizedModule):
            own = module.backend
            module.backend = backend
            try:
                yield described(path, type(module).__name__, module)
            finally:
                module.backend = own


def _report(model: nn.Module) -> Report:
    found: Any = model
    report: Report = found.qcore_report
    return report


def _made(where: str) -> Any:
    name, colon, attribute = where.partition(":")
    if not colon:
        raise ArgumentError(f"{where!r} is no file; a model is the path of one, or module:callable")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(name), attribute)()
    except (ImportError, AttributeError) as error:
        raise ArgumentError(f"{where!r} cannot be found: {error}") from error
