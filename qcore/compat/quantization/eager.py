"""The eager flow with torch's defaults: dynamic quantization by torch's presets, in eval mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from qcore.api import qconfig as qconfigs
from qcore.api.quantize import convert as own_convert
from qcore.api.quantize import quantize_dynamic as own_quantize_dynamic
from qcore.compat.quantization.uncalibrated import with_defaults
from qcore.errors import ArgumentError
from qcore.nn import catalog
from qcore.tensor.dtypes import as_qdtype, is_qdtype, qint8, quint4x2, quint8

__all__ = [
    "convert",
    "get_default_custom_config_dict",
    "is_activation_post_process",
    "no_observer_set",
    "quantize_dynamic",
]

_RECURRENT = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.RNNCell, nn.GRUCell)
_PRESETS: dict[Any, tuple[Any, tuple[type[nn.Module], ...]]] = {
    qint8: (qconfigs.default_dynamic_qconfig, (nn.Linear, *_RECURRENT)),
    torch.float16: (qconfigs.float16_dynamic_qconfig, (nn.Linear, *_RECURRENT)),
    quint8: (qconfigs.float_qparams_weight_only_qconfig, (nn.EmbeddingBag, nn.Embedding)),
    quint4x2: (qconfigs.float_qparams_weight_only_qconfig_4bit, (nn.EmbeddingBag,)),
}
"""dtype -> QConfig, and the classes that get it where none are named."""


def quantize_dynamic(
    model: nn.Module,
    qconfig_spec: Any = None,
    dtype: Any = qint8,
    mapping: Any = None,
    inplace: bool = False,
) -> nn.Module:
    """qcore.quantize_dynamic with torch's presets: int8 weights per tensor, activations to 7 bits, eval mode.

    So the results are those that torch gives. `qcore.quantize_dynamic` itself takes the backend's own, finer ones.
    """
    if not isinstance(qconfig_spec, Mapping):
        key = as_qdtype(dtype) if is_qdtype(dtype) else dtype
        if key not in _PRESETS:
            raise ArgumentError(f"quantize_dynamic: dtype={dtype!r}; use one of {', '.join(map(repr, _PRESETS))}")
        preset, kinds = _PRESETS[key]
        qconfig_spec = dict.fromkeys(kinds if qconfig_spec is None else qconfig_spec, preset)
    return own_quantize_dynamic(model, qconfig_spec, dtype, mapping, inplace).eval()


def convert(
    module: nn.Module,
    mapping: Any = None,
    inplace: bool = False,
    remove_qconfig: bool = True,
    is_reference: bool = False,
    convert_custom_config_dict: Any = None,
    use_precomputed_fake_quant: bool = False,
) -> nn.Module:
    """qcore.convert; activations that were never observed get scale 1 and zero point 0, with a warning."""
    return own_convert(
        with_defaults(module, inplace, "convert"),
        mapping,
        inplace,
        remove_qconfig,
        is_reference,
        convert_custom_config_dict,
        use_precomputed_fake_quant,
    )


def get_default_custom_config_dict() -> dict[str, dict[type[nn.Module], type[nn.Module]]]:
    """What prepare and convert take apart: float class -> observed class -> quantized class."""
    return {
        "float_to_observed_custom_module_class": catalog.observed(),
        "observed_to_quantized_custom_module_class": catalog.converted(),
    }


def no_observer_set() -> set[type[nn.Module]]:
    """Classes that observe inside, and whose output is not observed."""
    return set(catalog.converted())


def is_activation_post_process(module: nn.Module) -> bool:
    """Whether a module is an observer or a fake-quantizer."""
    from qcore.api.fake_quantize import FakeQuantizeBase
    from qcore.api.observer import ObserverBase

    return isinstance(module, ObserverBase | FakeQuantizeBase)
