"""A graph run node by node over built kernels: slow, plain, and the measure of every plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.backend import Kernel
from qcore.graph.ir import Graph, Node
from qcore.graph.moves import Move
from qcore.operators import Operator

KEEP_QPARAMS = (ops.Clamp, ops.MaxPool, ops.AvgPool, ops.AdaptiveAvgPool, ops.Mean, ops.Interpolate)
"""Operators whose results have the QParams of their input, so that calls name none."""


class Interpreter:
    """A graph as a function of plain tensors, ordered as its inputs; gives a tuple, ordered as its outputs.

    `build` makes the kernel of each operator, as Backend.build does.
    """

    def __init__(self, graph: Graph, build: Callable[[Operator], Kernel]) -> None:
        self.graph = graph
        self._steps = [(node, _bound(node, build)) for node in graph.nodes]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = {value.name: tensor for value, tensor in zip(self.graph.inputs, inputs, strict=True)}
        for node, run in self._steps:
            values[node.outputs[0].name] = run(*(values[value.name] for value in node.inputs))
        return tuple(values[value.name] for value in self.graph.outputs)

    def __str__(self) -> str:
        return str(self.graph)


def _bound(node: Node, build: Callable[[Operator], Kernel]) -> Callable[..., Tensor]:
    """The node as a function of its input tensors."""
    operator = node.operator
    if isinstance(operator, Move):
        return operator
    kernel = build(operator)
    qparams = [value.qparams for value in node.inputs]
    out: list[Any] = [node.outputs[0].qparams] if _names_result(operator, node) else []

    def run(*tensors: Tensor) -> Tensor:
        if isinstance(operator, ops.Cat):
            return kernel(list(tensors), qparams, *out)  # type: ignore[no-any-return]
        arguments: list[Any] = []
        for tensor, q in zip(tensors, qparams, strict=True):
            arguments += [tensor] if q is None else [tensor, q]
        if isinstance(operator, ops.Attention) and len(tensors) == 3:
            arguments.append(None)  # no mask
        return kernel(*arguments, *out)  # type: ignore[no-any-return]

    return run


def _names_result(operator: Operator, node: Node) -> bool:
    return node.outputs[0].qparams is not None and not isinstance(operator, KEEP_QPARAMS)
