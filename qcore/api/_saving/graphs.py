"""Graphs as JSON: nodes in order. What they call is on a closed list, so that no file can make a model call more."""

from __future__ import annotations

import builtins
import operator as python
from collections import OrderedDict
from functools import cache
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F
from torch.overrides import get_overridable_functions

from qcore.api._saving.values import Reader, Writer
from qcore.errors import ArgumentError, UnsupportedError
from qcore.fx.graph_module import FLOAT

_OPERATORS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pow", "matmul", "getitem", "eq", "ne", "lt", "le", "gt",
    "ge", "and_", "or_", "not_", "abs", "iadd", "isub", "imul", "itruediv",
)  # fmt: skip
_BUILTINS = ("getattr", "len", "int", "float", "bool", "abs", "max", "min", "sum", "round")
_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "T", "mT", "itemsize", "nbytes", "is_quantized", "layout")


@cache
def functions() -> dict[str, Any]:
    """What a graph may call, by name: the functions of torch on tensors, and some of Python on numbers."""
    found: dict[str, Any] = {f"operator.{name}": getattr(python, name) for name in _OPERATORS}
    found |= {f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS}
    found["collections.OrderedDict"] = OrderedDict
    tables = get_overridable_functions()
    for space, prefix in ((torch, "torch"), (F, "torch.nn.functional")):
        for function in tables.get(space, ()):
            name = function.__name__
            if not name.startswith("_") and getattr(space, name, None) is function:
                found[f"{prefix}.{name}"] = function
    return found


@cache
def methods() -> frozenset[str]:
    """Names of the methods that a graph may call: those of tensors."""
    named = {function.__name__ for function in get_overridable_functions()[torch.Tensor]}
    return frozenset(name for name in named if not name.startswith("_")) | {"dequantize", "int_repr", "size", "dim"}


@cache
def _names() -> dict[Any, str]:
    return {function: name for name, function in functions().items()}


def write(graph: fx.Graph, writer: Writer, path: str) -> list[dict[str, Any]]:
    """The nodes of a graph; UnsupportedError, naming the node, for calls that are not on the list."""
    nodes = []
    for node in graph.nodes:
        target: Any = node.target
        if node.op == "call_function":
            target = _names().get(node.target)
        elif node.op == "call_method" and target not in methods():
            target = None
        if target is None:
            name = getattr(node.target, "__name__", str(node.target))
            raise UnsupportedError(
                f"graph of module {path!r}, node {node.name!r} calls {name}, which a checkpoint cannot hold: put it "
                "into a module of its own that is not traced, or save the model's state_dict()"
            )
        name = f"{path}.{node.name}" if path else node.name

        def reference(value: Any) -> Any:
            if isinstance(value, fx.Node):
                return {"node": value.name}
            raise UnsupportedError(f"node {node.name!r} has an argument of type {type(value).__name__}")  # noqa: B023

        entry = {"name": node.name, "op": node.op, "target": str(target)}
        entry["args"] = writer.write(tuple(node.args), name, reference)
        entry["kwargs"] = writer.write(dict(node.kwargs), name, reference)
        if node.meta.get(FLOAT):
            entry["float"] = True
        nodes.append(entry)
    return nodes


def read(nodes: Any, reader: Reader) -> fx.Graph:
    """The graph of nodes; ArgumentError for calls that are not on the list."""
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}

    def reference(value: Any) -> fx.Node:
        if value.get("node") not in made:
            raise ArgumentError(f"its graph refers to {str(value)[:60]}, which no node before it is")
        return made[value["node"]]

    for entry in nodes:
        op, target, name = (entry.get(key) for key in ("op", "target", "name"))
        args = reader.read(entry.get("args"), reference)
        kwargs = reader.read(entry.get("kwargs"), reference)
        if not isinstance(args, tuple) or not isinstance(kwargs, dict) or not isinstance(target, str):
            raise ArgumentError(f"node {name!r} of its graph is corrupt")
        made[name] = graph.create_node(op, _target(op, target, args), args, kwargs, name)
        made[name].meta[FLOAT] = entry.get("float") is True
    graph.lint()
    return graph


def _target(op: Any, target: str, args: tuple[Any, ...]) -> Any:
    """What a node calls, where it may."""
    if op == "call_function" and target in functions():
        if target == "builtins.getattr" and (len(args) != 2 or args[1] not in _ATTRIBUTES):
            raise ArgumentError(f"its graph asks for the attribute {args[1:]}, which is not one of {_ATTRIBUTES}")
        return functions()[target]
    is_path = all(part.isidentifier() or part.isdecimal() for part in target.split("."))
    if (op == "call_method" and target in methods()) or (
        op in ("call_module", "get_attr", "placeholder", "output") and is_path
    ):
        return target
    raise ArgumentError(f"its graph has a node {op!r} of {target!r}, which is not on the list of what it may call")
