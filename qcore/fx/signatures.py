"""signatures: calls of torch's functions and methods in one form, whatever their arguments were given by."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import BuiltinFunctionType

import torch
from torch import fx, nn

_OTHER_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}
"""Names that torch takes, too, as NumPy has them."""


def by_position(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
    """In place: the leading arguments of each call of torch's stand by position, and all have their own names;
    `modules`: those that the graph calls, by path."""
    for node in graph.nodes:
        if node.kwargs and node.op in ("call_function", "call_method"):
            _normalize(node)
        elif node.kwargs and node.op == "call_module":
            _normalize_layer(node, modules[str(node.target)])


def _normalize_layer(node: fx.Node, module: nn.Module) -> None:
    if not type(module).__module__.startswith("torch.nn."):
        return  # a module of the user's is called as the user calls it
    args, kwargs = list(node.args), dict(node.kwargs)
    for name, parameter in list(inspect.signature(module.forward).parameters.items())[len(args) :]:
        if name not in kwargs or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            break
        args.append(kwargs.pop(name))
    node.args, node.kwargs = tuple(args), kwargs


def _normalize(node: fx.Node) -> None:
    is_method = node.op == "call_method"
    if not is_method and not isinstance(node.target, BuiltinFunctionType):
        return  # functions written in Python give their arguments on in one form
    names = _names(str(node.target if is_method else getattr(node.target, "__name__", "")))
    found = next((each for each in names if _fits(node, *each)), None)
    if found is None:
        return
    positional, others = found
    kwargs = {_name(key, (*positional, *others)): value for key, value in node.kwargs.items()}
    args = list(node.args)
    for name in positional[len(args) :]:
        if name not in kwargs:
            break
        args.append(kwargs.pop(name))
    node.args, node.kwargs = tuple(args), kwargs


def _fits(node: fx.Node, positional: tuple[str, ...], others: tuple[str, ...]) -> bool:
    rest = (*positional[len(node.args) :], *others)
    return len(node.args) <= len(positional) and all(_name(key, rest) in rest for key in node.kwargs)


def _name(key: str, known: tuple[str, ...]) -> str:
    return key if key in known else _OTHER_NAMES.get(key, key)


@cache
def _names(function: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Of each overload of a function of torch's: the arguments by position, and those by name alone."""
    packet = getattr(torch.ops.aten, function, None)
    found = []
    for overload in packet.overloads() if packet is not None else ():
        arguments = getattr(packet, overload)._schema.arguments
        positional = tuple("input" if each.name == "self" else each.name for each in arguments if not each.kwarg_only)
        found.append((positional, tuple(each.name for each in arguments if each.kwarg_only)))
    return tuple(found)
