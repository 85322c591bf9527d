"""A recorded model, rewritten for ONNX: each operator on integers becomes its float form between two roundings.

What is rewritten is what torch.export records of the model, moves of integers and all, so that no module's own code
has to be told here again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from qcore.custom_ops.schema import CALLS, PARAMETERS, operator_of, restore
from qcore.errors import UnsupportedError
from qcore.onnx.floats import float_module, reason_against
from qcore.onnx.weights import Ends, scale_and_zero_point
from qcore.operators import Dequantize, Operator, operators
from qcore.tensor.qparams import QParams


class ToFloat(nn.Module):
    """Integers -> the numbers that they stand for."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, q: QParams) -> None:
        super().__init__()
        scale, zero_point = scale_and_zero_point(q)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x."""
        result: Tensor = torch.ops.qcore_onnx.dequantize(x, self.scale, self.zero_point, 0)
        return result


class ToIntegers(ToFloat):
    """Numbers -> the integers that stand for them."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x."""
        result: Tensor = torch.ops.qcore_onnx.quantize(x, self.scale, self.zero_point)
        return result


class OnIntegers(nn.Module):
    """The float form of an operator, between integers: `entering` of each argument, `out` of the result; None: float.

    For a list of tensors, a list of parameters.
    """

    def __init__(self, inner: nn.Module, entering: Sequence[Any], out: QParams | None) -> None:
        super().__init__()
        self.inner = inner
        self.entering = nn.ModuleList(map(_entering, entering))
        self.leaving = nn.Identity() if out is None else ToIntegers(out)

    def forward(self, *values: Any) -> Any:
        """As the operator."""
        floats = [
            [one(x) for one, x in zip(enter, value, strict=True)]  # type: ignore[call-overload]
            if isinstance(value, list | tuple)
            else enter(value)
            for enter, value in zip(self.entering, values, strict=True)
        ]
        return self.leaving(self.inner(*floats))


def _entering(q: Any) -> nn.Module:
    if isinstance(q, list):
        return nn.ModuleList(map(ToFloat, q))
    return nn.Identity() if q is None else ToFloat(q)


def rewrite(model: fx.GraphModule, unsigned: bool) -> None:
    """Put float forms in the places of qcore's operators in a module that torch.export made.

    `unsigned`: whether int8 weights are kept as uint8, 128 greater. Raises UnsupportedError that names, by path, each
    module that has an operator without translation; the model is of no use then.
    """
    refused: dict[str, None] = {}
    for node in list(model.graph.nodes):
        kind = _kind(node)
        if kind is None:
            continue
        call, constants = restore(kind, node.args)
        operator = operator_of(kind, _evaluated(model, constants[:-1]))
        named = dict(zip(CALLS[kind], call, strict=True))
        if reason := reason_against(operator, named):
            refused[f"{_path(node)} ({reason})"] = None
            continue
        _replace(model, node, operator, named, unsigned)
    if refused:
        raise UnsupportedError(
            f"cannot be exported to ONNX: {'; '.join(refused)}. Leave these modules float (their qconfig None) and "
            "convert again"
        )
    model.graph.eliminate_dead_code()
    model.recompile()


def _replace(model: fx.GraphModule, node: fx.Node, operator: Operator, named: dict[str, Any], unsigned: bool) -> None:
    """`named`: the arguments of the call by the names that the operator's signature has for them."""
    tensors = {name: value for name, value in named.items() if name not in PARAMETERS}
    entering = [named.get(f"q{name}") for name in tensors]
    out = None if isinstance(operator, Dequantize) else named.get("out", named.get("qx"))
    ends = Ends(entering[0] if isinstance(entering[0], QParams) else None, out)
    name = f"float_form_of_{node.name}"
    model.add_submodule(name, OnIntegers(float_module(operator, ends, unsigned), entering, out))
    with model.graph.inserting_before(node):
        node.replace_all_uses_with(model.graph.call_module(name, tuple(tensors.values())))
    model.graph.erase_node(node)


def _kind(node: fx.Node) -> type[Operator] | None:
    """Which of qcore's operators a node calls; None for anything else."""
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "qcore":
        return None
    return operators()[node.target._schema.name.partition("::")[2]]


def _evaluated(model: fx.GraphModule, constants: Any) -> Any:
    """Constants of an operator, of which a graph has the attributes that hold them, and what is done to these."""

    def value(node: fx.Node) -> Any:
        if node.op == "get_attr":
            found: Any = model
            for part in str(node.target).split("."):
                found = getattr(found, part)
            return found.detach()
        if node.op != "call_function":
            raise UnsupportedError(
                f"cannot be exported to ONNX: the weight of {_path(node)} is computed from inputs of the model; leave "
                "this module float (its qconfig None) and convert again"
            )
        function: Any = node.target
        return function(*map_arg(node.args, value), **map_arg(node.kwargs, value))

    return map_arg(tuple(constants), value)


def _path(node: fx.Node) -> str:
    """Of the module that made a node."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return (stack[-1][0] if stack else "") or "the model"
