"""What this backend is and declares: graphs of ordinary layers, each within one step of the exact integers."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import qcore
from qcore import operators as ops
from qcore.checks import check_operator, checked
from qcore.graph.ir import Graph, Node, Value
from qcore.onnx.graph import node_reason_against
from qcore.operators import Operator
from qcore.tensor.qparams import QParams
from qcore_onnxruntime.plan import Plan

WEIGHTS = (qcore.WeightSpec(per_channel=True), qcore.WeightSpec(per_channel=False))
WHY = "sums of more products of 255 * 255 could leave int32"
LINEAR, CONV = (qcore.Limit(extent, 33025, WHY) for extent in ("in_features", "accumulated"))
OPS = (
    qcore.OpSpec(ops.Linear, weights=WEIGHTS, fused=("relu",), limits=(LINEAR,), steps=1),
    qcore.OpSpec(ops.Conv, weights=WEIGHTS, fused=("relu",), spatial=(1, 2), limits=(CONV,), steps=1),
    qcore.OpSpec(ops.Add, fused=("relu",), steps=1),
)
_BETWEEN = (ops.Quantize, ops.Dequantize, ops.Mul, ops.Cat, ops.Clamp, ops.Lookup, ops.MaxPool, ops.AdaptiveAvgPool)
"""Operators that have a place in a graph between those, and would gain nothing alone."""


class OnnxRuntime(qcore.Backend):
    """Graphs become ONNX models, whose sessions run them; a single operator is a graph of one node."""

    name = "onnxruntime"
    version = "0.1.0"
    summary = "quantized graphs by ONNX Runtime, on its execution providers"
    api_version = (1, 1)
    priority = -10

    def probe(self) -> qcore.Availability:
        """Wherever ONNX Runtime is installed, and what exports to it; none is imported for that."""
        for package in ("onnxruntime", "onnx", "onnxscript"):
            if find_spec(package) is None:
                return qcore.Availability(False, f"{package} is not installed", f"pip install {package}")
        return qcore.Availability(True, detail="ONNX Runtime")

    def capability(self) -> qcore.Capability:
        """The same everywhere."""
        return qcore.Capability(OPS, qcore.standard_patterns(OPS))

    def claims(self, graph: Graph) -> Collection[Node]:
        """All that has a translation to ONNX and stays within a step of the exact integers."""
        return [node for node in graph.nodes if self._takes(node)]

    def compile(self, graph: Graph) -> Plan:
        """Its session."""
        return Plan(graph)

    def build(self, operator: Operator) -> qcore.Kernel:
        """A session for one operator, made again where it is called with other parameters."""
        verdict = self.supports(operator)
        if not verdict:
            raise qcore.UnsupportedError(f"{self.name}: {verdict.reason}")
        check_operator(operator)
        return checked(operator, _Kernel(operator))

    def _takes(self, node: Node) -> bool:
        if node_reason_against(node):
            return False
        operator = node.operator
        if not isinstance(operator, Operator):
            return True
        dtypes = tuple(value.qparams.dtype for value in (*node.inputs, *node.outputs) if value.qparams is not None)
        return isinstance(operator, _BETWEEN) or bool(self.supports(operator, dtypes))


class _Kernel:
    """kernel(x, qx, out) or kernel(a, qa, b, qb, out)"""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._plans: dict[tuple[QParams, ...], Plan] = {}

    def __call__(self, *arguments: Any) -> Tensor:
        *pairs, out = arguments
        if not isinstance(out, QParams):
            raise qcore.ArgumentTypeError(f"{self._operator.name}: out must be QParams, not {type(out).__name__}")
        tensors, qparams = pairs[::2], tuple(pairs[1::2])
        plan = self._plans.get((*qparams, out))
        if plan is None:
            inputs = tuple(Value(f"x{i}", q) for i, q in enumerate(qparams))
            result = Value("y", out)
            plan = Plan(Graph(inputs, (Node(self._operator, inputs, (result,), self._operator.name),), (result,)))
            self._plans[(*qparams, out)] = plan
        y = plan(*tensors)[0]
        always = isinstance(self._operator, ops.Conv) and y.ndim == 4
        last = torch.channels_last
        return y.contiguous(memory_format=last) if always or _is_only(tensors[0], last) else y


def _is_only(x: Tensor, layout: torch.memory_format) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=layout) and not x.is_contiguous()
