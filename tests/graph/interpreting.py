"""A backend that compiles graphs by interpreting them over the kernels of the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from qcore_reference.backend import Reference

import qcore
from qcore.graph.execute import Interpreter
from qcore.graph.ir import Graph, Node

NAME = "interpreting"


class Interpreting(Reference):
    """Claims the nodes that `wanted` says yes to; keeps the graphs it has seen."""

    name = NAME
    fallback = False

    def __init__(self, wanted: Callable[[Node], bool]) -> None:
        self.wanted = wanted
        self.offered: list[Graph] = []
        self.compiled: list[Graph] = []

    def claims(self, graph: Graph) -> list[Node]:
        self.offered.append(graph)
        return [node for node in graph.nodes if self.wanted(node)]

    def compile(self, graph: Graph) -> Any:
        self.compiled.append(graph)
        return Interpreter(graph, self.build)


class Plugin:
    def __init__(self, backend: Interpreting) -> None:
        self.backend = backend

    @qcore.hookimpl
    def qcore_backend(self) -> qcore.Backend:
        return self.backend


@contextmanager
def interpreting(wanted: Callable[[Node], bool] = lambda node: True) -> Iterator[Interpreting]:
    """The backend, registered for a while."""
    backend = Interpreting(wanted)
    qcore.registry.register(Plugin(backend), NAME)
    try:
        yield backend
    finally:
        qcore.registry.unregister(NAME)


def converted(model: torch.nn.Module, batches: list[tuple[Any, ...]], backend: str = NAME) -> torch.nn.Module:
    """A model prepared, calibrated on batches, and converted."""
    prepared = qcore.prepare_fx(model, None, batches[0], backend=backend)
    with torch.no_grad():
        for batch in batches:
            prepared(*batch)
    return qcore.convert_fx(prepared)


def listed(result: Any) -> list[torch.Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


def assert_levels_agree(model: torch.nn.Module, *inputs: Any) -> None:
    """The compiled model gives the bits of its modules."""
    compiled = listed(model(*inputs))
    with qcore.on_modules():
        expected = listed(model(*inputs))
    assert len(compiled) == len(expected)
    for mine, other in zip(compiled, expected, strict=True):
        assert type(mine) is type(other) and mine.shape == other.shape and mine.dtype == other.dtype
        assert torch.equal(mine, other)
