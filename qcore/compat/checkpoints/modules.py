"""Pickled modules -> modules of ours, and torch's float ones, made by their own constructors and loaders."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qcore.api._prepare import bind_model, described
from qcore.api._saving.arguments import Bounded, Budget
from qcore.compat.checkpoints.names import PARTS, float_class, quantized_class
from qcore.compat.checkpoints.packed import is_packed, unpacked
from qcore.compat.checkpoints.states import with_options
from qcore.compat.checkpoints.unpickle import Stored
from qcore.errors import ArgumentError, QcoreError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.conv import ConvBase
from qcore.registry import registry
from qcore.report import Report
from qcore.tensor.dtypes import QDType
from qcore.tensor.qtensor import QTensor

_CONV_STATE = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "transposed", "output_padding",
    "groups", "padding_mode", "weight", "bias", "scale", "zero_point", "training",
)  # fmt: skip


def module(stored: Stored, allow: Sequence[type[nn.Module]], budget: Budget) -> nn.Module:
    """The module for one in a file, bound to the backend that is chosen automatically, with a report."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in allow}
    made = _made(stored, "", kinds, budget)
    backend = registry.choose().backend.name
    rows = []
    for path, part in made.named_modules():
        if isinstance(part, QuantizedModule):
            part.qcore_path, part.backend = path, backend
            if type(part).operator is not QuantizedModule.operator:
                rows.append(described(path, type(part).__name__, part))
    bind_model(made, Report(backend, tuple(rows), "the automatic choice, as the file names none"))
    return made


def graph_state(stored: Stored, budget: Budget) -> OrderedDict[str, Any]:
    """The state dict of a stored graph module, whose code is not run."""
    state = _state(stored)
    whole = nn.Module()
    for name, value in {**state["_parameters"], **state["_buffers"]}.items():
        whole.register_buffer(name, value)
    for name, child in state["_modules"].items():
        whole.add_module(name, _made(child, name, {}, budget))
    return whole.state_dict()  # type: ignore[return-value]


def _made(stored: Any, path: str, kinds: Mapping[str, type[nn.Module]], budget: Budget) -> nn.Module:
    if not isinstance(stored, Stored):
        raise ArgumentError(f"module {path!r} is a {type(stored).__name__}")
    budget.take(256)
    ours = quantized_class(stored.name)
    try:
        if ours is not None:
            return _quantized(stored, ours, budget)
        kind = kinds.get(stored.name) or float_class(stored.name)
        if kind is None:
            raise ArgumentError(f"its class {stored.name} is none of a module's")
        return _float(stored, kind, path, kinds, budget)
    except QcoreError as error:
        if str(error).startswith("module "):
            raise
        raise ArgumentError(f"module {path or '(root)'!r} ({stored.name}): {error}") from error
    except Exception as error:
        message = f"module {path or '(root)'!r} ({stored.name}) is corrupt: {type(error).__name__}: {error}"
        raise ArgumentError(message) from error


def _float(
    stored: Stored, kind: type[nn.Module], path: str, kinds: Mapping[str, type[nn.Module]], budget: Budget
) -> nn.Module:
    """A module with the parts and the plain attributes that the file has for it; hooks are left behind."""
    state = _state(stored)
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    for name, child in state["_modules"].items():
        made._modules[name] = None if child is None else _made(child, f"{path}.{name}" if path else name, kinds, budget)
    for place in ("_parameters", "_buffers"):
        for name, value in state[place].items():
            if value is not None and not isinstance(value, Tensor):
                raise ArgumentError(f"its {name} is a {type(value).__name__}, not a tensor")
            if place == "_parameters" and value is not None and not isinstance(value, nn.Parameter | QTensor):
                value = nn.Parameter(value, False)
            made.__dict__[place][name] = value
    made._non_persistent_buffers_set = set(state.get("_non_persistent_buffers_set") or ())
    for name, value in state.items():
        if name in vars(nn.Module()) and name != "training":
            continue
        if not _is_plain(value) or callable(getattr(kind, name, None)):
            raise ArgumentError(f"its attribute {name!r} is a {type(value).__name__}, which is not read")
        made.__dict__[name] = value
    return made


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list | set):
        return all(_is_plain(each) for each in value)
    if isinstance(value, dict):
        return all(_is_plain(each) for each in value.values())
    return value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | QDType | Tensor)


def _quantized(stored: Stored, kind: type[nn.Module], budget: Budget) -> nn.Module:
    """One of our modules, made by its constructor within the budget, with what it would find in a state dict."""
    if issubclass(kind, ConvBase):
        if not isinstance(stored.state, tuple) or len(stored.state) < len(_CONV_STATE) - 1:
            raise ArgumentError("a convolution's state is no tuple")
        found = dict(zip(_CONV_STATE, stored.state, strict=False))
    else:
        found = _attributes(stored)
    with Bounded(budget):
        made = kind(**_arguments(kind, found))
    values = OrderedDict(_values(made, stored, found))
    made.load_state_dict(with_options(values, {path: {} for path, _ in made.named_modules()}))
    return made.train(bool(found.get("training", False)))


def _attributes(stored: Stored) -> dict[str, Any]:
    """Attributes, buffers and parameters of a stored module, by name."""
    state = _state(stored)
    return {**state, **state["_parameters"], **state["_buffers"]}


def _state(stored: Stored) -> dict[str, Any]:
    state = stored.state
    places = ("_modules", "_parameters", "_buffers")
    if not isinstance(state, dict) or not all(isinstance(state.get(place), dict) for place in places):
        raise ArgumentError("the state of a module is missing or no module's")
    return state


def _arguments(kind: type[nn.Module], found: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor takes, from attributes of the same names."""
    arguments: dict[str, Any] = {}
    for name in inspect.signature(kind).parameters:
        attribute = {"output_scale": "scale", "output_zero_point": "zero_point"}.get(name, name)
        value = found.get(attribute)
        if name in ("bias", "bias_") and not isinstance(value, Tensor | bool):
            arguments[name] = value is not None
        elif name == "bias" and isinstance(value, Tensor) and issubclass(kind, ConvBase):
            arguments[name] = True
        elif name == "dtype" and "weight_dtype" in found:
            arguments[name] = found["weight_dtype"]
        elif name != "device" and not name.startswith("_") and attribute in found:
            arguments[name] = value
    if "bias_" in arguments:
        part = _state(found["_modules"]["_packed_params"])
        weight_bias = part["_packed_params"]
        arguments["bias_"] = unpacked(weight_bias)[1] is not None
        arguments["dtype"] = part["dtype"]
    return arguments


def _values(made: nn.Module, stored: Stored, found: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict of a stored module, by our module's keys."""
    values: dict[str, Any] = {}
    for key in made.state_dict():
        where: Any = found
        *parts, last = key.split(".")
        for part in parts:
            child = where["_modules"][part]
            where = _attributes(child) if child.name.rpartition(".")[2] in PARTS or child.state else {}
        value = where.get(last, 1.0 if last == "scale" else 0)
        value = unpacked(value) if is_packed(value) or isinstance(value, tuple | Tensor) else value
        values[key] = (
            torch.tensor(value) if last in ("scale", "zero_point") and not isinstance(value, Tensor) else value
        )
    return values
