"""QConfigs by the names of torch's engines: the same observers and ranges as torch has for them.

So a converted model gives the results that it gave with torch. `fbgemm` and `x86` keep activations to 7 bits, which
qcore's kernels do not need: `qcore.get_default_qconfig()`, or the name of a qcore backend, gives all 8.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn
from torch.nn import functional as F

from qcore.api import qconfig as own
from qcore.api import qconfig_mapping as own_mapping
from qcore.api.fake_quantize import (
    FakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    default_fused_per_channel_wt_fake_quant,
    default_fused_wt_fake_quant,
    default_per_channel_weight_fake_quant,
    default_weight_fake_quant,
    fused_per_channel_wt_fake_quant_range_neg_127_to_127,
    fused_wt_fake_quant_range_neg_127_to_127,
)
from qcore.api.observer import (
    HistogramObserver,
    MovingAverageMinMaxObserver,
    default_per_channel_weight_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    weight_observer_range_neg_127_to_127,
)
from qcore.api.qconfig import QConfig
from qcore.api.qconfig_mapping import QConfigMapping
from qcore.compat.engine import ENGINES
from qcore.errors import ArgumentError
from qcore.tensor.dtypes import qint8

__all__ = [
    "default_per_channel_symmetric_qnnpack_qat_qconfig",
    "default_per_channel_symmetric_qnnpack_qconfig",
    "default_symmetric_qnnpack_qat_qconfig",
    "default_symmetric_qnnpack_qconfig",
    "get_default_qat_qconfig",
    "get_default_qat_qconfig_dict",
    "get_default_qat_qconfig_mapping",
    "get_default_qconfig",
    "get_default_qconfig_dict",
    "get_default_qconfig_mapping",
]

_SMALLEST_SCALE = 2.0**-12
_REDUCED = ("fbgemm", "x86")
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TRANSPOSED_CALLS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

_signed = HistogramObserver.with_args(dtype=qint8, reduce_range=False, eps=_SMALLEST_SCALE)
_signed_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, quant_min=-128, quant_max=127, dtype=qint8, reduce_range=False,
    eps=_SMALLEST_SCALE,
)  # fmt: skip
default_symmetric_qnnpack_qconfig = QConfig(_signed, weight_observer_range_neg_127_to_127)
"""Static: int8 activations, int8 weights without -128."""
default_per_channel_symmetric_qnnpack_qconfig = QConfig(_signed, per_channel_weight_observer_range_neg_127_to_127)
"""Static: int8 activations, int8 weights per channel without -128."""
default_symmetric_qnnpack_qat_qconfig = QConfig(_signed_fake_quant, fused_wt_fake_quant_range_neg_127_to_127)
"""QAT: int8 activations, int8 weights without -128."""
default_per_channel_symmetric_qnnpack_qat_qconfig = QConfig(
    _signed_fake_quant, fused_per_channel_wt_fake_quant_range_neg_127_to_127
)
"""QAT: int8 activations, int8 weights per channel without -128."""


def get_default_qconfig(backend: str = "x86", version: int = 0) -> QConfig:
    """torch's QConfig for static quantization by one of its engines; a qcore backend's own for that one's name."""
    if backend not in ENGINES:
        return own.get_default_qconfig(backend, version)
    if version != 0:
        raise ArgumentError(f"get_default_qconfig: version={version!r} must be 0")
    observer = HistogramObserver.with_args(reduce_range=backend in _REDUCED)
    return QConfig(observer, default_weight_observer if backend == "qnnpack" else default_per_channel_weight_observer)


def get_default_qat_qconfig(backend: str = "x86", version: int = 1) -> QConfig:
    """torch's QConfig for training by one of its engines; a qcore backend's own for that one's name.

    `version` 1 observes and rounds in one step, 0 in two.
    """
    if backend not in ENGINES:
        return own.get_default_qat_qconfig(backend, version)
    if version not in (0, 1):
        raise ArgumentError(f"get_default_qat_qconfig: version={version!r} must be 0 or 1")
    kind: Any = FusedMovingAvgObsFakeQuantize if version else FakeQuantize
    reduced = {"reduce_range": True} if backend in _REDUCED else {}
    activation = kind.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, **reduced)
    if backend == "qnnpack":
        return QConfig(activation, default_fused_wt_fake_quant if version else default_weight_fake_quant)
    per_channel = default_fused_per_channel_wt_fake_quant if version else default_per_channel_weight_fake_quant
    return QConfig(activation, per_channel)


def get_default_qconfig_mapping(backend: str = "x86", version: int = 0) -> QConfigMapping:
    """QConfigs for graph mode by one of torch's engines, as get_default_qconfig; transposed convolutions per tensor."""
    return _mapping(backend, get_default_qconfig(backend, version), default_weight_observer)


def get_default_qat_qconfig_mapping(backend: str = "x86", version: int = 1) -> QConfigMapping:
    """QConfigs for training in graph mode, as get_default_qat_qconfig; transposed convolutions per tensor."""
    weight = default_fused_wt_fake_quant if version else default_weight_fake_quant
    return _mapping(backend, get_default_qat_qconfig(backend, version), weight)


def _mapping(backend: str, qconfig: QConfig, per_tensor: Any) -> QConfigMapping:
    mapping = own_mapping.get_default_qconfig_mapping("auto" if backend in ENGINES else backend)
    mapping.set_global(qconfig)
    if backend in ENGINES:
        transposed = QConfig(qconfig.activation, per_tensor)
        mapping.default_qconfigs.update(dict.fromkeys((*_TRANSPOSED, *_TRANSPOSED_CALLS), transposed))
        dynamic = own.default_dynamic_qconfig
        kinds = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
        mapping.default_qconfigs.update(dict.fromkeys(kinds, dynamic))
    return mapping


def get_default_qconfig_dict(backend: str = "x86", version: int = 0) -> dict[str, Any]:
    """get_default_qconfig_mapping in torch's dict form; an old name, which warns."""
    _old("get_default_qconfig_dict", "get_default_qconfig_mapping")
    return get_default_qconfig_mapping(backend, version).to_dict()


def get_default_qat_qconfig_dict(backend: str = "x86", version: int = 1) -> dict[str, Any]:
    """get_default_qat_qconfig_mapping in torch's dict form; an old name, which warns."""
    _old("get_default_qat_qconfig_dict", "get_default_qat_qconfig_mapping")
    return get_default_qat_qconfig_mapping(backend, version).to_dict()


def _old(name: str, new: str) -> None:
    warnings.warn(f"{name} is an old name; use {new}", FutureWarning, stacklevel=3)
