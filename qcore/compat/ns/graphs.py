"""torch.ao.ns._numeric_suite_fx: weights of two graph modules, layer by layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qcore.errors import QuantizationError

__all__ = ["extend_logger_results_with_comparison", "extract_weights"]


def extract_weights(
    model_name_a: str,
    model_a: nn.Module,
    model_name_b: str,
    model_b: nn.Module,
    base_name_to_sets_of_related_ops: Any = None,
    unmatchable_types_map: Any = None,
    op_to_type_to_weight_extraction_fn: Any = None,
) -> dict[str, dict[str, dict[str, list[dict[str, Any]]]]]:
    """Layer -> {"weight": {model name: [{"values": [weight], "fqn": path, ...}]}} for the layers that both have.

    Raises QuantizationError where no layer is shared.
    """
    found = [(name, _weights(model)) for name, model in ((model_name_a, model_a), (model_name_b, model_b))]
    shared = [path for path in found[0][1] if path in found[1][1]]
    if not shared:
        raise QuantizationError("extract_weights: the models share no path of a layer with a weight")
    return {
        path.replace(".", "_"): {"weight": {name: [_entry(path, *weights[path])] for name, weights in found}}
        for path in shared
    }


def _weights(model: nn.Module) -> dict[str, tuple[Tensor, str]]:
    """Weight and type of each layer by path, of a fused one that of its first part."""
    found: dict[str, tuple[Tensor, str]] = {}
    for path, module in model.named_modules():
        layer: Any = module
        while isinstance(layer, nn.Sequential) and type(layer) is not nn.Sequential and len(layer):
            layer = layer[0]
        weight = getattr(layer, "weight", None)
        weight = weight() if callable(weight) else weight
        if isinstance(weight, Tensor) and not any(path.startswith(f"{parent}.") for parent in found):
            found[path] = (weight.detach(), type(module).__name__)
    return found


def _entry(path: str, weight: Tensor, kind: str) -> dict[str, Any]:
    return {"type": "weight", "values": [weight], "fqn": path, "prev_node_target_type": kind, "index_within_arg": 0}


def extend_logger_results_with_comparison(
    results: dict[str, Any], model_name_1: str, model_name_2: str, comparison_fn: Any, comparison_name: str
) -> None:
    """Add comparison_fn(value of the first model, value of the second) to each entry of the second, in place."""
    for by_type in results.values():
        for by_model in by_type.values():
            for first, second in zip(by_model[model_name_1], by_model[model_name_2], strict=True):
                pairs = zip(first["values"], second["values"], strict=True)
                second[comparison_name] = [comparison_fn(*pair) for pair in pairs]
