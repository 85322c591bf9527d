"""Which values of a graph are float tensors, integer tensors, or none; found by running it on the example inputs."""

from __future__ import annotations

import operator as python
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from qcore.fx.check import copied, solid
from qcore.fx.graph_module import attribute
from qcore.fx.patterns import is_question
from qcore.fx.state import State

_INTEGER_CALLS: tuple[Any, ...] = (
    "long", "int", "bool", "byte", "short", "char", "argmax", "argmin", "argsort", "nonzero", "eq", "ne", "lt", "gt",
    "le", "ge", "logical_not", python.eq, python.ne, python.lt, python.gt, python.le, python.ge, torch.eq, torch.ne,
    torch.lt, torch.gt, torch.le, torch.ge, torch.argmax, torch.argmin, torch.argsort, torch.nonzero, torch.isnan,
    torch.logical_not,
)  # fmt: skip
_OTHER_FLOATS: tuple[Any, ...] = ("half", "double", "bfloat16")
_FLOAT_CALLS: tuple[Any, ...] = ("softmax", torch.softmax, python.truediv, torch.rand_like)


class Kind(Enum):
    """What a value is."""

    FLOAT = "a float tensor"
    OTHER_FLOAT = "a float tensor, but not of float32"
    INTEGER = "an integer tensor"
    OTHER = "no tensor"


@dataclass
class Values:
    """What the values of a graph are on the example inputs: the kind of each, and, of tensors, as far as the graph runs
    on them, the sizes and, of floats, the range; `contiguous`: those with three or more dimensions, in the order of
    these."""

    kinds: dict[fx.Node, Kind]
    shapes: dict[fx.Node, torch.Size]
    ranges: dict[fx.Node, tuple[float, float]]
    contiguous: set[fx.Node]


def values_of(model: fx.GraphModule, example_inputs: tuple[Any, ...]) -> Values:
    """The values of a graph; of what does not run, kinds as the calls let guess."""
    run = _ran(model, example_inputs)
    kinds = {**_guessed(model, example_inputs), **run.kinds}
    return Values(kinds, run.shapes, run.ranges, run.contiguous)


def kinds_of(model: fx.GraphModule, example_inputs: tuple[Any, ...]) -> dict[fx.Node, Kind]:
    """The kind of each node's value."""
    return values_of(model, example_inputs).kinds


def _guessed(model: fx.GraphModule, example_inputs: tuple[Any, ...]) -> dict[fx.Node, Kind]:
    """A call gives what its tensor arguments are, floats winning, unless it is known to give something else."""
    kinds: dict[fx.Node, Kind] = {}
    given = iter(example_inputs)
    known: dict[Any, Any] = {}
    for node in model.graph.nodes:
        if node.op == "placeholder":
            known[node] = next(given, torch.empty(0, dtype=torch.float32))
            kinds[node] = kind_of(known[node])
        elif node.target is python.getitem and isinstance(known.get(node.args[0]), dict | list | tuple):
            known[node] = _item(known[node.args[0]], node.args[1])
            kinds[node] = kind_of(known[node])
        elif node.op == "get_attr":
            kinds[node] = kind_of(attribute(model, str(node.target)))
        elif isinstance(node.target, type) or is_question(node):
            kinds[node] = Kind.OTHER
        elif node.op == "call_module":
            other = any(kinds[each] is Kind.OTHER_FLOAT for each in node.all_input_nodes)
            kinds[node] = Kind.OTHER_FLOAT if other else Kind.FLOAT
        elif node.target in _INTEGER_CALLS:
            kinds[node] = Kind.INTEGER
        else:
            kinds[node] = _of_call(node, kinds)
    return kinds


def _item(values: Any, index: Any) -> Any:
    """An item of an example; None where it has none such."""
    try:
        return values[index]
    except (KeyError, IndexError, TypeError):
        return None


def _of_call(node: fx.Node, kinds: dict[fx.Node, Kind]) -> Kind:
    dtype = node.kwargs.get("dtype") or next((arg for arg in node.args if isinstance(arg, torch.dtype)), None)
    if isinstance(dtype, torch.dtype):
        return _of_dtype(dtype)
    among = {kinds[each] for each in node.all_input_nodes}
    if node.target in _OTHER_FLOATS:
        return Kind.OTHER_FLOAT
    if node.target == "float" or (node.target in _FLOAT_CALLS and among - {Kind.OTHER, Kind.OTHER_FLOAT}):
        return Kind.FLOAT
    for kind in (Kind.OTHER_FLOAT, Kind.FLOAT, Kind.INTEGER):
        if kind in among:
            return kind
    made = node.op == "call_function" and getattr(node.target, "__module__", "") in (
        "torch",
        "torch._C._VariableFunctions",
    )
    # torch.arange and its kin make tensors from numbers; arithmetic on sizes stays arithmetic
    return Kind.INTEGER if made or str(node.target).startswith("<built-in method") else Kind.OTHER


def kind_of(value: Any) -> Kind:
    """The kind of a given value."""
    if isinstance(value, Tensor | nn.Parameter):
        return Kind.FLOAT if hasattr(value, "qparams") else _of_dtype(value.dtype)
    return Kind.OTHER


def _of_dtype(dtype: torch.dtype) -> Kind:
    if not dtype.is_floating_point:
        return Kind.INTEGER
    return Kind.FLOAT if dtype is torch.float32 else Kind.OTHER_FLOAT


class _Run(fx.Interpreter):
    """Runs a graph, and keeps what its values are."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model)
        self.extra_traceback = False
        self.kinds: dict[fx.Node, Kind] = {}
        self.shapes: dict[fx.Node, torch.Size] = {}
        self.ranges: dict[fx.Node, tuple[float, float]] = {}
        self.contiguous: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(n.target, type):
            return result
        first = next((each for each in tree_leaves(result) if isinstance(each, Tensor)), None)
        self.kinds[n] = kind_of(result if first is None else first)
        if isinstance(result, Tensor):
            self.shapes[n] = result.shape
            if result.ndim > 2 and result.layout is torch.strided and result.is_contiguous():
                self.contiguous.add(n)
            if self.kinds[n] is Kind.FLOAT and result.numel() and not hasattr(result, "qparams"):
                self.ranges[n] = (float(result.min()), float(result.max()))
        return result


def _ran(model: fx.GraphModule, example_inputs: tuple[Any, ...]) -> _Run:
    run, state = _Run(model), State(model)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            run.run(*tree_map(copied, tree_map(solid, example_inputs)))
    except Exception:
        pass
    finally:
        for module, training in modes.items():
            module.training = training
        state.restore()
    return run


def shapes_of(model: fx.GraphModule, example_inputs: tuple[Any, ...]) -> dict[fx.Node, torch.Size]:
    """The sizes of the values of a graph, as far as it runs on the example inputs."""
    return _ran(model, example_inputs).shapes
