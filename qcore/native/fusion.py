"""Which nodes of a graph a native plan runs as one step: what follows a result at once joins the step that makes it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from qcore import operators as ops
from qcore.graph.ir import Graph, Node, Value
from qcore.graph.moves import Remap

WEIGHTED = (ops.Conv, ops.Linear)
_STARTS = (*WEIGHTED, ops.Add, ops.Mul)


@dataclass
class Step:
    """A node, and those fused after it: an addition of another value, then clamping, then a table."""

    node: Node
    add: Node | None = None
    clamps: list[Node] = field(default_factory=list)
    table: Node | None = None

    @property
    def nodes(self) -> list[Node]:
        """All nodes of the step, in order."""
        return [node for node in (self.node, self.add, *self.clamps, self.table) if node is not None]

    @property
    def result(self) -> Value:
        """What the step makes."""
        return self.nodes[-1].outputs[0]

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
        taken.update(id(each) for each in step.nodes)
        steps.append(step)
    return sorted(steps, key=lambda step: position[id(step.nodes[-1])])


def _join(step: Step, node: Node) -> bool:
    """Take a node into a step, if it has a place there."""
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
