"""opaque: functions that torch.fx.wrap keeps from being traced are looked into, where that can be done."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import fx
from torch.fx.proxy import GraphAppendingTracer

from qcore.fx.graph_module import QuantizedGraphModule, finished
from qcore.fx.values import may_write, value_of

_LIBRARIES = ("torch", "qcore", "operator", "_operator", "builtins", "math")


def look_into_functions(
    model: QuantizedGraphModule, scopes: dict[str, str], is_named: Callable[[Any], bool] = lambda function: False
) -> None:
    """In place: a call of a function of the user's becomes what it calls; it stays where that cannot be traced, or a
    rule names it. `scopes`: the module that each node comes from; new nodes are added."""
    found = [node for node in model.graph.nodes if node.op == "call_function" and _is_users(node.target)]
    changed = False
    for node in found:
        if not is_named(node.target):
            changed |= _look_into(model, node, scopes)
    if changed:
        finished(model)


def _is_users(function: Any) -> bool:
    return isinstance(function, FunctionType) and function.__module__.partition(".")[0] not in _LIBRARIES


def _look_into(model: QuantizedGraphModule, node: fx.Node, scopes: dict[str, str]) -> bool:
    graph, function = node.graph, node.target
    before = set(graph.nodes)
    tracer = GraphAppendingTracer(graph)

    def proxy(value: fx.Node) -> Any:
        return value_of(value, tracer)

    setattr(tracer, "proxy", proxy)  # noqa: B010  (for the values that calls give, too)
    args, kwargs = fx.map_arg((node.args, node.kwargs), proxy)
    try:
        with graph.inserting_before(node):
            result = function(*args, **kwargs)  # type: ignore[operator]
        done = isinstance(result, fx.Proxy)
    except Exception:
        done = False
    made = [each for each in graph.nodes if each not in before]
    if not done or any(may_write(each, model) for each in made):  # to what has other names, perhaps
        for each in reversed(made):
            graph.erase_node(each)
        return False
    scopes.update({each.name: scopes.get(node.name, "") for each in made})
    node.replace_all_uses_with(result.node)
    graph.erase_node(node)
    return True
