"""Which values of a graph are float tensors, integer tensors, or none; found from the inputs without running it."""

from __future__ import annotations

import operator as python
from enum import Enum
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from qcore.fx.graph_module import attribute
from qcore.fx.patterns import NOT_TENSORS, is_transposed

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


def kinds_of(model: fx.GraphModule, example_inputs: tuple[Any, ...]) -> dict[fx.Node, Kind]:
    """The kind of each node's value. A call gives what its tensor arguments are, floats winning, unless it is known to
    give something else."""
    kinds: dict[fx.Node, Kind] = {}
    given = iter(example_inputs)
    known: dict[Any, Any] = {}
    for node in model.graph.nodes:
        if node.op == "placeholder":
            known[node] = next(given, torch.empty(0))
            kinds[node] = kind_of(known[node])
        elif node.target is python.getitem and isinstance(known.get(node.args[0]), dict | list | tuple):
            known[node] = _item(known[node.args[0]], node.args[1])
            kinds[node] = kind_of(known[node])
        elif node.op == "get_attr":
            kinds[node] = kind_of(attribute(model, str(node.target)))
        elif isinstance(node.target, type) or (node.target in NOT_TENSORS and not is_transposed(node)):
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


class _Shapes(fx.Interpreter):
    """Runs a graph, and keeps the size of each tensor."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model)
        self.found: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = result.shape
        return result


def copied(value: Any) -> Any:
    """A tensor's copy, for a model that may write to its inputs; anything else as it is."""
    return value.clone() if isinstance(value, Tensor) else value


def shapes_of(model: fx.GraphModule, example_inputs: tuple[Any, ...]) -> dict[fx.Node, torch.Size]:
    """The sizes of the values of a graph, as far as it runs on the example inputs."""
    run = _Shapes(model)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            run.run(*tree_map(copied, example_inputs))
    except Exception:
        pass
    finally:
        for module, training in modes.items():
            module.training = training
    return run.found
