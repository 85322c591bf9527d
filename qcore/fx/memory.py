"""memory: what the calls of a graph write to, and which of its values share memory, found by running it on examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tensor are."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass
class Memory:
    """What was seen of a graph's nodes. `views`: value -> the argument whose memory it shares; `writes`: call -> the
    arguments that it writes to; `layouts`: of values that are one tensor; `tensors`: nodes with a tensor in them."""

    views: dict[fx.Node, fx.Node] = field(default_factory=dict)
    writes: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)
    layouts: dict[fx.Node, Layout] = field(default_factory=dict)
    tensors: set[fx.Node] = field(default_factory=set)

    def watched(self, node: fx.Node, value_of: Callable[[fx.Node], Any], run: Callable[[], Any]) -> Any:
        """What `run` gives, which is what the node calls; notes what it does to its arguments."""
        given = {each: [(t, _version(t)) for t in _tensors(value_of(each))] for each in node.all_input_nodes}
        result = run()
        written = [each for each, pairs in given.items() if any(_version(t) != before for t, before in pairs)]
        if written:
            self.writes[node] = written
        found = _tensors(result)
        if found:
            self.tensors.add(node)
            places = set(map(_place, found)) - {0}
            for each, pairs in given.items():
                if places & {_place(t) for t, _ in pairs}:
                    self.views.setdefault(node, each)
        if isinstance(result, Tensor) and found[0].layout is torch.strided:
            plain = found[0]
            self.layouts[node] = Layout(plain.dtype, tuple(plain.shape), plain.stride(), int(plain.storage_offset()))
        return result


def _tensors(value: Any) -> list[Tensor]:
    """The plain tensors in a value."""
    leaves = [each for each in tree_leaves(value) if isinstance(each, Tensor)]
    return [getattr(each, "raw", each) if hasattr(each, "qparams") else each for each in leaves]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _place(tensor: Tensor) -> int:
    """Where the memory of a tensor begins; 0 where it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0


class Watching(fx.Interpreter):
    """Runs a graph, and notes in `memory` what its calls do. `note(node, value)` sees each value."""

    def __init__(self, model: fx.GraphModule, note: Callable[[fx.Node, Any], None] | None = None) -> None:
        super().__init__(model)
        self.extra_traceback = False
        self.memory = Memory()
        self._note = note
        self.at: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        if n.op == "output":
            return super().run_node(n)
        result = self.memory.watched(n, self.env.__getitem__, lambda: super(Watching, self).run_node(n))
        if self._note is not None:
            self._note(n, result)
        return result
