"""Which nodes of a graph a native plan runs as one step: what follows a result at once joins the step that makes it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from qcore import operators as ops
from qcore.graph.ir import Graph, Node, Value
from qcore.graph.moves import Remap
from qcore.native.rows import QuantizeRows, RowsLinear

WEIGHTED = (ops.Conv, ops.Linear)
_STARTS = (*WEIGHTED, ops.Add, ops.Mul)
CHAIN: tuple[type[Any], ...] = (ops.FloatAdd, ops.FloatLayerNorm, ops.FloatFunction, QuantizeRows)
"""What goes over rows of floats in one step, in this order."""


@dataclass
class Step:
    """A node and those fused after it: an addition of another value, clamping, then a table; or a chain on floats.

    `kept`: the floats that a chain with quantized rows gives besides, where others read them.
    """

    node: Node
    add: Node | None = None
    clamps: list[Node] = field(default_factory=list)
    table: Node | None = None
    chain: list[Node] = field(default_factory=list)
    kept: bool = False

    @property
    def nodes(self) -> list[Node]:
        """All nodes of the step, in order."""
        return [node for node in (self.node, self.add, *self.clamps, self.table, *self.chain) if node is not None]

    @property
    def result(self) -> Value:
        """What the step makes."""
        return self.nodes[-1].outputs[0]

    @property
    def floats(self) -> Value:
        """What a chain makes before rows are quantized."""
        *before, last = self.nodes
        return (before[-1].outputs[0] if before else last.inputs[0]) if is_rows(last) else self.result

    @property
    def inputs(self) -> list[Value]:
        """What the step reads: the inputs of its first node, then the other operand of the addition."""
        own = self.node.outputs[0].name
        return [*self.node.inputs, *(value for value in (self.add.inputs if self.add else ()) if value.name != own)]

    @property
    def path(self) -> str:
        """The paths of its nodes."""
        return " + ".join(dict.fromkeys(node.path for node in self.nodes))

    def __str__(self) -> str:
        operators = " > ".join(str(node.operator) for node in self.nodes)
        return f"{self.result} = {operators}({', '.join(value.name for value in self.inputs)})"


def fused(graph: Graph) -> list[Step]:
    """The steps of a graph, in an order that they can run in."""
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for value in node.inputs:
            readers[value.name].append(node)
    outputs = {value.name for value in graph.outputs}
    position = {id(node): number for number, node in enumerate(graph.nodes)}
    taken: set[int] = set()
    steps: list[Step] = []
    for node in graph.nodes:
        if id(node) in taken:
            continue
        step = Step(node)
        while step.result.name not in outputs and len(readers[step.result.name]) == 1:
            (reader,) = readers[step.result.name]
            if id(reader) in taken or not _join(step, reader):
                break
        _take_rows(step, readers[step.result.name], step.result.name in outputs)
        taken.update(id(each) for each in step.nodes)
        steps.append(step)
    return sorted(steps, key=lambda step: position[id(step.nodes[-1])])


def _join(step: Step, node: Node) -> bool:
    """Take a node into a step, if it has a place there."""
    if isinstance(step.node.operator, CHAIN):
        return _chain(step, node)
    if not isinstance(step.node.operator, _STARTS) or step.table is not None:
        return False
    if isinstance(node.operator, ops.Clamp):
        step.clamps.append(node)
    elif isinstance(node.operator, ops.Lookup | Remap):
        step.table = node
    elif isinstance(node.operator, ops.Add) and isinstance(step.node.operator, WEIGHTED) and len(step.nodes) == 1:
        step.add = node
    else:
        return False
    return True


def is_rows(node: Node) -> bool:
    """Whether a node quantizes rows."""
    return isinstance(node.operator, QuantizeRows)


def _chain(step: Step, node: Node) -> bool:
    """Take a node into a chain, if it comes after what is there. What follows a norm has the rows of that norm."""
    if not isinstance(node.operator, CHAIN) or is_rows(node) or _place(node) <= _place(step.nodes[-1]):
        return False
    step.chain.append(node)
    return True


def _place(node: Node) -> int:
    return CHAIN.index(type(node.operator))


def _take_rows(step: Step, readers: list[Node], is_output: bool) -> None:
    """Let a chain quantize its rows, the first of several ways to."""
    if not isinstance(step.node.operator, CHAIN) or is_rows(step.nodes[-1]):
        return
    rows = [node for node in readers if is_rows(node)]
    norms = [node.operator for node in step.nodes if isinstance(node.operator, ops.FloatLayerNorm)]
    if rows and all(len(norm.normalized_shape) == 1 for norm in norms):
        step.chain.append(rows[0])
        others = [node for node in readers if node is not rows[0]]
        step.kept = is_output or not all(isinstance(node.operator, RowsLinear) for node in others)
