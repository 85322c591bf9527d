"""Graphs drawn from what a backend declares, for one that compiles graphs: its plans have the bits of its kernels."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.backend import Backend, Plan
from qcore.capability import Capability, OpSpec
from qcore.conformance.case import Recipe
from qcore.conformance.check import Nonconformance, same_results
from qcore.conformance.draw import Draw
from qcore.graph.execute import KEEP_QPARAMS, Interpreter
from qcore.graph.ir import Graph, Node, Value
from qcore.graph.moves import Flatten, Move
from qcore.operators import Operator
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import QParams, per_tensor

SIZES = (5, 7)
CHANNELS = 6


@dataclass
class Drawing:
    """A graph of images (batch, 6, 5, 7) that grows node by node; the same seed gives the same graph.

    Each value may be read by several nodes. The last image is flattened, and read by a linear layer if there is one.
    """

    capability: Capability
    seed: int
    nodes: list[Node] = field(default_factory=list)

    def graph(self) -> Graph:
        """The finished graph: one integer input, and two outputs where there are that many values."""
        self._draw = Draw(Recipe(shape=(), seed=self.seed))
        self._random = random.Random(self.seed)
        start = Value("input", self._qparams())
        images = [start]
        kinds = [each for each in self.capability.ops if quint8 in each.activations and each.operator in _MAKERS]
        kinds = [each for each in kinds if each.operator is not ops.Conv or 2 in (each.spatial or (2,))]
        for _ in range(self._random.randint(2, 9) if kinds else 0):
            spec = self._random.choice(kinds)
            inputs = [self._random.choice(images[-3:]) for _ in range(2 if spec.operator in _OF_TWO else 1)]
            images.append(self._add(_MAKERS[spec.operator](self, spec), *inputs))
        outputs = [images[-1]] if len(images) > 1 else []
        linear = self.capability.find(ops.Linear)
        if linear is not None and quint8 in linear.activations:
            flat = self._add(Flatten(1), images[-1])
            outputs.append(self._add(self.weighted(linear, ops.Linear, (3, CHANNELS * SIZES[0] * SIZES[1])), flat))
        return Graph((start,), tuple(self.nodes), tuple(outputs))

    def relu(self, spec: OpSpec) -> bool:
        """Fused where it may be, half of the time."""
        return "relu" in spec.fused and self._random.random() < 0.5

    def weighted(self, spec: OpSpec, operator: type[ops.Conv | ops.Linear], shape: tuple[int, ...]) -> Operator:
        """A layer with a weight of one of the declared kinds."""
        kind = self._random.choice(spec.weights)
        weight = self._draw.integers(shape, kind.dtype)
        bias = self._draw.floats((shape[0],)) if self._random.random() < 0.7 else None
        qweight = self._draw.weight_qparams(kind, shape[0])
        if operator is ops.Linear:
            return ops.Linear(weight, qweight, bias, self.relu(spec))
        groups = CHANNELS // shape[1]
        return ops.Conv(weight, qweight, bias, self.relu(spec), (1, 1), (shape[2] // 2,) * 2, (1, 1), groups)

    def conv(self, spec: OpSpec) -> Operator:
        """One that keeps sizes: 1x1 or 3x3, dense, in groups or depthwise."""
        kernel = self._random.choice((1, 3))
        return self.weighted(spec, ops.Conv, (CHANNELS, self._random.choice((CHANNELS, 3, 1)), kernel, kernel))

    def function(self, spec: OpSpec) -> Operator:
        """A table of one of the declared functions that take no parameters."""
        plain = [name for name in spec.functions if name in ("sigmoid", "tanh", "hardswish", "gelu")]
        return ops.Lookup(self._random.choice(plain)) if plain else ops.Lookup(spec.functions[0])

    def _qparams(self) -> QParams:
        scale = self._draw.uniform(0.01, 0.1)[0]
        return per_tensor(scale, self._draw.zero_point(quint8), quint8)

    def _add(self, operator: Operator | Move, *inputs: Value) -> Value:
        kept = isinstance(operator, (Move, *KEEP_QPARAMS))
        made = Value(f"value_{len(self.nodes)}", inputs[0].qparams if kept else self._qparams())
        self.nodes.append(Node(operator, inputs, (made,), f"node_{len(self.nodes)}"))
        return made


_OF_TWO = (ops.Add, ops.Mul)
_MAKERS: dict[type[Operator], Callable[[Drawing, OpSpec], Operator]] = {
    ops.Conv: Drawing.conv,
    ops.Add: lambda drawing, spec: ops.Add(drawing.relu(spec)),
    ops.Mul: lambda drawing, spec: ops.Mul(drawing.relu(spec)),
    ops.Clamp: lambda drawing, spec: ops.Clamp(0.0, 2.5),
    ops.Lookup: Drawing.function,
    ops.MaxPool: lambda drawing, spec: ops.MaxPool((3, 3), (1, 1), (1, 1), (1, 1)),
    ops.AvgPool: lambda drawing, spec: ops.AvgPool((3, 3), (1, 1), (1, 1)),
}


def check_graph(backend: Backend, graph: Graph, batches: tuple[int, ...] = (2, 1, 0, 3)) -> int:
    """Compile what the backend claims of a graph, and compare with its kernels; gives the number of operators claimed.

    Raises Nonconformance for claims of nodes that are not the graph's, and for plans that give other results for some
    batch, a second time, on more threads or from several at once; or that change inputs or share results.
    """
    claimed = {id(node) for node in backend.claims(graph)}
    if claimed - {id(node) for node in graph.nodes}:
        raise Nonconformance(f"claims() names nodes that are not of the graph\n{graph}")
    everything = Graph(graph.inputs, graph.nodes, tuple(value for node in graph.nodes for value in node.outputs))
    kernels = Interpreter(everything, backend.build)
    parts = list(_runs(graph, claimed))
    plans = [backend.compile(part) for part in parts]
    for batch in batches:
        x = Draw(Recipe(shape=(), seed=batch)).integers((batch, CHANNELS, *SIZES), quint8)
        values = {graph.inputs[0].name: x}
        values |= {value.name: each for value, each in zip(everything.outputs, kernels(x), strict=True)}
        for part, plan in zip(parts, plans, strict=True):
            _check_plan(part, plan, values)
    return sum(not isinstance(node.operator, Move) for part in parts for node in part.nodes)


def _check_plan(part: Graph, plan: Plan, values: dict[str, Tensor]) -> None:
    inputs = [values[value.name].clone(memory_format=torch.preserve_format) for value in part.inputs]
    expected = tuple(values[value.name] for value in part.outputs)
    got = plan(*inputs)
    if not isinstance(got, tuple) or not same_results(got, expected):
        raise Nonconformance(f"the plan and the kernels differ\n{part}")
    if not same_results(tuple(inputs), tuple(values[value.name] for value in part.inputs)):
        raise Nonconformance(f"the plan changed its input\n{part}")
    torch.set_num_threads(2)
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda _: plan(*inputs), range(4)))
    torch.set_num_threads(1)
    if not all(same_results(each, expected) for each in others):
        raise Nonconformance(f"the plan gives other results on two threads, called from four\n{part}")
    memory = [tensor.untyped_storage().data_ptr() for each in (got, *others) for tensor in each if tensor.numel()]
    if len(set(memory)) < len(memory) or not same_results(got, expected):
        raise Nonconformance(f"results of two calls of the plan share memory\n{part}")


def _runs(graph: Graph, claimed: set[int]) -> Iterator[Graph]:
    """Parts of claimed nodes that follow each other, which are convex; of two operators or more, as in models."""
    run: list[Node] = []
    for node in (*graph.nodes, None):
        if node is not None and id(node) in claimed:
            run.append(node)
        else:
            if sum(not isinstance(each.operator, Move) for each in run) > 1:
                yield graph.part(run)
            run = []
