"""inplace: a call that writes to a value gives a new value, which all later calls read, under whatever name they do.

Values that share memory are a tree: a base, and views of it, and views of these. A write through one of them makes all
of them anew, as far as they are read later: what it is a view of by putting the part that was written in its place,
other views by taking them of that.
"""

from __future__ import annotations

import operator as python
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from qcore.fx.memory import Memory
from qcore.fx.values import IN_PLACE

_TURNING = ("squeeze_", "t_", "transpose_", "swapaxes_", "swapdims_", "unsqueeze_")
"""Methods that change a tensor's sizes in place; quantized tensors have their forms without."""


class Aliased(Exception):
    """A write that cannot be a new value; the message names what it writes to. `nodes`: those that it concerns."""

    def __init__(self, message: str, *nodes: fx.Node) -> None:
        super().__init__(message)
        self.nodes = nodes


VIEWS = frozenset(
    (
        "T", "__getitem__", "adjoint", "chunk", "detach", "diagonal", "expand", "expand_as", "flatten", "H", "mH", "mT",
        "movedim", "moveaxis", "narrow", "permute", "ravel", "real", "imag", "reshape", "select", "split",
        "split_with_sizes", "squeeze", "swapaxes", "swapdims", "t", "tensor_split", "transpose", "unbind", "unflatten",
        "unfold", "unsqueeze", "view", "view_as", "hsplit", "vsplit", "dsplit",
    )
)  # fmt: skip
"""Methods and attributes of a tensor that may give views of it."""


def put(base: Tensor, value: Any, view: str, *args: Any, piece: int | None = None) -> Tensor:
    """A tensor with `value` in the place of a view of it: of what its method or attribute `view`, one of VIEWS, gives
    for these arguments, or, where that is several, of one piece."""
    result = base.clone()
    if view == "__getitem__":
        result[args[0]] = value
        return result
    part = getattr(result, view)
    part = part(*args) if callable(part) else part
    (part if piece is None else part[piece]).copy_(value)
    return result


@dataclass
class _View:
    """How a value is a view of `parent`; no name: it is the same tensor."""

    parent: fx.Node
    name: str = ""
    args: tuple[Any, ...] = ()
    piece: int | None = None


def out_of_place(graph: fx.Graph, memory: Memory, writes_inputs: bool = True) -> bool:
    """In place: make new values of writes, as `memory` has seen them; whether any was more than renamed.

    `writes_inputs`: whether activations that are told to work in place, to save memory, may leave an input as it was.
    Raises Aliased for other writes to inputs and to the model's own tensors, and for those that have no form without.
    """
    run = _Writes(graph, memory, writes_inputs)
    for node in list(graph.nodes):
        run.visit(node)
    return run.changed


class _Writes:
    """`now`: what stands for a value by now; `base`: the value whose memory a value shares; `view`: how it does."""

    def __init__(self, graph: fx.Graph, memory: Memory, writes_inputs: bool) -> None:
        self.graph = graph
        self.memory = memory
        self.writes_inputs = writes_inputs
        self.changed = False
        self.now: dict[fx.Node, fx.Node] = {}
        self.base: dict[fx.Node, fx.Node] = {}
        self.view: dict[fx.Node, _View] = {}
        self.seen: set[fx.Node] = set()

    def visit(self, node: fx.Node) -> None:
        """One node, once all before it are done."""
        self.seen.add(node)
        parent = self.memory.views.get(node)
        written = [self._now(each) for each in self.memory.writes.get(node, [])]
        if written:
            self._write(node, written)
        elif parent is not None:
            self._add_view(node, self._now(parent))
        else:
            self.base[node] = node
            if node.target in IN_PLACE and node not in self.memory.tensors:
                node.target = IN_PLACE[node.target]  # numbers

    def _now(self, value: fx.Node) -> fx.Node:
        while value in self.now:
            value = self.now[value]
        return value

    def _add_view(self, node: fx.Node, parent: fx.Node) -> None:
        layouts, known = self.memory.layouts, self.view.get(parent)
        self.base[node] = self.base[parent]
        if node in layouts and layouts[node] == layouts.get(parent):
            self.view[node] = _View(parent)
        elif (
            node.target is python.getitem and type(node.args[1]) is int and parent not in layouts and known is not None
        ):
            self.view[node] = _View(known.parent, known.name, known.args, node.args[1])
        else:
            self.view[node] = _View(parent, *_named(node))

    # --- a write ----------------------------------------------------------------------------------------------------

    def _write(self, node: fx.Node, written: list[fx.Node]) -> None:
        value, base = written[0], self.base[written[0]]
        group = [each for each in self.base if self.base[each] is base]
        if len(written) > 1 or value not in self.memory.layouts:
            raise Aliased(f"{node.name} writes to several tensors at once", node, *written)
        if base.op == "get_attr":
            raise Aliased(f"{node.name} writes to {str(base.target)!r}, a tensor of the model's own", node)
        if base.op == "placeholder" and not (self.writes_inputs and _only_saves_memory(node)):
            raise Aliased(f"{node.name} writes to {str(base.target)!r}, which is given to it", node)
        live = [each for each in group if any(user not in self.seen for user in each.users)]
        result = self._result(node, value, group)
        if result is value:
            return
        new = {value: result}
        if any(each is not value for each in live):
            self.changed = True
            self._rebuild(node, new, group, live)
        else:
            self.base[result] = result
        made = set(new.values())
        for each in live:
            each.replace_all_uses_with(new[each], lambda user: user not in self.seen and user not in made)
        self.now.update((old, each) for old, each in new.items() if old is not each)

    def _result(self, node: fx.Node, value: fx.Node, group: list[fx.Node]) -> fx.Node:
        """The node whose value is what was written to, after it."""
        if node.target is python.setitem:
            base, index, given = node.args
            self.changed = True
            view = self.view.get(given) if isinstance(given, fx.Node) else None
            if view == _View(value, "__getitem__", (index,)):
                result = value  # it was written by that name already
            else:
                with self.graph.inserting_after(node):
                    result = self._noted(self.graph.call_function(put, (base, given, "__getitem__", index)), value)
            self.graph.erase_node(node)
            return result
        if node not in self.memory.layouts or node not in self.memory.views:
            raise Aliased(f"{node.name} writes to {value.name}, and gives another value", node, value)
        members = {*group, node}
        if node.target in _TURNING:
            node.target = str(node.target)[:-1]
        elif node.target in IN_PLACE and _keeps_dtype(node, self.memory):
            node.target = IN_PLACE[node.target]
        elif any(user not in members for each in group for user in each.users if user in self.seen):
            with self.graph.inserting_before(node):  # where others read, it writes to a copy
                copy = self._noted(self.graph.call_method("clone", (value,)), value)
            node.replace_input_with(value, copy)
        return node

    def _rebuild(self, node: fx.Node, new: dict[fx.Node, fx.Node], group: list[fx.Node], live: list[fx.Node]) -> None:
        """Make the other values of this memory anew, after the write to one."""
        value, result = next(iter(new.items()))
        made = [result]
        below = {value}
        below.update(each for each in group if each in self.view and self.view[each].parent in below)
        at = value
        while at in self.view and not below.issuperset(live):  # up to the base
            view = self.view[at]
            if view.name == "?":
                raise Aliased(f"{node.name} changes {value.name} in place, and {view.parent.name} with it", node, value)
            if view.name:
                options: dict[str, Any] = {} if view.piece is None else {"piece": view.piece}
                with self.graph.inserting_after(made[-1]):
                    args = (view.parent, new[at], view.name, *view.args)
                    made.append(self._noted(self.graph.call_function(put, args, options), view.parent))
            new[view.parent] = made[-1] if view.name else new[at]
            at = view.parent
            below.add(at)
            below.update(each for each in group if each in self.view and self.view[each].parent in below)
        needed = set(live)
        for each in reversed(group):
            needed.update(old for old in each.all_input_nodes if each in needed)
        for each in group:  # down to the other views, in the order in which they were made
            if each in needed and each not in new and any(old in new for old in each.all_input_nodes):
                with self.graph.inserting_after(made[-1]):
                    made.append(self._noted(self.graph.node_copy(each, lambda old: new.get(old, old)), each))
                new[each] = made[-1]
        missing = [each for each in live if each not in new]
        if missing:
            raise Aliased(f"{node.name} changes {value.name} in place, and {missing[0].name} with it", node, *missing)
        for old, each in new.items():
            self.base[each] = new[at]
            known = self.view.get(old)
            if known is not None and known.parent in new and each is not new[known.parent]:
                self.view[each] = _View(new[known.parent], known.name, known.args, known.piece)

    def _noted(self, made: fx.Node, like: fx.Node) -> fx.Node:
        """A node that was made, which stands for a value that was seen."""
        self.seen.add(made)
        made.meta.update(like.meta)
        self.base[made] = made
        self.memory.tensors.add(made)
        if like in self.memory.layouts:
            self.memory.layouts[made] = self.memory.layouts[like]
        return made


def _only_saves_memory(node: fx.Node) -> bool:
    """Whether a call is told by a flag to work in place; a method or an assignment that writes is meant to."""
    return node.op == "call_module" or bool(node.kwargs.get("inplace"))


def _keeps_dtype(node: fx.Node, memory: Memory) -> bool:
    """Whether an augmented assignment is the same as a new value: in place, a result keeps the dtype of its target."""
    dtype = memory.layouts[node].dtype
    other: Any = node.args[1]
    if isinstance(other, fx.Node) and other in memory.tensors:
        known = memory.layouts.get(other)
        return known is not None and len(known.shape) > 0 and known.dtype is dtype
    return dtype.is_floating_point and not isinstance(other, complex)


def _named(node: fx.Node) -> tuple[str, tuple[Any, ...]]:
    """The method of a tensor that makes a view, and its arguments after the tensor; "?" where it is none."""
    name = str(getattr(node.target, "__name__", node.target))
    if node.target is python.getitem:
        return "__getitem__", (node.args[1],)
    if node.target is getattr:
        return (str(node.args[1]), ()) if node.args[1] in VIEWS else ("?", ())
    known = node.op in ("call_method", "call_function") and name in VIEWS and not node.kwargs
    return (name, tuple(node.args[1:])) if known else ("?", ())
