"""State dicts of graph models: torch keeps scales on the root, by names of its own; here they belong to modules."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import fx

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.fx.modules import Operation
from qcore.nn.quantized.stubs import Quantize

_SCALE = re.compile(r"(?P<stem>.*_)scale(?P<number>_\d+)")


_FIXED = ("sigmoid", "hardsigmoid", "tanh")
_IN_MODULES = ("elu",)
"""Functions that torch has as modules with a scale that it leaves out of state dicts."""


def fitted(model: fx.GraphModule, state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """A state dict of torch's graph mode, under the keys of the same model converted by qcore.

    Scales of layers are under the same keys; the others follow the order of the graph in both. Raises ArgumentError
    where there are not as many.
    """
    pairs = [
        (key, f"{found['stem']}zero_point{found['number']}")
        for key in state
        if (found := _SCALE.fullmatch(key)) is not None and key not in model.state_dict()
    ]
    values: OrderedDict[str, Any] = OrderedDict(state)
    if not pairs:
        return values
    modules = dict(model.named_modules(remove_duplicate=False))
    called = dict.fromkeys(str(node.target) for node in model.graph.nodes if node.op == "call_module")
    owners = [path for path in called if f"{path}.scale" not in state and _has_scale(modules[path])]
    if len(owners) != len(pairs):
        raise ArgumentError(
            f"the state dict has {len(pairs)} scales outside of layers ({', '.join(key for key, _ in pairs)}), and the "
            f"model's graph {len(owners)} places for them ({', '.join(owners)}): they were not prepared alike"
        )
    for path, (scale, zero_point) in zip(owners, pairs, strict=True):
        if zero_point not in values:
            raise ArgumentError(f"the state dict has {scale!r} without {zero_point!r}")
        values[f"{path}.scale"], values[f"{path}.zero_point"] = values.pop(scale), values.pop(zero_point)
    for node in model.graph.nodes:
        if node.op == "call_module" and _joins(modules[str(node.target)]):
            source = _source(node.args[0][0], modules)
            for name in ("scale", "zero_point"):
                values[f"{node.target}.{name}"] = values[f"{source}.{name}"]
    for key, own in model.state_dict().items():
        path, _, name = key.rpartition(".")
        if name in ("scale", "zero_point") and key in values:
            values[key] = values[key].reshape(own.shape)
        elif name in ("scale", "zero_point") and _is_fixed(modules[path]):
            values[key] = own
    values._metadata = getattr(state, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    return values


def _joins(module: Any) -> bool:
    """Whether a module concatenates, for which torch notes no scale: it is that of the parts."""
    return isinstance(module, Operation) and isinstance(module.kind, ops.Cat)


def _is_fixed(module: Any) -> bool:
    """Whether a module computes a sigmoid or its like, whose scale is always the same; torch notes none."""
    return isinstance(module, Operation) and (
        isinstance(module.kind, ops.Softmax) or getattr(module.kind, "function", "") in _FIXED
    )


def _has_scale(module: Any) -> bool:
    """Whether torch notes a scale on the root for what a module computes."""
    if not isinstance(module, Operation):
        return isinstance(module, Quantize)
    return not _is_fixed(module) and not _joins(module) and getattr(module.kind, "function", "") not in _IN_MODULES


def _source(node: fx.Node, modules: Mapping[str, Any]) -> str:
    """The path of the module that gave a value its scale; calls that keep it lie between."""
    while node.op != "call_module" or not hasattr(modules[str(node.target)], "_out"):
        node = node.all_input_nodes[0]
    return str(node.target)
