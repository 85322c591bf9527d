"""Graphs as JSON: nodes in order. What they call is on a closed list, so that no file can make a model call more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from inspect import getattr_static
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from qcore.api._saving.tables import checked
from qcore.api._saving.values import Reader, Writer
from qcore.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from qcore.fx.callables import ATTRIBUTES, FIELDS, MOST_ELEMENTS, functions, methods, name_of, names_sizes
from qcore.fx.graph_module import CAST, FLOAT
from qcore.fx.inplace import VIEWS
from qcore.fx.values import IN_PLACE
from qcore.nn.quantized.functional_modules import QFunctional
from qcore.nn.quantized.held import Held, held

Allowed: TypeAlias = "Mapping[str, Callable[..., Any]]"
"""Functions and classes of the caller's that graphs of a file may call, by name."""

_NOTES = {"float": FLOAT, "cast": CAST}
"""What a file notes of a node, and the key of that in its meta."""


def named(allow: Iterable[Callable[..., Any]]) -> Allowed:
    """Functions and classes by their full names; ArgumentTypeError for what is neither."""
    try:
        given = list(allow)
    except TypeError as error:
        raise ArgumentTypeError(f"allow={allow!r} must be functions and classes, in a list: {error}") from error
    for each in given:
        if not callable(each) or not hasattr(each, "__qualname__"):
            raise ArgumentTypeError(f"allow: give functions and classes, not a {type(each).__name__}")
    return {f"{each.__module__}.{each.__qualname__}": each for each in given}


def write(graph: fx.Graph, writer: Writer, path: str, allow: Allowed) -> list[dict[str, Any]]:
    """The nodes of a graph; UnsupportedError, naming the node, for calls that are not on the list, nor in `allow`."""
    nodes = []
    theirs = {each: name for name, each in allow.items()}
    for node in graph.nodes:
        target: Any = node.target
        if node.op == "call_function":
            target = name_of(node.target) or theirs.get(node.target)
        elif node.op == "call_method" and target not in methods():
            target = None
        if target is None:
            name = getattr(node.target, "__name__", str(node.target))
            raise UnsupportedError(
                f"graph of module {path!r}, node {node.name!r} calls {name}, which is not on the list of what the "
                "graph of a checkpoint may call: give it as `allow` to save and load; or put it into a module of its "
                "own that is not traced"
            )
        name = f"{path}.{node.name}" if path else node.name

        def reference(value: Any) -> Any:
            if isinstance(value, fx.Node):
                return {"node": value.name}
            hint = "; let the model give a tuple or a dict" if hasattr(value, "_fields") else ""
            raise UnsupportedError(f"node {node.name!r} has an argument of type {type(value).__name__}{hint}")  # noqa: B023

        entry = {"name": node.name, "op": node.op, "target": str(target)}
        entry["args"] = writer.write(tuple(node.args), name, reference)
        entry["kwargs"] = writer.write(dict(node.kwargs), name, reference)
        entry |= {name: True for name, key in _NOTES.items() if node.meta.get(key)}
        nodes.append(entry)
    return nodes


def check_calls(entries: Iterable[dict[str, Any]], allow: Allowed) -> None:
    """ArgumentError for graphs, of modules in a header, with a call of what is neither on the list nor in `allow`."""
    for node in (node for entry in entries for node in entry.get("graph", ())):
        if node["op"] == "call_function" and node["target"] not in functions() and node["target"] not in allow:
            raise ArgumentError(
                f"its graph calls {node['target'][:200]}, which is not on the list of what it may call; if you trust "
                "that, give it as `allow`"
            )


def read(nodes: list[dict[str, Any]], reader: Reader, modules: Mapping[str, nn.Module], allow: Allowed) -> fx.Graph:
    """The graph of nodes; `modules`: those of its model, by path. ArgumentError for what no such graph can be."""
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}

    def reference(value: Any) -> fx.Node:
        if value["node"] not in made:
            raise ArgumentError(f"its graph refers to {value['node'][:60]!r}, which no node before it is")
        return made[value["node"]]

    if [entry["op"] for entry in nodes].count("output") != 1 or nodes[-1]["op"] != "output":
        raise ArgumentError("its graph does not end in one output")
    for entry in nodes:
        op, target, name = entry["op"], entry["target"], entry["name"]
        args, kwargs = reader.read(entry["args"], reference), reader.read(entry["kwargs"], reference)
        problem = _problem(op, target, args, kwargs, modules, allow)
        if "cast" in entry and not _is_cast(op, target, args):
            problem = "is no cast of floats"
        if problem:
            raise ArgumentError(f"node {name!r} of its graph {problem}")
        if op == "call_module":
            checked(modules[target])
        called = (functions().get(target) or allow[target]) if op == "call_function" else target
        node = graph.create_node(op, called, args, kwargs, name)
        if node.name != name or name in made:
            raise ArgumentError(f"node {name!r} of its graph has a name that another has, or Python")
        made[name] = node
        node.meta.update({key: True for name, key in _NOTES.items() if name in entry})
    graph.lint()
    return graph


_CHANGING = frozenset(f"operator.{function.__name__}" for function in IN_PLACE)


def _problem(op: str, target: str, args: Any, kwargs: Any, modules: Mapping[str, nn.Module], allow: Allowed) -> str:
    """What no node of a model's graph is; empty for one that can be."""
    if op == "placeholder":
        if target == "self":
            return "is an input that has the name of the model"
        return "has more than a default" if len(args) > 1 or kwargs or _nodes(args) else ""
    if op == "output":
        return "has not one result" if len(args) != 1 or kwargs else ""
    if op == "get_attr":
        owner, _, name = target.rpartition(".")
        holder = modules.get(owner)
        value = None if holder is None else _held(holder, name)
        fits = not args and not kwargs and isinstance(value, Tensor | QFunctional | Held)
        return "" if fits else f"reads {target[:60]!r}, which is no tensor of the model"
    if op == "call_module":
        module = modules.get(target)
        fits = module is not None and type(module).forward is not nn.Module.forward
        return "" if fits else f"calls {target[:60]!r}, which is no module with a forward"
    if kwargs.get("out") is not None and op != "call_module" and target not in allow:
        return f"gives {target} a tensor to change the sizes of"
    if op == "call_method" and not (args and isinstance(args[0], fx.Node)):
        return f"calls the method {target!r} of what is no tensor"
    if target == "builtins.getattr" and (
        len(args) != 2 or kwargs or not isinstance(args[0], fx.Node) or args[1] not in (*ATTRIBUTES, *FIELDS)
    ):
        return f"asks for the attribute {str(args[1:])[:60]}, which is not one of {ATTRIBUTES}"
    if target.startswith("builtins.") and "key" in kwargs:
        return f"gives {target} a function to call"
    if target == "qcore.put" and (len(args) < 3 or str(args[2]) not in VIEWS or not set(kwargs) <= {"piece"}):
        return f"writes to the view {str(args[2:3])[:60]}, which is not one of {sorted(VIEWS)}"
    if target in _CHANGING and not (args and isinstance(args[0], fx.Node)):
        return f"calls {target} to change what is no value of the graph"
    if target.startswith(("operator.", "builtins.")) and not _nodes((args, kwargs)):
        return f"calls {target} without a value of the graph"
    sizes = names_sizes(args[2] if target == "qcore.put" else target)
    if sizes and math.prod(max(1, abs(size)) for size in _numbers((args, kwargs))) > MOST_ELEMENTS:
        return f"calls {target} for more than {MOST_ELEMENTS} elements"
    return ""


def _nodes(values: Any) -> list[fx.Node]:
    found: list[fx.Node] = []

    def note(node: fx.Node) -> fx.Node:
        found.append(node)
        return node

    fx.node.map_arg(values, note)
    return found


def _is_cast(op: str, target: str, args: Any) -> bool:
    dtype = args[1] if len(args) == 2 else None
    return op == "call_method" and target == "to" and isinstance(dtype, torch.dtype) and dtype.is_floating_point


def _numbers(values: Any) -> list[int]:
    """The whole numbers in arguments."""
    if isinstance(values, tuple | list):
        return [number for each in values for number in _numbers(each)]
    if isinstance(values, dict):
        return _numbers(list(values.values()))
    return [values] if type(values) is int else []


def _held(module: nn.Module, name: str) -> Any:
    """What a module holds under a name, as a tensor or a module of its own, or the weight of a quantized one."""
    for holder in (module._parameters, module._buffers, module._modules):
        if name in holder:
            return holder[name]
    if isinstance(getattr_static(type(module), name, None), held):
        return getattr(module, name)
    return vars(module).get(name)
