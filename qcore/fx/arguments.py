"""arguments: what a graph of a module takes: each value that its forward is called with, those of *args too."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

Inputs = tuple[Any, ...]
UNKNOWN = object()


@dataclass(frozen=True, eq=False)
class Argument:
    """A value that a forward is called with, by its name or its position; `default`: empty where it must be given."""

    name: str
    by_name: bool
    default: tuple[Any, ...]
    value: Any

    @property
    def fixed(self) -> bool:
        """Whether it only chooses a path through the forward, so that a graph is made for it."""
        return self.value is None or isinstance(self.value, bool | str)


def by_parameter(module: nn.Module, args: Inputs, kwargs: dict[str, Any] | None = None) -> Inputs:
    """A value for each parameter of a forward: a tuple for *args, a dict for **kwargs. Raises TypeError for arguments
    that it does not take."""
    signature = inspect.signature(module.forward)
    bound = signature.bind(*args, **(kwargs or {}))
    bound.apply_defaults()
    return tuple(bound.arguments[name] for name in signature.parameters)


def arguments_of(module: nn.Module, inputs: Inputs | None) -> list[Argument]:
    """What a graph of a module takes, in order, from `inputs` as by_parameter has them; None: they are not known, and
    *args and **kwargs are left out."""
    found: list[Argument] = []
    for index, (name, parameter) in enumerate(inspect.signature(module.forward).parameters.items()):
        value: Any = UNKNOWN if inputs is None else inputs[index]
        if parameter.kind is parameter.VAR_POSITIONAL:
            given = {f"{name}_{number}": each for number, each in enumerate(() if value is UNKNOWN else value)}
        elif parameter.kind is parameter.VAR_KEYWORD:
            given = {} if value is UNKNOWN else value
        else:
            given = {name: value}
        by_name = parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
        default: tuple[Any, ...] = () if parameter.default is parameter.empty else (parameter.default,)
        if not default and found and found[-1].default:
            default = (None,)  # Python wants one for each after the first that has one
        found += [Argument(key, by_name, default, each) for key, each in given.items()]
    return found


def split(arguments: list[Argument], values: list[Any]) -> tuple[Inputs, dict[str, Any]]:
    """Values for these arguments as a call takes them."""
    pairs = list(zip(arguments, values, strict=True))
    by_position = tuple(value for each, value in pairs if not each.by_name)
    return by_position, {each.name: value for each, value in pairs if each.by_name}
