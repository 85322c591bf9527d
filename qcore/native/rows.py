"""Dynamic linears in two: the rows of their input, quantized once for all that read it, and the product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qcore import operators as ops
from qcore.graph.ir import Graph, Node, Value


@dataclass(frozen=True, eq=False)
class QuantizeRows:
    """Floats to the rows that `linear`, and others like it, multiply."""

    linear: ops.LinearDynamic

    def __str__(self) -> str:
        return "quantize_rows"


@dataclass(frozen=True, eq=False)
class RowsLinear:
    """The product of a LinearDynamic, of rows that are quantized; the floats come along for their sizes."""

    linear: ops.LinearDynamic

    def __str__(self) -> str:
        return str(self.linear)


def with_rows(graph: Graph) -> Graph:
    """The same graph with each LinearDynamic in two, the first half right behind what makes its input."""
    rows: dict[tuple[str, bool, bool, int], Value] = {}
    behind: dict[str, list[Node]] = {}
    products: dict[int, Node] = {}
    for node in graph.nodes:
        if isinstance(node.operator, ops.LinearDynamic):
            linear, (x,) = node.operator, node.inputs
            key = x.name, linear.per_row, linear.reduce_range, linear.weight.shape[1]
            if key not in rows:
                rows[key] = Value(f"{x.name}.rows{len(behind.get(x.name, ())) or ''}")
                behind.setdefault(x.name, []).append(_node(QuantizeRows(linear), (x,), (rows[key],), node))
            products[id(node)] = _node(RowsLinear(linear), (rows[key], x), node.outputs, node)
    nodes = [each for value in graph.inputs for each in behind.get(value.name, ())]
    for node in graph.nodes:
        nodes.append(products.get(id(node), node))
        nodes += [each for value in node.outputs for each in behind.get(value.name, ())]
    return Graph(graph.inputs, tuple(nodes), graph.outputs)


def _node(half: Any, inputs: tuple[Value, ...], outputs: tuple[Value, ...], node: Node) -> Node:
    """Half of a node; it is nothing that others build or see."""
    return Node(half, inputs, outputs, node.path)
