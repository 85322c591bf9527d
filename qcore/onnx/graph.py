"""A quantized graph as a module on its integers, whose operators compute in float between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.errors import UnsupportedError
from qcore.graph.ir import Graph, Node, Value
from qcore.graph.moves import Move, Relabel, Remap
from qcore.onnx.floats import Function, float_module, reason_against, scale_and_zero_point


def node_reason_against(node: Node) -> str:
    """Why a node has no translation; empty if it has."""
    operator = node.operator
    if isinstance(operator, Relabel | Remap):
        return f"{operator.name} has no translation to ONNX"
    if isinstance(operator, Move | ops.Quantize | ops.Dequantize):
        return ""
    return reason_against(operator)


class GraphModule(nn.Module):
    """Plain tensors in the order of the graph's inputs -> a tuple of those of its outputs."""

    def __init__(self, graph: Graph, unsigned: bool) -> None:
        super().__init__()
        refused = [f"{node.path} ({reason})" for node in graph.nodes if (reason := node_reason_against(node))]
        if refused:
            raise UnsupportedError(f"cannot be exported to ONNX: {'; '.join(refused)}")
        self.graph = graph
        self.steps = nn.ModuleList(_step(node, unsigned) for node in graph.nodes)
        self.codecs = nn.ModuleDict(
            {_key(value): _Codec(value) for value in (*graph.inputs, *_made(graph)) if value.qparams is not None}
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Integers in, integers out; float where a value is float."""
        integers: dict[str, Tensor] = {}
        floats: dict[str, Tensor] = {}

        def put(value: Value, x: Tensor, quantized: bool) -> None:
            if value.qparams is None:
                floats[value.name] = integers[value.name] = x
                return
            codec: Any = self.codecs[_key(value)]
            integers[value.name] = x if quantized else codec.encode(x)
            floats[value.name] = codec.decode(integers[value.name])

        for value, given in zip(self.graph.inputs, inputs, strict=True):
            put(value, given, True)
        for node, step in zip(self.graph.nodes, self.steps, strict=True):
            listed = [floats[value.name] for value in node.inputs]
            result = step(listed) if isinstance(node.operator, ops.Cat) else step(*listed)
            put(node.outputs[0], result, False)
        return tuple(integers[value.name] for value in self.graph.outputs)


class _Codec(nn.Module):
    scale: Tensor
    zero_point: Tensor

    def __init__(self, value: Value) -> None:
        super().__init__()
        assert value.qparams is not None
        scale, zero_point = scale_and_zero_point(value.qparams)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)

    def encode(self, x: Tensor) -> Any:
        return torch.ops.qcore_onnx.quantize(x, self.scale, self.zero_point)

    def decode(self, x: Tensor) -> Any:
        return torch.ops.qcore_onnx.dequantize(x, self.scale, self.zero_point, 0)


def _made(graph: Graph) -> list[Value]:
    return [value for node in graph.nodes for value in node.outputs]


def _key(value: Value) -> str:
    return value.name.replace(".", "__")


def _step(node: Node, unsigned: bool) -> nn.Module:
    if isinstance(node.operator, ops.Quantize | ops.Dequantize):
        return nn.Identity()  # the value before or after it is rounded anyway
    if isinstance(node.operator, Move):
        return Function(node.operator)
    return float_module(node.operator, node.inputs[0].qparams, unsigned)
