"""torch.ao.quantization.quantization_mappings, derived from the one catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn import functional as F

from qcore.api.fake_quantize import (
    default_fixed_qparams_range_0to1_fake_quant,
    default_fixed_qparams_range_neg1to1_fake_quant,
)
from qcore.compat.ops import activations, norms
from qcore.errors import ArgumentError
from qcore.nn import catalog

__all__ = [
    "DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS",
    "DEFAULT_FLOAT_TO_QUANTIZED_OPERATOR_MAPPINGS",
    "DEFAULT_MODULE_TO_ACT_POST_PROCESS",
    "DEFAULT_QAT_MODULE_MAPPINGS",
    "DEFAULT_STATIC_QUANT_MODULE_MAPPINGS",
    "get_default_compare_output_module_list",
    "get_default_dynamic_quant_module_mappings",
    "get_default_float_to_quantized_operator_mappings",
    "get_default_qat_module_mappings",
    "get_default_qconfig_propagation_list",
    "get_default_static_quant_module_mappings",
    "get_dynamic_quant_module_class",
    "get_embedding_qat_module_mappings",
    "get_embedding_static_quant_module_mappings",
    "get_quantized_operator",
    "get_static_quant_module_class",
]

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

DEFAULT_STATIC_QUANT_MODULE_MAPPINGS = catalog.conversion()
DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS = catalog.mapping("dynamic")
DEFAULT_QAT_MODULE_MAPPINGS = {
    kind: target for kind, target in catalog.mapping("qat").items() if kind not in _EMBEDDINGS
}
DEFAULT_FLOAT_TO_QUANTIZED_OPERATOR_MAPPINGS: dict[Any, Callable[..., Any]] = {
    F.elu: activations.elu,
    F.hardswish: activations.hardswish,
    F.instance_norm: norms.instance_norm,
    F.layer_norm: norms.layer_norm,
    F.leaky_relu: activations.leaky_relu,
    F.dropout: activations.dropout,
}
DEFAULT_MODULE_TO_ACT_POST_PROCESS: dict[type[nn.Module], Any] = {
    nn.Hardsigmoid: default_fixed_qparams_range_0to1_fake_quant,
    nn.Sigmoid: default_fixed_qparams_range_0to1_fake_quant,
    nn.Softmax: default_fixed_qparams_range_0to1_fake_quant,
    nn.Tanh: default_fixed_qparams_range_neg1to1_fake_quant,
}


def get_default_static_quant_module_mappings() -> catalog.Mapping:
    """What convert makes of each class, float or trained."""
    return dict(DEFAULT_STATIC_QUANT_MODULE_MAPPINGS)


def get_default_dynamic_quant_module_mappings() -> catalog.Mapping:
    """What quantize_dynamic makes of each float class."""
    return dict(DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS)


def get_default_qat_module_mappings() -> catalog.Mapping:
    """What prepare_qat makes of each float class; embeddings have a mapping of their own."""
    return dict(DEFAULT_QAT_MODULE_MAPPINGS)


def get_embedding_static_quant_module_mappings() -> catalog.Mapping:
    """What convert makes of each class, embeddings that were trained among them."""
    return catalog.conversion()


def get_embedding_qat_module_mappings() -> catalog.Mapping:
    """What prepare_qat makes of each float class, embeddings among them."""
    return catalog.mapping("qat")


def get_default_qconfig_propagation_list() -> set[type[nn.Module]]:
    """Classes whose modules get a qconfig."""
    float_kinds = {*catalog.mapping("static"), *catalog.mapping("dynamic"), *catalog.mapping("qat")}
    return {*float_kinds, *catalog.conversion(), nn.Sequential}


def get_default_compare_output_module_list() -> set[type[nn.Module]]:
    """Classes whose outputs numeric suites compare: float ones and what they become."""
    kinds = {*catalog.mapping("static"), *catalog.mapping("dynamic"), *catalog.mapping("qat")}
    made = {*catalog.conversion().values(), *catalog.mapping("dynamic").values(), *catalog.mapping("qat").values()}
    return kinds | made


def get_default_float_to_quantized_operator_mappings() -> dict[Any, Callable[..., Any]]:
    """Functions of torch.nn.functional -> operators of torch.ops.quantized."""
    return dict(DEFAULT_FLOAT_TO_QUANTIZED_OPERATOR_MAPPINGS)


def get_static_quant_module_class(
    float_module_class: type[nn.Module],
    additional_static_quant_mapping: dict[Any, Any] | None = None,
    is_reference: bool = False,
) -> Any:
    """What convert makes of a class; ArgumentError for one without a quantized form."""
    table = {**catalog.conversion(), **(additional_static_quant_mapping or {})}
    return _found(table, float_module_class, "statically quantized")


def get_dynamic_quant_module_class(
    float_module_class: type[nn.Module], additional_dynamic_quant_mapping: dict[Any, Any] | None = None
) -> Any:
    """What quantize_dynamic makes of a class; ArgumentError for one without a quantized form."""
    table = {**catalog.mapping("dynamic"), **(additional_dynamic_quant_mapping or {})}
    return _found(table, float_module_class, "dynamically quantized")


def get_quantized_operator(float_op: Any) -> Callable[..., Any]:
    """The operator for a function of torch.nn.functional; ArgumentError for one without."""
    found: Callable[..., Any] = _found(DEFAULT_FLOAT_TO_QUANTIZED_OPERATOR_MAPPINGS, float_op, "quantized")
    return found


def _found(table: dict[Any, Any], key: Any, what: str) -> Any:
    if key not in table:
        raise ArgumentError(f"{getattr(key, '__name__', key)} has no {what} form; `qcore catalog` lists what has")
    return table[key]
