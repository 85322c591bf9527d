"""Observers: modules that watch the tensors of a prepared model and choose scale and zero point for them.

Where they differ from torch's of the same name: data with NaN or infinity, and parameters asked for before any
data, are errors that name the module; arguments that make no sense are refused; HistogramObserver merges exactly (see
there); `merge` adds up two observers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

from qcore.api._observers.base import ObserverBase, UniformQuantizationObserverBase
from qcore.api._observers.histogram import HistogramObserver
from qcore.api._observers.minmax import (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from qcore.api._observers.plain import (
    FixedQParamsObserver,
    NoopObserver,
    PlaceholderObserver,
    RecordingObserver,
    ReuseInputObserver,
)
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.tensor.arguments import check_module
from qcore.tensor.dtypes import (
    per_channel_affine_float_qparams,
    per_channel_symmetric,
    per_tensor_symmetric,
    qint8,
    quint4x2,
    quint8,
)

__all__ = [
    "FixedQParamsObserver",
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "NoopObserver",
    "ObserverBase",
    "PerChannelMinMaxObserver",
    "PlaceholderObserver",
    "RecordingObserver",
    "ReuseInputObserver",
    "UniformQuantizationObserverBase",
    "default_affine_fixed_qparams_observer",
    "default_debug_observer",
    "default_dynamic_quant_observer",
    "default_fixed_qparams_range_0to1_observer",
    "default_fixed_qparams_range_neg1to1_observer",
    "default_float_qparams_observer",
    "default_float_qparams_observer_4bit",
    "default_histogram_observer",
    "default_observer",
    "default_per_channel_weight_observer",
    "default_placeholder_observer",
    "default_reuse_input_observer",
    "default_symmetric_fixed_qparams_observer",
    "default_weight_observer",
    "get_observer_state_dict",
    "load_observer_state_dict",
    "per_channel_weight_observer_range_neg_127_to_127",
    "weight_observer_range_neg_127_to_127",
]

for _name in __all__:
    if isinstance(globals().get(_name), type):
        globals()[_name].__module__ = __name__  # where pickles look for it

_SMALLEST_SCALE = 2.0**-12

default_observer = MinMaxObserver.with_args(quant_min=0, quant_max=127)
"""Activations: minimum and maximum, 7 bits."""
default_placeholder_observer = PlaceholderObserver
"""Tensors that stay float."""
default_debug_observer = RecordingObserver
"""Keeps all tensors."""
default_weight_observer = MinMaxObserver.with_args(dtype=qint8, qscheme=per_tensor_symmetric)
"""Weights: one symmetric scale for all, int8."""
weight_observer_range_neg_127_to_127 = default_weight_observer.with_args(
    quant_min=-127, quant_max=127, eps=_SMALLEST_SCALE
)
"""Weights: one symmetric scale for all, int8 without -128."""
default_histogram_observer = HistogramObserver.with_args(quant_min=0, quant_max=127)
"""Activations: least squared error, 7 bits."""
default_per_channel_weight_observer = PerChannelMinMaxObserver.with_args(dtype=qint8, qscheme=per_channel_symmetric)
"""Weights: a symmetric scale for each output channel, int8."""
per_channel_weight_observer_range_neg_127_to_127 = default_per_channel_weight_observer.with_args(
    quant_min=-127, quant_max=127, eps=_SMALLEST_SCALE
)
"""Weights: a symmetric scale for each output channel, int8 without -128."""
default_dynamic_quant_observer = PlaceholderObserver.with_args(
    dtype=quint8, quant_min=0, quant_max=255, is_dynamic=True
)
"""Activations that are quantized at inference, by the range of each input."""
default_float_qparams_observer = PerChannelMinMaxObserver.with_args(
    dtype=quint8, qscheme=per_channel_affine_float_qparams, ch_axis=0
)
"""Embedding tables: a float scale and zero point for each row, 8 bits."""
default_float_qparams_observer_4bit = default_float_qparams_observer.with_args(dtype=quint4x2)
"""Embedding tables: a float scale and zero point for each row, 4 bits."""
default_fixed_qparams_range_neg1to1_observer = FixedQParamsObserver.with_args(
    scale=2.0 / 256.0, zero_point=128, dtype=quint8, quant_min=0, quant_max=255
)
"""Results known to lie in [-1, 1), as of tanh."""
default_fixed_qparams_range_0to1_observer = FixedQParamsObserver.with_args(
    scale=1.0 / 256.0, zero_point=0, dtype=quint8, quant_min=0, quant_max=255
)
"""Results known to lie in [0, 1), as of sigmoid."""
default_symmetric_fixed_qparams_observer = default_fixed_qparams_range_neg1to1_observer
"""Former name of default_fixed_qparams_range_neg1to1_observer."""
default_affine_fixed_qparams_observer = default_fixed_qparams_range_0to1_observer
"""Former name of default_fixed_qparams_range_0to1_observer."""
default_reuse_input_observer = ReuseInputObserver
"""Results that keep the parameters of their input."""


def get_observer_state_dict(mod: nn.Module) -> OrderedDict[str, Any]:
    """The entries of a prepared model's state dict that belong to its observers: what calibration found.

    `load_observer_state_dict` puts them into a freshly prepared copy.
    """
    check_module("get_observer_state_dict", mod)
    return OrderedDict((key, value) for key, value in mod.state_dict().items() if _of_observer(key))


def load_observer_state_dict(mod: nn.Module, obs_dict: dict[str, Any]) -> None:
    """Set the observers of a prepared model to the statistics from `get_observer_state_dict`.

    Raises ArgumentError, before anything is changed, when names are missing in either.
    """
    check_module("load_observer_state_dict", mod)
    if not isinstance(obs_dict, Mapping):
        raise ArgumentTypeError(f"obs_dict must be a dict of tensors, not {type(obs_dict).__name__}")
    expected = get_observer_state_dict(mod).keys()
    missing, unexpected = sorted(expected - obs_dict.keys()), sorted(obs_dict.keys() - expected)
    # torch's histograms lack these two, and HistogramObserver makes them from the rest
    missing = [key for key in missing if key.rpartition(".")[2] not in ("counts", "grid_position")]
    if missing or unexpected:
        raise ArgumentError(
            f"obs_dict is not of a model prepared like this one: it lacks {missing or 'nothing'}, and the model has no "
            f"{unexpected or 'others'}; prepare both from the same float model with the same qconfigs"
        )
    mod.load_state_dict(obs_dict, strict=False)


def _of_observer(key: str) -> bool:
    """Whether a key of a state dict lies in an observer, by the names under which prepare puts them."""
    return any(part.startswith("activation_post_process") or part == "observer" for part in key.split(".")[:-1])
