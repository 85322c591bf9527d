"""attributes: a graph in the place of a module that other code reads attributes of has those that the module had."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from qcore.fx.graph_module import QuantizedGraphModule

_PLAIN = (bool, int, float, str, slice, torch.dtype, torch.memory_format)


def keep_attributes(graph: QuantizedGraphModule, module: nn.Module) -> None:
    """In place: the graph gets what a module holds besides modules and tensors; numbers and the like are saved, too."""
    kept = []
    for name, value in vars(module).items():
        leaves = tree_leaves(value)
        taken = (
            name.startswith(("_", "qc")) or hasattr(type(graph), name) or name in vars(graph) or name in graph._modules
        )
        if taken or any(isinstance(each, nn.Module | Tensor) for each in leaves):
            continue
        setattr(graph, name, value)
        if all(each is None or isinstance(each, _PLAIN) for each in leaves):
            kept.append(name)
    before: Any = getattr(graph, "qcore_preserved", ())
    graph.qcore_preserved = tuple(dict.fromkeys((*before, *kept)))  # type: ignore[assignment]
