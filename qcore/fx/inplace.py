"""inplace: a call that changes a value in place gives a new value, which all later calls read."""

from __future__ import annotations

import operator as python
from typing import Any

from torch import fx, nn

from qcore.fx.patterns import CALLS, MODULES, Role, is_transposed

_SHAPES = ("squeeze_", "t_", "transpose_", "swapaxes_", "swapdims_", "unsqueeze_")
"""Methods that change a tensor's sizes in place; quantized tensors have their forms without."""


class Aliased(Exception):
    """A value is changed in place that is read under another name later; the message names both."""


def out_of_place(model: fx.GraphModule) -> None:
    """In place: what reads a value after a call has changed it reads that call's result.

    Raises Aliased where a view of the value, or what it is a view of, is read after the change.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    origin: dict[fx.Node, fx.Node] = {}
    seen: dict[fx.Node, int] = {}
    for place, node in enumerate(list(model.graph.nodes)):
        seen[node] = place
        source = _viewed(node, modules)
        origin[node] = node if source is None else origin[source]
        changed = _changed(node, modules)
        if changed is None:
            continue
        for other, root in origin.items():
            if other not in (changed, node) and root is origin[changed] and _is_read_later(other, seen):
                raise Aliased(
                    f"{node.name} changes {changed.name} in place, and {other.name}, which shares its memory, is read "
                    "after that: write it without the change in place"
                )
        changed.replace_all_uses_with(node, lambda user: user not in seen)
        origin[node] = node
        if node.op == "call_method" and node.target in _SHAPES:
            node.target = str(node.target)[:-1]


def _is_read_later(node: fx.Node, seen: dict[fx.Node, int]) -> bool:
    return any(user not in seen for user in node.users)


def _changed(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The value that a call changes in place."""
    if node.op == "call_module":
        changes = bool(getattr(modules[str(node.target)], "inplace", False))
    elif node.op in ("call_function", "call_method"):
        name = str(getattr(node.target, "__name__", node.target))
        in_place = name.endswith("_") and not name.startswith("_")
        changes = in_place or bool(node.kwargs.get("inplace")) or node.target in _AUGMENTED
    else:
        return None
    value: Any = node.args[0] if node.args else node.kwargs.get("input")
    return value if changes and isinstance(value, fx.Node) else None


_AUGMENTED = (python.iadd, python.isub, python.imul, python.itruediv)


def _viewed(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """What a value may be a view of."""
    if node.op == "call_module":
        rule = MODULES.get(type(modules[str(node.target)]))
    else:
        rule = CALLS["t"] if is_transposed(node) else CALLS.get(node.target)
    if rule is None or rule.role not in (Role.MOVE, Role.SHARE) or not node.args:
        return None
    return node.args[0] if isinstance(node.args[0], fx.Node) else None
