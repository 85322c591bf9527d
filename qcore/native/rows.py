"""Dynamic linears in two: the rows of their input, quantized once for all that read it, and the product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcore import operators as ops
from qcore.graph.ir import Graph, Node, Value
from qcore.operators import Operator


@dataclass(frozen=True, eq=False)
class QuantizeRows(Operator):
    """Floats to the rows that `linear`, and others like it, multiply."""

    name: ClassVar[str] = "quantize_rows"
    linear: ops.LinearDynamic


@dataclass(frozen=True, eq=False)
class RowsLinear(Operator):
    """The product of a LinearDynamic, of rows that are quantized; the floats come along for their sizes."""

    name: ClassVar[str] = "linear_dynamic"
    linear: ops.LinearDynamic


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
                behind.setdefault(x.name, []).append(Node(QuantizeRows(linear), (x,), (rows[key],), node.path))
            products[id(node)] = Node(RowsLinear(linear), (rows[key], x), node.outputs, node.path)
    nodes = [each for value in graph.inputs for each in behind.get(value.name, ())]
    for node in graph.nodes:
        nodes.append(products.get(id(node), node))
        nodes += [each for value in node.outputs for each in behind.get(value.name, ())]
    return Graph(graph.inputs, tuple(nodes), graph.outputs)
