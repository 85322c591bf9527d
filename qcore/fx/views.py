"""views: quantized layers lay their results out by channels, so that sizes may change there only by copying."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx, nn

_COPYING = {"view": "reshape", "view_as": "reshape_as"}


def reshape_views(graph: fx.Graph) -> None:
    """In place: views of values become reshapes, which give the same, and copy where they have to."""
    for node in graph.nodes:
        is_view = node.op == "call_method" and node.target in _COPYING
        if is_view and not any(isinstance(each, torch.dtype) for each in (*node.args, *node.kwargs.values())):
            node.target = _COPYING[str(node.target)]


def keep_layout(model: fx.GraphModule, contiguous: Collection[fx.Node]) -> None:
    """In place: results that are laid out in the order of their dimensions, as in `contiguous`, stay so: the code that
    gets them may view them."""
    if not any(isinstance(each, nn.modules.conv._ConvNd) for each in model.modules()):
        return
    output = next(node for node in model.graph.nodes if node.op == "output")
    for value in output.all_input_nodes:
        if value in contiguous:
            with model.graph.inserting_before(output):
                output.replace_input_with(value, model.graph.call_method("contiguous", (value,)))
