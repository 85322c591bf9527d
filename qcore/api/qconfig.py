"""QConfigs: which observers a module gets for its activations and its weight, and the usual choices by name.

The presets mean what torch's of the same name mean, 7-bit activations included; a backend's own choice, from
`get_default_qconfig`, uses all 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from qcore.api._observers.partial import Partial
from qcore.api.fake_quantize import (
    FusedMovingAvgObsFakeQuantize,
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
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    NoopObserver,
    PerChannelMinMaxObserver,
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
from qcore.backend import Mode
from qcore.capability import Capability, OpSpec
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.operators import Conv, Linear, LinearDynamic, Operator
from qcore.registry import registry
from qcore.selection import BackendLike
from qcore.tensor.arguments import check_key, check_type, check_whole
from qcore.tensor.dtypes import QDType, per_channel_affine, per_channel_symmetric, per_tensor_symmetric, qint8

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


def get_default_qconfig(backend: BackendLike = "auto", version: int = 0) -> QConfig:
    """A backend's own QConfig for static quantization; `backend`: its name, or "auto".

    Where it names none, one is derived from what it declares (`derive_qconfig`). `version` is 0 or 1, as torch
    counts; a backend has one QConfig for both. Raises BackendError if the backend is missing or cannot run here.
    """
    return _default(backend, "static", version)


def get_default_qat_qconfig(backend: BackendLike = "auto", version: int = 1) -> QConfig:
    """A backend's own QConfig for quantization-aware training; arguments and errors as of get_default_qconfig."""
    return _default(backend, "qat", version)


def get_default_dynamic_qconfig(backend: BackendLike = "auto") -> QConfig:
    """A backend's own QConfig for dynamic quantization; argument and errors as of get_default_qconfig."""
    return _default(backend, "dynamic", 0)


def get_qconfig_preset(name: str, backend: BackendLike = "auto") -> QConfig:
    """A QConfig that a plugin's extension of a backend brings, by its name there.

    ArgumentError, with the names that there are, for one that no extension of this backend has; BackendError for a
    backend that is missing or cannot run here.
    """
    check_key("get_qconfig_preset", name=name)
    chosen = registry.choose(backend).backend.name
    known = {key: value for each in registry.extensions(chosen) for key, value in each.qconfigs.items()}
    if name not in known:
        listed = ", ".join(map(repr, sorted(known))) or "none: no extension of it is installed"
        raise ArgumentError(f"backend {chosen!r} has no QConfig preset {name!r}; there are {listed}")
    if not isinstance(known[name], QConfig):
        raise ArgumentTypeError(f"the preset {name!r} of {chosen!r} is {known[name]!r}; it must be a qcore QConfig")
    found: QConfig = known[name]
    return found


def _default(backend: BackendLike, mode: Mode, version: int) -> QConfig:
    check_whole(version=version)
    if version not in (0, 1):
        raise ArgumentError(f"version={version!r} must be 0 or 1")
    chosen = registry.choose(backend).backend
    own = chosen.default_qconfig(mode)
    if own is not None and not isinstance(own, QConfig):
        raise ArgumentTypeError(
            f"backend {chosen.name!r} gave {own!r} as its QConfig for {mode}; it must be a qcore QConfig"
        )
    return own if own is not None else derive_qconfig(chosen.capability(), mode)


def derive_qconfig(capability: Capability, mode: Mode) -> QConfig:
    """The best QConfig for a mode that a declaration allows, by what it says of linear and convolution.

    Weights: int8, symmetric, per channel where declared. Activations: all of the first declared dtype, never reduced;
    static by least squared error, QAT by moving average, dynamic by the range of each row; by that of the whole input
    only where linear_dynamic is declared without `per_row`.
    """
    check_type("derive_qconfig", Capability, capability=capability)
    spec = _leading(capability, (LinearDynamic, Linear, Conv) if mode == "dynamic" else (Linear, Conv, LinearDynamic))
    per_channel = any(weight.per_channel and weight.dtype == qint8 for weight in spec.weights)
    qscheme = per_channel_symmetric if per_channel else per_tensor_symmetric
    if mode == "qat":
        averages = MovingAveragePerChannelMinMaxObserver if per_channel else MovingAverageMinMaxObserver
        return QConfig(
            _fused(MovingAverageMinMaxObserver, spec.activations[0]), _fused(averages, qint8, qscheme=qscheme)
        )
    weight = (PerChannelMinMaxObserver if per_channel else MinMaxObserver).with_args(dtype=qint8, qscheme=qscheme)
    if mode == "static":
        return QConfig(HistogramObserver.with_args(dtype=spec.activations[0]), weight)
    dynamic = capability.find(LinearDynamic)  # one that lacks it leaves it to a fallback, which takes rows
    by_row = {"qscheme": per_channel_affine} if dynamic is None or "per_row" in dynamic.options else {}
    return QConfig(default_dynamic_quant_observer.with_args(**by_row), weight)


def _leading(capability: Capability, operators: tuple[type[Operator], ...]) -> OpSpec:
    """The declaration of the first of these operators that is declared; else a plain one."""
    found = (capability.find(operator) for operator in operators)
    return next((spec for spec in found if spec is not None and spec.activations), OpSpec(Linear))


def _fused(observer: type[nn.Module], dtype: QDType, **kwargs: Any) -> Partial:
    return FusedMovingAvgObsFakeQuantize.with_args(
        observer=observer, quant_min=dtype.qmin, quant_max=dtype.qmax, dtype=dtype, **kwargs
    )


def qconfig_equals(q1: QConfigAny, q2: QConfigAny) -> bool:
    """Whether two QConfigs, or None, make the same observers with the same arguments."""
    check_type("qconfig_equals", (QConfig, NoneType), q1=q1, q2=q2)
    return q1 == q2
