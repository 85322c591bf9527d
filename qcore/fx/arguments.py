"""arguments: what a graph of a module takes: each value that its forward is called with, those of *args too.

Tensors are the graph's inputs. Numbers, strings and whatever else holds no tensor are what the call gives: a graph is
made for them, and refuses others.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError

UNKNOWN = object()

TENSOR = ...
"""Stands for a tensor in a form."""

_CONSTANTS = (
    bool, int, float, complex, str, bytes, range, Enum, type, torch.dtype, torch.device, torch.layout,
    torch.memory_format,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a forward is called with."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Argument:
    """A value that a forward is called with, by its name or its position; `default`: empty where it must be given;
    `given`: whether the call gives it, or leaves it out."""

    name: str
    by_name: bool
    default: tuple[Any, ...]
    value: Any
    given: bool = True

    @property
    def fixed(self) -> bool:
        """Whether it holds no tensor, so that a graph is made for it."""
        return is_constant(self.value)


def is_constant(value: Any) -> bool:
    """Whether a value holds no tensor, and can be compared with another."""
    if isinstance(value, tuple | list):
        return all(map(is_constant, value))
    if isinstance(value, dict):
        return all(map(is_constant, value.values()))
    if isinstance(value, slice):
        return is_constant((value.start, value.stop, value.step))
    return value is None or isinstance(value, _CONSTANTS)


def by_parameter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Inputs:
    """What a forward is called with; TypeError for arguments that it does not take."""
    inspect.signature(module.forward).bind(*args, **(kwargs or {}))
    return Inputs(args, dict(kwargs or {}))


def arguments_of(module: nn.Module, inputs: Inputs | None) -> list[Argument]:
    """What a graph of a module takes, in order; None: the inputs are not known, and *args and **kwargs are left out."""
    found: list[Argument] = []
    signature = inspect.signature(module.forward)
    bound = {} if inputs is None else signature.bind(*inputs.args, **inputs.kwargs).arguments
    for name, parameter in signature.parameters.items():
        default: tuple[Any, ...] = () if parameter.default is parameter.empty else (parameter.default,)
        given: dict[str, Any] = {name: bound.get(name, *(default or (UNKNOWN,)))}
        by_name = parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
        if inputs is None:
            given = {name: UNKNOWN}
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            by_name = name in inputs.kwargs
        if parameter.kind is parameter.VAR_POSITIONAL:
            given = {f"{name}_{number}": each for number, each in enumerate(bound.get(name, ()))}
        elif parameter.kind is parameter.VAR_KEYWORD:
            given = bound.get(name, {})
        if not default and found and found[-1].default:
            default = (None,)  # Python wants one for each after the first that has one
        is_given = inputs is None or name in bound
        found += [Argument(key, by_name, default, each, is_given) for key, each in given.items()]
    return found


def split(arguments: list[Argument], values: list[Any]) -> Inputs:
    """Values for these arguments as the call gives them; what it leaves out is left out."""
    pairs = [pair for pair in zip(arguments, values, strict=True) if pair[0].given]
    by_position = tuple(value for each, value in pairs if not each.by_name)
    return Inputs(by_position, {each.name: value for each, value in pairs if each.by_name})


# --- forms ------------------------------------------------------------------------------------------------------------


def form_of(value: Any) -> Any:
    """A value with `...` for each tensor; UNKNOWN for one that has something else in it than tensors, constants and
    plain containers, which a graph takes as it comes."""
    if isinstance(value, Tensor):
        return TENSOR
    if type(value) in (list, tuple):
        parts = [form_of(each) for each in value]
        return UNKNOWN if UNKNOWN in parts else type(value)(parts)
    if type(value) in (dict, OrderedDict) and all(isinstance(key, str) for key in value):
        named = {key: form_of(each) for key, each in value.items()}
        return UNKNOWN if UNKNOWN in named.values() else type(value)(named)
    return value if is_constant(value) else UNKNOWN


def taken(form: Any, value: Any) -> Any:
    """A form with the tensors of `value`, which gives its items as containers do."""
    if form is TENSOR or form is UNKNOWN:
        return value
    if isinstance(form, tuple | list):
        return type(form)(taken(each, value[index]) if _holds(each) else each for index, each in enumerate(form))
    if isinstance(form, dict):
        pairs = [(key, taken(each, value[key]) if _holds(each) else each) for key, each in form.items()]
        return type(form)(pairs)
    return form


def _holds(form: Any) -> bool:
    """Whether a form has a tensor in it."""
    if isinstance(form, tuple | list):
        return any(map(_holds, form))
    return any(map(_holds, form.values())) if isinstance(form, dict) else form is TENSOR


def matches(form: Any, value: Any) -> bool:
    """Whether a value has a form."""
    if form is TENSOR:
        return isinstance(value, Tensor)
    if type(form) is not type(value):
        return False
    if isinstance(form, tuple | list):
        return len(form) == len(value) and all(map(matches, form, value))
    if isinstance(form, dict):
        return list(form) == list(value) and all(matches(each, value[key]) for key, each in form.items())
    return bool(form is value or form == value or (form != form and value != value))


def check_fixed(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """ArgumentError for arguments of another form than a graph was made for; its `qcore_fixed` has position, name and
    form of each."""
    for position, name, form in model.qcore_fixed:
        if position < len(args):
            given = args[position]
        elif name in kwargs:
            given = kwargs[name]
        else:
            default = next(islice(model.graph.nodes, position, None)).args
            if not default:
                continue  # Python says that it is missing
            given = default[0]
        if given is form or matches(form, given):
            continue
        made = "a tensor" if form is TENSOR else repr(form).replace("Ellipsis", "a tensor")
        got = repr(given) if is_constant(given) else type(given).__name__
        raise ArgumentError(
            f"this graph was made for {name}={made}, as in the example inputs; got {got}. Give example inputs with it, "
            "or name the module in PrepareCustomConfig.set_non_traceable_module_names"
        )
