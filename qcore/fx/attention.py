"""attention: scaled_dot_product_attention, traced as one call, becomes the products and the softmax it stands for."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from qcore.fx.graph_module import REASON, QuantizedGraphModule, finished
from qcore.fx.kinds import Kind, kinds_of, shapes_of

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_MASKED = "it masks attention: the range of masks leaves nothing of that of the scores"


def decompose_attention(model: QuantizedGraphModule, scopes: dict[str, str], example_inputs: tuple[Any, ...]) -> None:
    """In place: each call becomes matmul, scaling, mask, softmax and matmul; those that cannot are noted, with why.

    `scopes`: the module that each node comes from; new nodes are added.
    """
    calls = [node for node in model.graph.nodes if node.target is F.scaled_dot_product_attention]
    if not calls:
        return
    kinds = kinds_of(model, example_inputs)
    shapes = shapes_of(model, example_inputs)
    for node in calls:
        given = {**dict(zip(_NAMES, node.args, strict=False)), **node.kwargs}
        if given.get("scale") is None and shapes.get(given["query"]):
            given["scale"] = 1 / math.sqrt(shapes[given["query"]][-1])
        reason = _reason_against(given)
        if reason:
            node.meta[REASON] = reason
            continue
        for new in _decompose(node, given, kinds):
            scopes[new.name] = scopes.get(node.name, "")
    finished(model)


def _reason_against(given: dict[str, Any]) -> str:
    if isinstance(given.get("dropout_p"), fx.Node) or given.get("dropout_p", 0.0) != 0:
        return "attention with dropout has no quantized form; dropout_p must be the constant 0"
    causal = given.get("is_causal", False)
    if causal is not False and (causal is not True or given.get("attn_mask") is not None):
        return "is_causal must be a constant, and without an attn_mask"
    if given.get("enable_gqa", False) is not False:
        return "enable_gqa has no quantized form; repeat the heads of key and value"
    if not isinstance(given.get("scale"), int | float):
        return "the size of a head is not known here, nor is scale a number; give scale"
    return ""


def _decompose(node: fx.Node, given: dict[str, Any], kinds: dict[fx.Node, Kind]) -> list[fx.Node]:
    graph = node.graph
    mask = given.get("attn_mask")
    with graph.inserting_before(node):
        turned = graph.call_method("transpose", (given["key"], -2, -1))
        product = graph.call_function(torch.matmul, (given["query"], turned))
        scores = graph.call_function(torch.mul, (product, float(given["scale"])))
        made = [turned, product, scores]
        if given.get("is_causal") or (mask is not None and kinds.get(mask) is Kind.INTEGER):
            scores = graph.call_function(keep_allowed, (scores,) if mask is None else (scores, mask))
        elif mask is not None:
            scores = graph.call_function(torch.add, (scores, mask))
        weights = graph.call_function(torch.softmax, (scores, -1))
        result = graph.call_function(torch.matmul, (weights, given["value"]))
    if scores not in made:
        made.append(scores)
        scores.meta[REASON] = weights.meta[REASON] = _MASKED
    node.replace_all_uses_with(result)
    graph.erase_node(node)
    return [*made, weights, result]


def keep_allowed(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scores (..., target, source) where a mask of bools allows them, else minus infinity; without one, where the
    source is not later than the target."""
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~mask, float("-inf"))
