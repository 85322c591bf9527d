"""BackendConfigs by the names of torch's engines: what the qcore backend for each declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from qcore.api.backend_config import BackendConfig, DTypeConfig, get_backend_config
from qcore.tensor.dtypes import qint8, quint4x2, quint8

__all__ = [
    "default_dynamic_float16_dtype_config",
    "default_dynamic_int8_dtype_config",
    "default_op_fp16_dtype_config",
    "default_op_quint8_dtype_config",
    "get_fbgemm_backend_config",
    "get_fused_module_classes",
    "get_module_to_qat_module",
    "get_native_backend_config",
    "get_onednn_backend_config",
    "get_pattern_to_dtype_configs",
    "get_qat_module_classes",
    "get_qnnpack_backend_config",
    "get_x86_backend_config",
    "input_output_only_quint8_dtype_config",
    "weight_only_quint4x2_dtype_config",
    "weight_only_quint8_dtype_config",
]

default_op_quint8_dtype_config = DTypeConfig(input_dtype=quint8, output_dtype=quint8)
"""Activations in 8 bits."""
default_op_fp16_dtype_config = DTypeConfig(torch.float16, torch.float16, torch.float16, torch.float16)
"""All in float16."""
default_dynamic_int8_dtype_config = DTypeConfig(
    input_dtype=quint8, output_dtype=torch.float, weight_dtype=qint8, bias_dtype=torch.float, is_dynamic=True
)
"""int8 weights, activations quantized at inference."""
default_dynamic_float16_dtype_config = DTypeConfig(
    input_dtype=torch.float16,
    output_dtype=torch.float,
    weight_dtype=torch.float16,
    bias_dtype=torch.float,
    is_dynamic=True,
)
"""float16 weights."""
input_output_only_quint8_dtype_config = DTypeConfig(
    input_dtype=quint8, output_dtype=quint8, weight_dtype=torch.float, bias_dtype=torch.float
)
"""Activations in 8 bits, float weights, as of norms."""
weight_only_quint8_dtype_config = DTypeConfig(torch.float, torch.float, quint8)
"""Tables of embeddings in 8 bits."""
weight_only_quint4x2_dtype_config = DTypeConfig(torch.float, torch.float, quint4x2)
"""Tables of embeddings in 4 bits."""


def get_native_backend_config() -> BackendConfig:
    """What the backend that `auto` means declares."""
    return get_backend_config()


def get_fbgemm_backend_config() -> BackendConfig:
    """What the backend that `auto` means declares: the engines of torch share one arithmetic here."""
    return get_backend_config()


def get_x86_backend_config() -> BackendConfig:
    """As get_fbgemm_backend_config."""
    return get_backend_config()


def get_onednn_backend_config() -> BackendConfig:
    """As get_fbgemm_backend_config."""
    return get_backend_config()


def get_qnnpack_backend_config() -> BackendConfig:
    """As get_fbgemm_backend_config."""
    return get_backend_config()


def get_pattern_to_dtype_configs(backend_config: BackendConfig) -> dict[Any, list[DTypeConfig]]:
    """Pattern -> the dtypes that go together for it."""
    return _by_pattern(backend_config, lambda config: config.dtype_configs)


def get_module_to_qat_module(backend_config: BackendConfig) -> dict[Any, Any]:
    """Pattern -> the class that is trained in its place, where there is one."""
    return {key: kind for key, kind in _by_pattern(backend_config, lambda config: config.qat_module).items() if kind}


def get_qat_module_classes(backend_config: BackendConfig) -> tuple[Any, ...]:
    """All classes that are trained in the place of others."""
    return tuple(dict.fromkeys(get_module_to_qat_module(backend_config).values()))


def get_fused_module_classes(backend_config: BackendConfig) -> tuple[Any, ...]:
    """All classes that sequences are fused to."""
    kinds = _by_pattern(backend_config, lambda config: config.fused_module).values()
    return tuple(dict.fromkeys(kind for kind in kinds if kind))


def _by_pattern(backend_config: BackendConfig, what: Callable[[Any], Any]) -> dict[Any, Any]:
    return {config.pattern: what(config) for config in backend_config.configs}
