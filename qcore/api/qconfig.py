"""QConfigs: which observers a module gets for its activations and its weight, and the usual choices by name.

The presets mean what torch.ao's of the same name mean, 7-bit activations included; a backend's own choice, from
`get_default_qconfig`, uses all 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import nn

from qcore.api.fake_quantize import (
    default_dynamic_fake_quant,
    default_embedding_fake_quant,
    default_embedding_fake_quant_4bit,
    default_fake_quant,
    default_fused_act_fake_quant,
    default_fused_wt_fake_quant,
    default_weight_fake_quant,
)
from qcore.api.observer import (
    HistogramObserver,
    MinMaxObserver,
    NoopObserver,
    PlaceholderObserver,
    default_debug_observer,
    default_dynamic_quant_observer,
    default_float_qparams_observer,
    default_float_qparams_observer_4bit,
    default_observer,
    default_per_channel_weight_observer,
    default_placeholder_observer,
    default_reuse_input_observer,
    default_weight_observer,
)
from qcore.errors import ArgumentTypeError

Maker: TypeAlias = Callable[..., nn.Module]


class _Pair(NamedTuple):
    activation: Maker
    weight: Maker


class QConfig(_Pair):
    """What observes a module's activations, and what its weight: constructors, not instances.

    Give a class, or one with arguments: `QConfig(activation=MinMaxObserver.with_args(dtype=qcore.qint8),
    weight=...)`; each module gets observers of its own from them. A tuple (activation, weight); equal where the
    constructors are.
    Raises ArgumentTypeError for an instance, or anything else that cannot be called.
    """

    __slots__ = ()

    def __new__(cls, activation: Maker, weight: Maker) -> QConfig:
        for argument, maker in (("activation", activation), ("weight", weight)):
            _check_maker(cls.__name__, argument, maker)
        return super().__new__(cls, activation, weight)


class QConfigDynamic(QConfig):
    """Old name for the QConfig of dynamic quantization; QConfig serves for both."""

    __slots__ = ()

    def __new__(cls, activation: Maker = nn.Identity, weight: Maker = nn.Identity) -> QConfigDynamic:
        return super().__new__(cls, activation, weight)  # type: ignore[return-value]


QConfigAny: TypeAlias = "QConfig | None"


def _check_maker(owner: str, argument: str, maker: object) -> None:
    if isinstance(maker, nn.Module):
        kind = type(maker).__name__
        raise ArgumentTypeError(
            f"{owner}: {argument} is an instance of {kind}; give its class, or {kind}.with_args(...), "
            "so that each module gets an observer of its own"
        )
    if not callable(maker):
        raise ArgumentTypeError(f"{owner}: {argument}={maker!r} is not an observer class or a function that makes one")


default_qconfig = QConfig(activation=default_observer, weight=default_weight_observer)
"""Static: 7-bit activations by minimum and maximum, per-tensor int8 weights."""
default_debug_qconfig = QConfig(activation=default_debug_observer, weight=default_weight_observer)
"""Keeps all activations, for debugging."""
default_per_channel_qconfig = QConfig(activation=default_observer, weight=default_per_channel_weight_observer)
"""Static: 7-bit activations by minimum and maximum, per-channel int8 weights."""
default_dynamic_qconfig = QConfig(activation=default_dynamic_quant_observer, weight=default_weight_observer)
"""Dynamic: activations quantized at inference, per-tensor int8 weights."""
per_channel_dynamic_qconfig = QConfig(
    activation=default_dynamic_quant_observer, weight=default_per_channel_weight_observer
)
"""Dynamic: activations quantized at inference, per-channel int8 weights."""
float16_dynamic_qconfig = QConfig(
    activation=PlaceholderObserver.with_args(dtype=torch.float16, is_dynamic=True),
    weight=PlaceholderObserver.with_args(dtype=torch.float16),
)
"""Dynamic: float16 weights."""
float16_static_qconfig = QConfig(
    activation=PlaceholderObserver.with_args(dtype=torch.float16),
    weight=PlaceholderObserver.with_args(dtype=torch.float16),
)
"""Float16 activations and weights."""
float_qparams_weight_only_qconfig = QConfig(
    activation=default_placeholder_observer, weight=default_float_qparams_observer
)
"""Embeddings: 8 bits, a float scale and zero point for each row."""
float_qparams_weight_only_qconfig_4bit = QConfig(
    activation=default_placeholder_observer, weight=default_float_qparams_observer_4bit
)
"""Embeddings: 4 bits, a float scale and zero point for each row."""
default_quint8_weight_qconfig = QConfig(activation=HistogramObserver, weight=MinMaxObserver)
"""Static: 8-bit activations by least squared error, uint8 affine weights."""
default_reuse_input_qconfig = QConfig(activation=default_reuse_input_observer, weight=NoopObserver)
"""Results keep the parameters of their input."""
default_qat_qconfig = QConfig(activation=default_fake_quant, weight=default_weight_fake_quant)
"""QAT: 7-bit activations, per-tensor int8 weights."""
default_dynamic_qat_qconfig = QConfig(activation=default_dynamic_fake_quant, weight=default_weight_fake_quant)
"""QAT for dynamic quantization: activations by the range of each input, per-tensor int8 weights."""
default_weight_only_qconfig = QConfig(activation=nn.Identity, weight=default_weight_fake_quant)
"""QAT: fake-quantizes the weight only."""
default_activation_only_qconfig = QConfig(activation=default_fake_quant, weight=nn.Identity)
"""QAT: fake-quantizes activations only."""
default_qat_qconfig_v2 = QConfig(activation=default_fused_act_fake_quant, weight=default_fused_wt_fake_quant)
"""QAT with fused observation: 8-bit activations, per-tensor int8 weights."""
default_embedding_qat_qconfig = QConfig(
    activation=NoopObserver.with_args(dtype=torch.float32), weight=default_embedding_fake_quant
)
"""QAT for embeddings: 8 bits, a float scale and zero point for each row."""
default_embedding_qat_qconfig_4bit = QConfig(
    activation=NoopObserver.with_args(dtype=torch.float32), weight=default_embedding_fake_quant_4bit
)
"""QAT for embeddings: 4 bits, a float scale and zero point for each row."""


def qconfig_equals(q1: QConfigAny, q2: QConfigAny) -> bool:
    """Whether two QConfigs, or None, make the same observers with the same arguments."""
    return q1 == q2
