"""values: what stands for a value while a module is traced: torch.fx's proxy, which knows writes in place, too.

torch.fx makes `y += z` a new value under the same name, and other names of y keep the old one; here it is the write
that it is, and so is `y[i] = z`. What is made of them is in qcore.fx.inplace.
"""

from __future__ import annotations

import operator as python
from typing import Any

from torch import fx
from torch.fx.proxy import Attribute

IN_PLACE = {
    python.iadd: python.add,
    python.isub: python.sub,
    python.imul: python.mul,
    python.itruediv: python.truediv,
    python.ifloordiv: python.floordiv,
    python.imod: python.mod,
    python.ipow: python.pow,
    python.iand: python.and_,
    python.ior: python.or_,
    python.ixor: python.xor,
    python.ilshift: python.lshift,
    python.irshift: python.rshift,
}
"""Augmented assignments, and what they are where they make a new value."""

_OWN = ("tracer", "node", "root", "attr", "_node")


class _Writes:
    """The writes in place of Python's syntax."""

    tracer: Any

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", python.setitem, (self, index, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _OWN:
            raise TypeError(f"it sets the attribute {name!r} of a tensor")
        super().__setattr__(name, value)


def _augmented(function: Any) -> Any:
    def assign(self: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return assign


for _function in IN_PLACE:
    setattr(_Writes, f"__{_function.__name__}__", _augmented(_function))


class Value(_Writes, fx.Proxy):
    """A value of a graph."""

    def __len__(self) -> int:
        count = getattr(self.tracer, "count", None)
        return super().__len__() if count is None else int(count(self))

    def __getattr__(self, name: str) -> Any:
        return ValueAttribute(self, name)


class ValueAttribute(_Writes, Attribute):
    """An attribute of one: a value, or a method to call."""

    def __getattr__(self, name: str) -> Any:
        return ValueAttribute(self, name)


def value_of(node: fx.Node, tracer: Any) -> fx.Proxy:
    """What stands for the value of a node."""
    return Value(node, tracer)


def may_write(node: fx.Node, model: fx.GraphModule) -> bool:
    """Whether a call may write to its arguments, by its name."""
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name.endswith("_") and not name.startswith("_")
    written = in_place or bool(node.kwargs.get("inplace")) or node.kwargs.get("out") is not None
    return node.op.startswith("call_") and (written or node.target in IN_PLACE or node.target is python.setitem)
