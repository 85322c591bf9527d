"""The native plan of a graph: steps built once, bound to the sizes of the inputs at hand, and run in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, empty_strided, get_num_threads

from qcore import operators as ops
from qcore.graph import moves
from qcore.graph.ir import Graph, Node, Value
from qcore.native import elementwise, weighted
from qcore.native.floats import norm_constants
from qcore.native.fusion import CHAIN, Step, fused, is_rows
from qcore.native.memory import no_room
from qcore.native.pooling import Windows
from qcore.native.rows import RowsLinear, with_rows
from qcore.tensor.dtypes import quint8

Scale: TypeAlias = "tuple[float, int]"
_PROGRAMS = 16
_BYTES: dict[Any, int] = {torch.float32: 4, torch.int64: 8}
"""Of an element; of integers with QParams, and of bools, one."""
_Builder: TypeAlias = "Callable[[Any, Any, Step, list[int]], int]"


def can_compile(node: Node) -> bool:
    """Whether a native plan has a step for a node."""
    quantized = [value.qparams.dtype for value in (*node.inputs, *node.outputs) if value.qparams is not None]
    return type(node.operator) in _CLAIMED and all(dtype == quint8 for dtype in quantized)


class NativePlan:
    """A graph as a function of plain tensors of any sizes, ordered as its inputs; `native`: the kernels to run it on.

    The first call with some sizes and strides binds them; the programs of the latest 16 are kept.
    """

    def __init__(self, graph: Graph, native: Any) -> None:
        self._steps = fused(with_rows(graph))
        self._labels: list[str | None] = []
        packed = _Packed(native)
        self._plan = native.plan()
        values = {value.name: self._plan.input(_BYTES.get(value.dtype, 1)) for value in graph.inputs}
        for step in self._steps:
            inputs = [values[value.name] for value in step.inputs]
            if isinstance(step.node.operator, CHAIN):
                floats, rows = _chain(self._plan, packed, step, inputs)
                values.setdefault(step.floats.name, floats)
                values.setdefault(step.result.name, rows)
            elif isinstance(step.node.operator, RowsLinear):
                linear = packed.of(step.node.operator.linear)
                values[step.result.name] = self._plan.dynamic_linear(step.path, *inputs, linear)
            else:
                values[step.result.name] = _BUILDERS[type(step.node.operator)](self._plan, native, step, inputs)
            self._labels += [str(step), *[None] * (self._plan.nodes() - len(self._labels) - 1)]
        for value in graph.outputs:
            self._plan.output(values[value.name])
        self._graph = graph
        self._masked = any(value.dtype is torch.bool for value in graph.inputs)
        self._programs: dict[Any, tuple[Any, list[tuple[Any, ...]]]] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs. Raises ArgumentError, naming the node, for sizes that do not fit."""
        return self._run(inputs, False)[0]

    def seconds(self, *inputs: Tensor) -> list[tuple[str, float]]:
        """Each step of a call, and how long it took."""
        pairs = zip(self._labels, self._run(inputs, True)[1], strict=True)
        return [(label, seconds) for label, seconds in pairs if label is not None]

    def _run(self, inputs: tuple[Tensor, ...], timed: bool) -> tuple[tuple[Tensor, ...], list[float]]:
        if self._masked:
            inputs = tuple(x.view(torch.uint8) if x.dtype is torch.bool else x for x in inputs)
        key = tuple((x.shape, x.stride()) for x in inputs)
        program, outputs = self._programs.get(key) or self._bind(key)
        try:
            results = tuple(empty_strided(size, stride, dtype=dtype) for size, stride, dtype in outputs)
        except (RuntimeError, TypeError) as error:
            raise no_room([size for size, _, _ in outputs], error) from None
        return results, program.run(inputs, results, get_num_threads(), timed)

    def _bind(self, key: tuple[Any, ...]) -> tuple[Any, list[tuple[Any, ...]]]:
        program = self._plan.bind(list(key))
        outputs = [(size, stride, torch.float32 if real else torch.uint8) for size, stride, real in program.outputs()]
        while len(self._programs) >= _PROGRAMS:
            self._programs.pop(next(iter(self._programs)), None)
        self._programs[key] = program, outputs
        return program, outputs

    def __str__(self) -> str:
        lines = [f"plan({', '.join(map(str, self._graph.inputs))}):", *(f"    {step}" for step in self._steps)]
        lines.append(f"    return {', '.join(value.name for value in self._graph.outputs)}")
        for key, (program, _) in list(self._programs.items()):
            sizes = ", ".join(str(tuple(shape)) for shape, _ in key)
            lines.append(f"    for {sizes}: {program.arena_bytes()} bytes")
        return "\n".join(lines)


class _Packed:
    """The packed weights of dynamic linears, each made once."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._made: dict[ops.LinearDynamic, Any] = {}

    def of(self, linear: ops.LinearDynamic) -> Any:
        if linear not in self._made:
            self._made[linear] = weighted.Linear(linear, self._native).packed
        return self._made[linear]


def _scale(value: Value) -> Scale:
    assert value.qparams is not None
    return value.qparams.scale, value.qparams.zero_point  # type: ignore[return-value]


def _finish(step: Step, native: Any) -> tuple[int, int, Tensor | None]:
    """Bounds of the integers and the table that a step ends with."""
    low, high = 0, 255
    for node in step.clamps:
        below, above = elementwise.Clamp(node.operator, native).bounds(node.inputs[0].qparams)  # type: ignore[arg-type]
        low, high = min(max(low, below), above), max(min(high, above), below)
    return low, high, None if step.table is None else _table(step.table, native)


def _table(node: Node, native: Any) -> Tensor:
    if isinstance(node.operator, moves.Remap):
        return torch.tensor(node.operator.table, dtype=torch.uint8)
    table: Tensor = elementwise.Lookup(node.operator, native).table(  # type: ignore[arg-type]
        node.inputs[0].qparams, node.outputs[0].qparams
    )
    return table


# --- builders: (plan, kernels, step, its inputs) -> its result ------------------------------------------------------


def _chain(plan: Any, packed: _Packed, step: Step, inputs: list[int]) -> tuple[int, int]:
    """The floats and the quantized rows that a chain gives."""
    norm: Any = None
    function: str | None = None
    quantization: Any = None
    for node in step.nodes:
        operator: Any = node.operator
        if isinstance(operator, ops.FloatLayerNorm):
            norm = *norm_constants(operator), operator.normalized_shape, operator.eps
        elif isinstance(operator, ops.FloatFunction):
            function = operator.function
        elif is_rows(node):
            quantization = packed.of(operator.linear), operator.linear.reduce_range, operator.linear.per_row
    kept = step.kept or quantization is None
    floats, rows = plan.float_chain(step.path, inputs, norm, function, quantization, kept)
    return floats, rows


def _weighted(add: str, kind: Any) -> _Builder:
    def build(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
        node = step.node
        total = None
        if step.add is not None:
            total = (_scale(step.inputs[-1]), _scale(step.add.outputs[0]), step.add.operator.relu)  # type: ignore[union-attr]
        packed = kind(node.operator, native).packed
        own = _scale(node.inputs[0]), _scale(node.outputs[0])
        result: int = getattr(plan, add)(step.path, inputs, packed, *own, total, *_finish(step, native))
        return result

    return build


def _binary(add: str) -> _Builder:
    def build(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
        scales = map(_scale, (*step.node.inputs, step.node.outputs[0]))
        relu = step.node.operator.relu  # type: ignore[union-attr]
        result: int = getattr(plan, add)(step.path, *inputs, *scales, relu, *_finish(step, native))
        return result

    return build


def _clamp(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    bounds = elementwise.Clamp(step.node.operator, native).bounds(step.node.inputs[0].qparams)  # type: ignore[arg-type]
    return plan.clamp(step.path, *inputs, *bounds)  # type: ignore[no-any-return]


def _lookup(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    return plan.table(step.path, *inputs, _table(step.node, native))  # type: ignore[no-any-return]


def _cat(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    operator: Any = step.node.operator
    scales = [_scale(value) for value in step.node.inputs]
    return plan.cat(step.path, inputs, operator.dim, scales, _scale(step.node.outputs[0]), operator.relu)  # type: ignore[no-any-return]


def _max_pool(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    w = Windows(step.node.operator)  # type: ignore[arg-type]
    sizes = w.kernel, w.stride, w.padding, w.dilation, w.ceil_mode
    return plan.max_pool(step.path, *inputs, w.rank, *sizes)  # type: ignore[no-any-return]


def _avg_pool(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    operator: Any = step.node.operator
    w = Windows(operator)
    zero = _scale(step.node.inputs[0])[1]
    options = operator.count_include_pad, operator.divisor_override or 0
    sizes = w.kernel, w.stride, w.padding, w.ceil_mode
    return plan.avg_pool(step.path, *inputs, w.rank, *sizes, zero, *options)  # type: ignore[no-any-return]


def _adaptive(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    operator: Any = step.node.operator
    sizes = (0,) * (3 - operator.spatial) + tuple(size or 0 for size in operator.output_size)
    zero = _scale(step.node.inputs[0])[1]
    return plan.adaptive_avg_pool(step.path, *inputs, operator.spatial, sizes, zero)  # type: ignore[no-any-return]


def _mean(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    operator: Any = step.node.operator
    zero = _scale(step.node.inputs[0])[1]
    return plan.mean(step.path, *inputs, operator.dims, operator.keepdim, zero)  # type: ignore[no-any-return]


def _reshape(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    operator: Any = step.node.operator
    sizes = [(each, -1, 0) if isinstance(each, int) else (0, each.input, each.dim) for each in operator.sizes]
    return plan.reshape(step.path, inputs, sizes)  # type: ignore[no-any-return]


def _attention(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    operator: Any = step.node.operator
    return plan.attention(step.path, inputs, operator.scale, operator.causal)  # type: ignore[no-any-return]


def _embedding(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
    operator: Any = step.node.operator
    return plan.float_embedding(step.path, *inputs, operator.weight)  # type: ignore[no-any-return]


def _move(name: str, *attributes: str) -> _Builder:
    def build(plan: Any, native: Any, step: Step, inputs: list[int]) -> int:
        values = [getattr(step.node.operator, attribute) for attribute in attributes]
        result: int = getattr(plan, name)(step.path, *inputs, *values)
        return result

    return build


_BUILDERS: dict[type[Any], _Builder] = {
    ops.Quantize: lambda plan, native, step, inputs: plan.quantize(step.path, *inputs, _scale(step.node.outputs[0])),
    ops.Dequantize: lambda plan, native, step, inputs: plan.dequantize(step.path, *inputs, _scale(step.node.inputs[0])),
    ops.Conv: _weighted("conv", weighted.Conv),
    ops.Linear: _weighted("linear", weighted.Linear),
    ops.Add: _binary("add"),
    ops.Mul: _binary("mul"),
    ops.Clamp: _clamp,
    ops.Lookup: _lookup,
    moves.Remap: _lookup,
    ops.Cat: _cat,
    ops.MaxPool: _max_pool,
    ops.AvgPool: _avg_pool,
    ops.AdaptiveAvgPool: _adaptive,
    ops.Mean: _mean,
    ops.Attention: _attention,
    ops.FloatEmbedding: _embedding,
    moves.Relabel: _move("identity"),
    moves.Contiguous: _move("contiguous"),
    moves.Reshape: _reshape,
    moves.Flatten: _move("flatten", "start", "end"),
    moves.Permute: _move("permute", "dims"),
    moves.Transpose: _move("transpose", "first", "second"),
    moves.Squeeze: _move("squeeze", "dim"),
    moves.Unsqueeze: _move("unsqueeze", "dim"),
    moves.Select: _move("select", "dim", "index"),
    moves.Slice: _move("slice", "dim", "start", "stop", "step"),
    moves.Chunk: _move("chunk", "chunks", "dim", "index"),
}

_CLAIMED = (*_BUILDERS, ops.LinearDynamic, ops.FloatAdd, ops.FloatFunction, ops.FloatLayerNorm)
