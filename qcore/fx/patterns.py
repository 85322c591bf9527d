"""What calls mean to quantization: the role of each function, method and module, and the operator it becomes."""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional as F

from qcore import operators as ops
from qcore.fx.modes import ByMode
from qcore.nn import catalog
from qcore.operators import Operator

Values: TypeAlias = "list[fx.Node]"


class Role(Enum):
    """How the parameters of a result come about."""

    COMPUTE = "has parameters of its own"
    FIXED = "has fixed parameters"
    SHARE = "shares the parameters of its inputs, and is observed with them"
    MOVE = "is made of elements of its input"
    SCALAR = "has parameters made from those of its input and a number"


def _no_operator(call: Call) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Rule:
    """A role, and `operator(call)`: what runs a call; None where the call works on quantized tensors as it is.

    `operator` raises Unfit for arguments that have no quantized meaning. `inputs`: how many of the first arguments are
    activations (0: the first is a list of them). `fixed`: scale and zero point of an unsigned 8-bit result.
    """

    role: Role
    operator: Callable[[Call], Operator | None] = _no_operator
    inputs: int = 1
    fixed: tuple[float, int] = (1.0, 0)

    @property
    def moves(self) -> bool:
        """Whether elements only change place, whatever the arguments are."""
        return self.role is Role.MOVE or (self.role is Role.SHARE and self.operator in (_no_operator, _pad))


class Unfit(Exception):
    """Arguments of a call that quantized operators do not have; the message says which."""


class Call:
    """A node's arguments by name or position."""

    def __init__(self, node: fx.Node, module: nn.Module | None = None) -> None:
        self.node = node
        self.module: Any = module

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument; position 0 is the first tensor."""
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def option(self, position: int, name: str, default: Any = None) -> Any:
        """An argument of a function, or the attribute of that name of a module; must be a constant."""
        value = getattr(self.module, name) if self.module is not None else self.get(position, name, default)
        if isinstance(value, fx.Node):
            raise Unfit(f"its {name} is computed, not a constant")
        return value

    def only(self, position: int, name: str, allowed: Any) -> None:
        """Refuse other values of an option."""
        value = self.option(position, name, allowed)
        if value != allowed:
            raise Unfit(f"{name}={value!r}; only {allowed!r} has a quantized form")


def activations(node: fx.Node, rule: Rule) -> Values:
    """The nodes whose values are activations of a call."""
    if rule.inputs == 0:
        listed = node.args[0] if node.args else node.kwargs.get("tensors", ())
        if isinstance(listed, fx.Node):
            raise Unfit("its tensors come as one value; write them as a list, [a, b]")
        return [item for item in listed if isinstance(item, fx.Node)]  # type: ignore[union-attr]
    given = list(node.args[: rule.inputs])
    if len(given) < rule.inputs:
        given += [
            value for name, value in node.kwargs.items() if name in ("input", "other", "mat2", "tensor", "x", "y")
        ]
    return [item for item in given if isinstance(item, fx.Node)]


# --- operators of calls ---------------------------------------------------------------------------------------------


def _lookup(function: str, *arguments: tuple[str, Any]) -> Callable[[Call], Operator]:
    def build(call: Call) -> Operator:
        values = [call.option(1 + index, name, default) for index, (name, default) in enumerate(arguments)]
        return ops.Lookup(function, tuple(float(value) for value in values))

    return build


def _gelu(call: Call) -> Operator:
    value = call.option(9, "approximate", "none")
    return ops.Lookup("gelu_tanh" if value == "tanh" else "gelu")


def _softplus(call: Call) -> Operator:
    return ops.Lookup("softplus", (float(call.option(1, "beta", 1.0)), float(call.option(2, "threshold", 20.0))))


def _softmax(call: Call) -> Operator:
    dim = call.option(1, "dim", None)
    if call.module is None and call.get(3, "dtype") is not None:
        raise Unfit("it asks for a dtype")
    if dim is None:
        raise Unfit("dim is not given")
    return ops.Softmax(dim)


def _add(call: Call) -> Operator:
    if call.node.kwargs.get("alpha", 1) != 1 or call.node.kwargs.get("out") is not None:
        raise Unfit("alpha or out is given")
    return ops.Add()


def _mul(call: Call) -> Operator:
    if call.node.kwargs.get("out") is not None:
        raise Unfit("out is given")
    return ops.Mul()


def _matmul(call: Call) -> Operator:
    if call.node.kwargs.get("out") is not None or call.get(2, "out_dtype") is not None:
        raise Unfit("out or out_dtype is given")
    return ops.MatMul()


def _cat(call: Call) -> Operator:
    return ops.Cat(int(call.option(1, "dim", call.node.kwargs.get("axis", 0))))


def _max_pool(rank: int) -> Callable[[Call], Operator]:
    def build(call: Call) -> Operator:
        call.only(6, "return_indices", False)
        return ops.MaxPool((1,) * rank, (1,) * rank, (0,) * rank, (1,) * rank)

    return build


def _avg_pool(rank: int) -> Callable[[Call], Operator]:
    return lambda call: ops.AvgPool((1,) * rank, (1,) * rank, (0,) * rank)


def _adaptive(rank: int) -> Callable[[Call], Operator]:
    return lambda call: ops.AdaptiveAvgPool((1,) * rank)


def _interpolate(call: Call) -> Operator:
    mode = call.option(3, "mode", "nearest")
    if mode not in ("nearest", "bilinear"):
        raise Unfit(f"mode={mode!r}; only 'nearest' and 'bilinear' have a quantized form")
    return ops.Interpolate((1, 1), None, mode)


def _clamp(call: Call) -> Operator:
    return ops.Clamp(0.0, 1.0)


def _pad(call: Call) -> None:
    mode = call.option(2, "mode", "constant") if call.module is None else "constant"
    if mode == "circular":
        raise Unfit("mode='circular'; only 'constant', 'reflect' and 'replicate' have a quantized form")


def _dropout(call: Call) -> None:
    if call.module is None and call.get(2, "training", True) is not False:
        raise Unfit("it drops elements at inference, too: give it training=self.training, or use a module")


def _mean(call: Call) -> Operator:
    if call.node.kwargs.get("dtype") is not None:
        raise Unfit("it asks for a dtype")
    return ops.Mean()


# --- functions and methods ------------------------------------------------------------------------------------------

RELUS: tuple[Any, ...] = (nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
"""What fuses as a ReLU."""

_BINARY = Rule(Role.COMPUTE, _add, 2), Rule(Role.COMPUTE, _mul, 2)
ADDS: tuple[Any, ...] = (python.add, python.iadd, torch.add, "add", "add_")
MULS: tuple[Any, ...] = (python.mul, python.imul, torch.mul, "mul", "mul_", torch.multiply, "multiply", "multiply_")
SUBS: tuple[Any, ...] = (python.sub, python.isub, torch.sub, "sub", "sub_", torch.subtract, "subtract", "subtract_")
RSUBS: tuple[Any, ...] = (torch.rsub,)
DIVS: tuple[Any, ...] = (
    python.truediv,
    python.itruediv,
    torch.div,
    "div",
    "div_",
    torch.divide,
    "divide",
    "divide_",
    torch.true_divide,
    "true_divide",
)
NEGS: tuple[Any, ...] = (python.neg, torch.neg, "neg", "neg_", torch.negative, "negative")

_UNIT, _SIGNED = (1.0 / 256.0, 0), (2.0 / 256.0, 128)
_SIGMOID = Rule(Role.FIXED, _lookup("sigmoid"), fixed=_UNIT)
_HARDSIGMOID = Rule(Role.FIXED, _lookup("hardsigmoid"), fixed=_UNIT)
_TANH = Rule(Role.FIXED, _lookup("tanh"), fixed=_SIGNED)
_SOFTMAX = Rule(Role.FIXED, _softmax, fixed=_UNIT)


def _compute(build: Callable[[Call], Operator]) -> Rule:
    return Rule(Role.COMPUTE, build)


def _share(build: Callable[[Call], Operator | None] = _no_operator) -> Rule:
    return Rule(Role.SHARE, build)


_ELU = _compute(_lookup("elu", ("alpha", 1.0)))
_LEAKY = _compute(_lookup("leaky_relu", ("negative_slope", 0.01)))
_CELU = _compute(_lookup("celu", ("alpha", 1.0)))
_THRESHOLD = _compute(_lookup("threshold", ("threshold", 0.0), ("value", 0.0)))

CALLS: dict[Any, Rule] = {
    **dict.fromkeys(ADDS, _BINARY[0]),
    **dict.fromkeys((*SUBS, *RSUBS), _BINARY[0]),
    **dict.fromkeys(MULS, _BINARY[1]),
    **dict.fromkeys(
        (python.matmul, torch.matmul, torch.bmm, torch.mm, "matmul", "__matmul__", "bmm", "mm"),
        Rule(Role.COMPUTE, _matmul, 2),
    ),
    **dict.fromkeys((*DIVS, *NEGS), Rule(Role.SCALAR)),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), Rule(Role.SHARE, _cat, 0)),
    torch.stack: Rule(Role.SHARE, inputs=0),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, torch.special.expit, "sigmoid", "sigmoid_"), _SIGMOID),
    **dict.fromkeys((F.hardsigmoid, "hardsigmoid", "hardsigmoid_"), _HARDSIGMOID),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh", "tanh_"), _TANH),
    **dict.fromkeys((torch.softmax, F.softmax, "softmax"), _SOFTMAX),
    F.hardswish: _compute(_lookup("hardswish")),
    **dict.fromkeys((F.elu, F.elu_), _ELU),
    **dict.fromkeys((F.celu, torch.celu, torch.celu_), _CELU),
    **dict.fromkeys((F.selu, torch.selu, torch.selu_), _compute(_lookup("selu"))),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _LEAKY),
    F.gelu: _compute(_gelu),
    F.silu: _compute(_lookup("silu")),
    F.mish: _compute(_lookup("mish")),
    F.softplus: _compute(_softplus),
    **dict.fromkeys((F.threshold, torch.threshold_), _THRESHOLD),
    **dict.fromkeys(RELUS[1:], _share(_clamp)),
    **dict.fromkeys((F.relu6, F.hardtanh, F.hardtanh_, torch.clamp, "clamp", "clamp_"), _share(_clamp)),
    F.max_pool1d: _share(_max_pool(1)),
    F.max_pool2d: _share(_max_pool(2)),
    F.max_pool3d: _share(_max_pool(3)),
    **dict.fromkeys((torch.max_pool1d,), _share(_max_pool(1))),
    torch.max_pool2d: _share(_max_pool(2)),
    torch.max_pool3d: _share(_max_pool(3)),
    F.avg_pool1d: _share(_avg_pool(1)),
    F.avg_pool2d: _share(_avg_pool(2)),
    F.avg_pool3d: _share(_avg_pool(3)),
    F.adaptive_avg_pool1d: _share(_adaptive(1)),
    F.adaptive_avg_pool2d: _share(_adaptive(2)),
    F.adaptive_avg_pool3d: _share(_adaptive(3)),
    F.interpolate: _share(_interpolate),
    **dict.fromkeys((torch.mean, "mean"), _share(_mean)),
    **dict.fromkeys(
        (
            F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle, torch.flatten, torch.narrow, torch.ravel,
            torch.repeat_interleave, torch.transpose, torch.permute, torch.reshape, torch.squeeze, torch.unsqueeze,
            "contiguous", "detach", "flatten", "narrow", "permute", "ravel", "repeat", "repeat_interleave", "reshape",
            "squeeze", "squeeze_", "transpose", "unsqueeze", "unsqueeze_", "view",
        ),
        _share(),
    ),
    F.pad: _share(_pad),
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), Rule(Role.MOVE, _dropout)),
    **dict.fromkeys(
        (
            python.getitem, torch.chunk, torch.split, torch.unbind,
            torch.tensor_split, torch.movedim, torch.moveaxis, torch.swapaxes, torch.swapdims, torch.t, torch.roll,
            torch.flip, torch.select, torch.index_select, torch.gather, torch.unflatten, torch.tile,
            torch.broadcast_to, torch.clone, torch.detach, "chunk", "split", "unbind", "tensor_split", "clone",
            "expand", "expand_as", "broadcast_to", "unflatten", "swapaxes", "swapdims", "movedim", "moveaxis", "t",
            "roll", "flip", "select", "index_select", "gather", "tile", "view_as", "reshape_as",
        ),
        Rule(Role.MOVE),
    ),
}  # fmt: skip

MODULES: dict[type[nn.Module], Rule] = {
    nn.Sigmoid: _SIGMOID,
    nn.Hardsigmoid: _HARDSIGMOID,
    nn.Tanh: _TANH,
    nn.Softmax: _SOFTMAX,
    nn.GELU: _compute(_gelu),
    nn.SiLU: _compute(_lookup("silu")),
    nn.Mish: _compute(_lookup("mish")),
    nn.CELU: _CELU,
    nn.SELU: _compute(_lookup("selu")),
    nn.Softplus: _compute(_softplus),
    nn.Threshold: _THRESHOLD,
    nn.ReLU: _share(_clamp),
    nn.Hardtanh: _share(_clamp),
    nn.Flatten: _share(),
    nn.Unflatten: _share(),
    nn.PixelShuffle: _share(),
    nn.PixelUnshuffle: _share(),
    nn.ChannelShuffle: _share(),
    nn.MaxPool1d: _share(_max_pool(1)),
    nn.MaxPool2d: _share(_max_pool(2)),
    nn.MaxPool3d: _share(_max_pool(3)),
    nn.AvgPool1d: _share(_avg_pool(1)),
    nn.AvgPool2d: _share(_avg_pool(2)),
    nn.AvgPool3d: _share(_avg_pool(3)),
    nn.AdaptiveAvgPool1d: _share(_adaptive(1)),
    nn.AdaptiveAvgPool2d: _share(_adaptive(2)),
    nn.AdaptiveAvgPool3d: _share(_adaptive(3)),
    nn.Upsample: _share(_interpolate),
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), _share(_pad)),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d), _share(_pad)),
    **dict.fromkeys((nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d), _share(_pad)),
    nn.Identity: Rule(Role.MOVE),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout), Rule(Role.MOVE)),
}
"""Modules without a quantized class of their own; those with one are in the catalogue."""

SEVERAL: tuple[Any, ...] = (
    torch.chunk, torch.split, torch.unbind, torch.tensor_split, "chunk", "split", "unbind", "tensor_split",
)  # fmt: skip
"""Calls that give several tensors."""

_TRANSPOSED = ("T", "mT", "H", "mH")
"""Attributes of a tensor that are the tensor, turned."""

_NOT_TENSORS: tuple[Any, ...] = ("size", "dim", "numel", "ndimension", "stride", "is_floating_point", len)
_QUALITIES = ("shape", "ndim", "dtype", "device", "layout", "itemsize", "nbytes", "requires_grad", "is_cuda")

_KEPT = Rule(Role.MOVE)
QUANTIZED_MODULE = Rule(Role.COMPUTE)
SAME_PARAMETERS = Rule(Role.SHARE)


def target_of(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    """What a node calls: a module's class, a function, or the name of a method."""
    return type(modules[str(node.target)]) if node.op == "call_module" else node.target


def rule_of(node: fx.Node, modules: dict[str, nn.Module]) -> Rule | None:
    """The rule for a node; None for what has no quantized form."""
    if is_transposed(node):
        return CALLS["t"]
    if node.op in ("call_function", "call_method"):
        return CALLS.get(node.target)
    if node.op != "call_module":
        return None
    module = modules[str(node.target)]
    if isinstance(module, ByMode):
        return _KEPT if module.keeps else CALLS.get(module.function)
    kind = type(module)
    found = catalog.match(kind, catalog.mapping("static")).target
    if found is not None:
        return QUANTIZED_MODULE if getattr(found, "observes_output", False) else SAME_PARAMETERS
    base = catalog.match(kind, {each: each for each in MODULES}).target
    return None if base is None else MODULES[base]


def is_question(node: fx.Node) -> bool:
    """Whether a call asks a tensor for what is no tensor: its sizes, its dtype."""
    if node.target is getattr:
        return len(node.args) == 2 and node.args[1] in _QUALITIES
    return node.op in ("call_function", "call_method") and node.target in _NOT_TENSORS


def is_transposed(node: fx.Node) -> bool:
    """Whether a node reads an attribute of a tensor that is the tensor, turned."""
    return node.target is getattr and len(node.args) == 2 and node.args[1] in _TRANSPOSED


def is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node is a ReLU in any of its forms."""
    target = target_of(node, modules)
    return target in RELUS or (isinstance(target, type) and issubclass(target, nn.ReLU))
