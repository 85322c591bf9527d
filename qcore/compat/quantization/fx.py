"""Graph mode with torch's defaults."""

from __future__ import annotations

from typing import Any

from torch import nn

from qcore.api import quantize_fx as own
from qcore.compat.quantization.uncalibrated import with_defaults

__all__ = ["convert_fx"]


def convert_fx(
    graph_module: nn.Module,
    convert_custom_config: Any = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: Any = None,
    backend_config: Any = None,
    keep_original_weights: bool = False,
    is_reference: bool = False,
) -> nn.Module:
    """qcore.convert_fx; with `is_reference`, as older scripts have it, qcore.convert_to_reference_fx. Activations
    that were never observed get scale 1 and zero point 0, with a warning."""
    make: Any = own.convert_to_reference_fx if is_reference else own.convert_fx
    graph_module = with_defaults(graph_module, False, "convert_fx")
    return make(graph_module, convert_custom_config, _remove_qconfig, qconfig_mapping, backend_config)  # type: ignore[no-any-return]
