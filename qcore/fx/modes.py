"""modes: functions that are told whether the model trains follow its mode in the graph, as modules do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.fx.proxy import GraphAppendingTracer

from qcore.fx.graph_module import QuantizedGraphModule, finished, free_name, set_submodule


class ByMode(nn.Module):
    """A function with an argument `training`, which is the mode of this module. `keeps`: it gives its first argument
    as it is where nothing trains."""

    def __init__(self, function: Callable[..., Any], keeps: bool) -> None:
        super().__init__()
        self.function = function
        self.keeps = keeps

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives in this mode."""
        return self.function(*args, **kwargs, training=self.training)

    def extra_repr(self) -> str:
        """The function."""
        return self.function.__name__


def follow_mode(model: QuantizedGraphModule) -> None:
    """In place, in a model that trains: calls that are given training=True, as tracing makes it of `self.training`,
    become modules. Calls of F.batch_norm and F.instance_norm become layers elsewhere."""
    found = [node for node in model.graph.nodes if model.training and _trains(node)]
    for node in found:
        function: Any = node.target
        given = dict(inspect.signature(function).bind(*node.args, **node.kwargs).arguments)
        del given["training"]
        first = given.pop(next(iter(given)))
        path = free_name(model, node.name)
        set_submodule(model, path, ByMode(function, _keeps(function, given)).train())
        node.meta["origin"] = function
        node.op, node.target, node.args, node.kwargs = "call_module", path, (first,), given
    if found:
        finished(model)


def settle_mode(model: QuantizedGraphModule) -> None:
    """In place: such modules become calls of the function again, which is told that nothing trains; those that keep
    what they get go."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for node in list(model.graph.nodes):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, ByMode) and module.keeps:
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)
        elif isinstance(module, ByMode):
            node.op, node.target, node.kwargs = "call_function", module.function, {**node.kwargs, "training": False}


def _keeps(function: Callable[..., Any], options: dict[str, Any]) -> bool:
    graph = fx.Graph()
    given = fx.Proxy(graph.placeholder("x"), GraphAppendingTracer(graph))
    try:
        return function(given, **options, training=False) is given
    except Exception:
        return False


def _trains(node: fx.Node) -> bool:
    if node.op != "call_function" or getattr(node.target, "__name__", "") in ("batch_norm", "instance_norm"):
        return False
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return given.arguments.get("training") is True and len(given.arguments) > 1
