"""Whether a forward makes the same graph when it trains and when it does not: a graph is made for one mode alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from torch import fx, nn

from qcore.fx.check import Unlike, scope_of

_WHY = "it computes otherwise when it does not train, and a graph is made for one mode"


def check_modes(model: nn.Module, graph: fx.Graph, trace: Callable[[], fx.Graph]) -> None:
    """Unlike, naming the module, where `graph`, which a model that trains has given, is another without training."""
    with _inference(model):
        try:
            other = trace()
        except Exception as error:
            raise Unlike("", f"{_WHY}: {error}") from error
    for node, its in zip_longest(_steps(graph), _steps(other)):
        if node is None or its is None or node[1] != its[1]:
            raise Unlike(scope_of((node or its)[0]), _WHY)


def _steps(graph: fx.Graph) -> Iterator[tuple[fx.Node, Any]]:
    """Each node, and what it does, flags aside: those that say whether a function trains follow the mode."""
    numbers = {node: number for number, node in enumerate(graph.nodes)}

    def form(value: Any) -> Any:
        return "flag" if isinstance(value, bool) else numbers[value] if isinstance(value, fx.Node) else value

    for node in graph.nodes:
        given = fx.node.map_aggregate((node.args, dict(node.kwargs)), form)
        target = "constant" if str(node.target).startswith("_tensor_constant") else node.target
        yield node, (node.op, target, str(given))


@contextmanager
def _inference(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False  # a train() of the user's may do more
        yield
    finally:
        for module, training in modes.items():
            module.training = training
