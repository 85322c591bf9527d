"""The quantized graph that a backend is offered: values, nodes that make them, and the order to run these in.

All of it is frozen data. A node's `operator` is one of qcore.operators, the same object that the module level runs, or
one of qcore.graph.moves, which only move integers. Sizes are not part of a graph: one graph serves all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from qcore.errors import ArgumentError
from qcore.graph.moves import Move
from qcore.operators import Operator
from qcore.tensor.dtypes import QDType
from qcore.tensor.qparams import QParams

DTYPE = "qcore_dtype"
"""Key of the `meta` of an fx node whose dtype is known."""


@dataclass(frozen=True)
class Value:
    """One tensor: integers with their QParams (per tensor), or without (None) what `plain` says: float32, int64
    indices, or a mask of bools.

    Names are unique in a graph.
    """

    name: str
    qparams: QParams | None = None
    plain: torch.dtype = torch.float32

    @property
    def dtype(self) -> QDType | torch.dtype:
        """The quantized dtype, or torch's."""
        return self.plain if self.qparams is None else self.qparams.dtype

    def __str__(self) -> str:
        if self.qparams is None:
            return f"{self.name}: {str(self.plain).removeprefix('torch.')}"
        q = self.qparams
        return f"{self.name}: {q.dtype.name}({q.scale:.6g}, {q.zero_point})"


@dataclass(frozen=True)
class Node:
    """One operator on values. `path`: the module or call of the model that it came from, for messages.

    `inputs` are in the order of the operator's call line; those of Cat are its list.
    """

    operator: Operator | Move
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    path: str

    def __str__(self) -> str:
        inputs = ", ".join(each.name for each in self.inputs)
        return f"{', '.join(map(str, self.outputs))} = {self.operator}({inputs})"


Nodes: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order that they can run in; what none of them makes is an input.

    Raises ArgumentError for nodes in another order, values made twice, and outputs that nothing makes.
    """

    inputs: tuple[Value, ...]
    nodes: Nodes
    outputs: tuple[Value, ...]

    def __post_init__(self) -> None:
        known = {value.name for value in self.inputs}
        for node in self.nodes:
            missing = [value.name for value in node.inputs if value.name not in known]
            if missing:
                raise ArgumentError(f"graph: node {node.path!r} reads {missing[0]!r} before it is made")
            twice = [value.name for value in node.outputs if value.name in known]
            if twice:
                raise ArgumentError(f"graph: node {node.path!r} makes {twice[0]!r}, which is there already")
            known.update(value.name for value in node.outputs)
        unmade = [value.name for value in self.outputs if value.name not in known]
        if unmade:
            raise ArgumentError(f"graph: nothing makes the output {unmade[0]!r}")

    def part(self, nodes: Collection[Node]) -> Graph:
        """The graph of some of the nodes: its inputs are what they read of others, its outputs what others read."""
        chosen = {id(node) for node in nodes}
        inside = tuple(node for node in self.nodes if id(node) in chosen)
        others = [node for node in self.nodes if id(node) not in chosen]
        made = {value.name for node in inside for value in node.outputs}
        read = {value.name for node in others for value in node.inputs} | {value.name for value in self.outputs}
        inputs = _unique(value for node in inside for value in node.inputs if value.name not in made)
        outputs = tuple(value for node in inside for value in node.outputs if value.name in read)
        return Graph(inputs, inside, outputs)

    def __str__(self) -> str:
        lines = [f"graph({', '.join(map(str, self.inputs))}):", *(f"    {node}" for node in self.nodes)]
        return "\n".join([*lines, f"    return {', '.join(value.name for value in self.outputs)}"])


def _unique(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple({value.name: value for value in values}.values())
