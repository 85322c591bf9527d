"""A quantized graph as an ONNX model, written node by node: it has no sizes, so that one model serves them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.errors import UnsupportedError
from qcore.graph import moves
from qcore.graph.ir import Graph, Node, Value
from qcore.onnx.custom_ops import OPSET
from qcore.onnx.weights import Ends, IntegerWeight, scale_and_zero_point
from qcore.tables import table
from qcore.tensor.qparams import QParams

_END = 2**63 - 1


def node_reason_against(node: Node) -> str:
    """Why a node has no translation; empty if it has."""
    operator: Any = node.operator
    if type(operator) not in _TRANSLATIONS:
        return f"{operator.name} has no translation to ONNX"
    if isinstance(operator, ops.MaxPool) and operator.ceil_mode:
        return "max_pool with ceil_mode has no translation to ONNX: windows at the border differ"
    if isinstance(operator, ops.AdaptiveAvgPool) and set(operator.output_size) != {1}:
        return "adaptive_avg_pool to other sizes than 1 has no translation to ONNX"
    return ""


def written(graph: Graph, ranks: tuple[int, ...], unsigned: bool) -> bytes:
    """The serialized model; see export_graph."""
    from onnx import helper

    refused = [f"{node.path} ({reason})" for node in graph.nodes if (reason := node_reason_against(node))]
    if refused:
        raise UnsupportedError(f"cannot be exported to ONNX: {'; '.join(refused)}")
    writer = _Writer(unsigned)
    inputs = [
        _described(f"in{i}", value, rank) for i, (value, rank) in enumerate(zip(graph.inputs, ranks, strict=True))
    ]
    for number, (value, rank) in enumerate(zip(graph.inputs, ranks, strict=True)):
        writer.names[value.name], writer.ranks[value.name] = f"in{number}", rank
    for node in graph.nodes:
        result = node.outputs[0]
        name, rank = _TRANSLATIONS[type(node.operator)](writer, node, node.operator)
        writer.names[result.name], writer.ranks[result.name] = name, rank
    outputs = []
    for number, value in enumerate(graph.outputs):
        writer.add("Identity", writer.names[value.name], result=f"out{number}")
        outputs.append(_described(f"out{number}", value, writer.ranks[value.name]))
    made = helper.make_graph(writer.nodes, "quantized", inputs, outputs, writer.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return model.SerializeToString()  # type: ignore[no-any-return]


def _described(name: str, value: Value, rank: int) -> Any:
    from onnx import TensorProto, helper

    kinds = {torch.uint8: TensorProto.UINT8, torch.int8: TensorProto.INT8, torch.int32: TensorProto.INT32}
    kind = TensorProto.FLOAT if value.qparams is None else kinds[value.qparams.dtype.storage]
    return helper.make_tensor_value_info(name, kind, [f"{name}_{dim}" for dim in range(rank)])


class _Writer:
    """The nodes so far. `names`: those of values as they are, `ranks`: their numbers of dimensions."""

    def __init__(self, unsigned: bool) -> None:
        self.unsigned = unsigned
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[str, str] = {}
        self.ranks: dict[str, int] = {}
        self._floats: dict[str, str] = {}

    def add(self, kind: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """One ONNX node; gives the name of its result."""
        from onnx import helper

        result = result or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [result], **attributes))
        return result

    def constant(self, value: Tensor | int | list[int]) -> str:
        """A tensor of the model; numbers become int64."""
        from onnx import numpy_helper

        tensor = value if isinstance(value, Tensor) else torch.tensor(value)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(tensor.detach().contiguous().numpy(), name))
        return name

    def floats(self, node: Node) -> list[str]:
        """The inputs of a node as floats."""
        return [self.as_float(value) for value in node.inputs]

    def as_float(self, value: Value) -> str:
        """The numbers that a value's integers stand for."""
        if value.qparams is None:
            return self.names[value.name]
        if value.name not in self._floats:
            codes = map(self.constant, scale_and_zero_point(value.qparams))
            self._floats[value.name] = self.add("DequantizeLinear", self.names[value.name], *codes)
        return self._floats[value.name]

    def rounded(self, x: str, node: Node, relu: bool = False) -> str:
        """A float result, after the ReLU where one is fused, as what the node's output is."""
        x = self.add("Relu", x) if relu else x
        q = node.outputs[0].qparams
        return x if q is None else self.add("QuantizeLinear", x, *map(self.constant, scale_and_zero_point(q)))

    def weighted(self, kind: str, node: Node, flip: bool = False, **attributes: Any) -> str:
        """A product with the weight, which is stored the other way round if asked, and the bias where there is one."""
        operator: Any = node.operator
        value = node.inputs[0]
        ends = Ends(value.qparams, node.outputs[0].qparams)
        made = IntegerWeight.of(operator, ends, self.unsigned, 0, operator.weight.shape[0])
        raw = self.constant(made.weight.t() if flip else made.weight)
        codes = self.constant(made.scale), self.constant(made.zero_point)
        inputs = [self.as_float(value), self.add("DequantizeLinear", raw, *codes, axis=int(flip))]
        if made.bias is not None and made.bias_scale is not None:
            bias = self.add("DequantizeLinear", self.constant(made.bias), self.constant(made.bias_scale), axis=0)
            if kind != "MatMul":
                return self.add(kind, *inputs, bias, **attributes)
            return self.add("Add", self.add(kind, *inputs, **attributes), bias)
        y = self.add(kind, *inputs, **attributes)
        if made.bias is None:
            return y
        # beside quantized values ONNX Runtime would make the bias an integer, for which it is too large
        shape = [-1] + [1] * (operator.spatial or 0)
        return self.add("Add", y, self.constant(made.bias.reshape(shape)))


Made = tuple[str, int]
"""The name of a result and its rank."""


# --- operators ----------------------------------------------------------------------------------------------------


def _linear(w: _Writer, node: Node, op: ops.Linear) -> Made:
    rank = w.ranks[node.inputs[0].name]
    y = w.weighted("Gemm", node, transB=1) if rank == 2 else w.weighted("MatMul", node, flip=True)
    return w.rounded(y, node, op.relu), rank


def _conv(w: _Writer, node: Node, op: ops.Conv) -> Made:
    y = w.weighted("Conv", node, group=op.groups, **_geometry(op))
    return w.rounded(y, node, op.relu), w.ranks[node.inputs[0].name]


def _geometry(op: ops.Conv | ops.MaxPool) -> dict[str, Any]:
    given = {"strides": op.stride, "dilations": op.dilation, "pads": op.padding * 2}
    return {name: list(sizes) for name, sizes in given.items() if sizes}


def _elementwise(kind: str) -> Callable[[_Writer, Node, Any], Made]:
    def write(w: _Writer, node: Node, op: Any) -> Made:
        rank = max(w.ranks[value.name] for value in node.inputs)
        return w.rounded(w.add(kind, *w.floats(node)), node, op.relu), rank

    return write


def _cat(w: _Writer, node: Node, op: ops.Cat) -> Made:
    return w.rounded(w.add("Concat", *w.floats(node), axis=op.dim), node, op.relu), w.ranks[node.inputs[0].name]


def _clamp(w: _Writer, node: Node, op: ops.Clamp) -> Made:
    bounds = ["" if bound is None else w.constant(torch.tensor(float(bound))) for bound in (op.low, op.high)]
    return w.rounded(w.add("Clip", *w.floats(node), *bounds), node), w.ranks[node.inputs[0].name]


def _lookup(w: _Writer, node: Node, op: ops.Lookup) -> Made:
    qx, out = node.inputs[0].qparams, node.outputs[0].qparams
    assert qx is not None and out is not None
    return _replaced(w, node, table(op.function, op.args, qx, out), qx)


def _remap(w: _Writer, node: Node, op: moves.Remap) -> Made:
    qx = node.inputs[0].qparams
    assert qx is not None
    return _replaced(w, node, torch.tensor(op.table, dtype=qx.dtype.storage), qx)


def _replaced(w: _Writer, node: Node, entries: Tensor, qx: QParams) -> Made:
    """Each integer through a table, that of the lowest first."""
    from onnx import TensorProto

    index = w.add("Cast", w.names[node.inputs[0].name], to=TensorProto.INT32)
    index = w.add("Sub", index, w.constant(torch.tensor(qx.dtype.qmin, dtype=torch.int32)))
    return w.add("Gather", w.constant(entries), index), w.ranks[node.inputs[0].name]


def _max_pool(w: _Writer, node: Node, op: ops.MaxPool) -> Made:
    x, rank = _same(w, node, op)
    geometry = {"strides": list(op.kernel_size), **_geometry(op)}
    return w.add("MaxPool", x, kernel_shape=list(op.kernel_size), **geometry), rank


def _average(w: _Writer, node: Node, op: ops.AdaptiveAvgPool) -> Made:
    dims = w.constant([-1 - dim for dim in range(op.spatial)])
    return w.rounded(w.add("ReduceMean", *w.floats(node), dims, keepdims=1), node), w.ranks[node.inputs[0].name]


# --- moves, on integers as they are -------------------------------------------------------------------------------


def _same(w: _Writer, node: Node, op: Any) -> Made:
    return w.names[node.inputs[0].name], w.ranks[node.inputs[0].name]


def _quantize(w: _Writer, node: Node, op: ops.Quantize) -> Made:
    return w.rounded(w.names[node.inputs[0].name], node), w.ranks[node.inputs[0].name]


def _dequantize(w: _Writer, node: Node, op: ops.Dequantize) -> Made:
    return w.as_float(node.inputs[0]), w.ranks[node.inputs[0].name]


def _reshape(w: _Writer, node: Node, op: moves.Reshape) -> Made:
    sizes = []
    for size in op.sizes:
        if isinstance(size, int):
            sizes.append(w.constant([size]))
        else:
            value = node.inputs[size.input]
            dim = size.dim % w.ranks[value.name]
            sizes.append(w.add("Shape", w.names[value.name], start=dim, end=dim + 1))
    shape = w.add("Concat", *sizes, axis=0)
    return w.add("Reshape", w.names[node.inputs[0].name], shape), len(sizes)


def _flatten(w: _Writer, node: Node, op: moves.Flatten) -> Made:
    x, rank = _same(w, node, op)
    start, end = op.start % rank, op.end % rank
    product = w.add("ReduceProd", w.add("Shape", x, start=start, end=end + 1), keepdims=1)
    pieces = [w.add("Shape", x, start=0, end=start)] if start else []
    pieces += [product, *([w.add("Shape", x, start=end + 1)] if end + 1 < rank else [])]
    return w.add("Reshape", x, w.add("Concat", *pieces, axis=0), allowzero=1), rank - (end - start)


def _permute(w: _Writer, node: Node, op: moves.Permute) -> Made:
    x, rank = _same(w, node, op)
    return w.add("Transpose", x, perm=[dim % rank for dim in op.dims]), rank


def _transpose(w: _Writer, node: Node, op: moves.Transpose) -> Made:
    x, rank = _same(w, node, op)
    order = list(range(rank))
    order[op.first], order[op.second] = order[op.second], order[op.first]
    return w.add("Transpose", x, perm=order), rank


def _unsqueeze(w: _Writer, node: Node, op: moves.Unsqueeze) -> Made:
    x, rank = _same(w, node, op)
    return w.add("Unsqueeze", x, w.constant([op.dim])), rank + 1


def _slice(w: _Writer, node: Node, op: moves.Slice) -> Made:
    x, rank = _same(w, node, op)
    ends = _END if op.stop is None else op.stop
    return w.add("Slice", x, *(w.constant([number]) for number in (op.start, ends, op.dim, op.step))), rank


def _select(w: _Writer, node: Node, op: moves.Select) -> Made:
    x, rank = _same(w, node, op)
    return w.add("Gather", x, w.constant(op.index), axis=op.dim), rank - 1


def _chunk(w: _Writer, node: Node, op: moves.Chunk) -> Made:
    x, rank = _same(w, node, op)
    dim = op.dim % rank
    size = w.add("Shape", x, start=dim, end=dim + 1)
    piece = w.add("Div", w.add("Add", size, w.constant([op.chunks - 1])), w.constant([op.chunks]))
    start = w.add("Mul", piece, w.constant([op.index]))
    return w.add("Slice", x, start, w.add("Add", start, piece), w.constant([dim])), rank


_TRANSLATIONS: dict[type, Callable[[_Writer, Node, Any], Made]] = {
    ops.Linear: _linear,
    ops.Conv: _conv,
    ops.Add: _elementwise("Add"),
    ops.Mul: _elementwise("Mul"),
    ops.Cat: _cat,
    ops.Clamp: _clamp,
    ops.Lookup: _lookup,
    ops.MaxPool: _max_pool,
    ops.AdaptiveAvgPool: _average,
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
    moves.Relabel: _same,
    moves.Remap: _remap,
    moves.Contiguous: _same,
    moves.Reshape: _reshape,
    moves.Flatten: _flatten,
    moves.Permute: _permute,
    moves.Transpose: _transpose,
    moves.Unsqueeze: _unsqueeze,
    moves.Slice: _slice,
    moves.Select: _select,
    moves.Chunk: _chunk,
}
