"""The one index of modules: what each float module becomes at each stage. Every default mapping is derived from it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import nn

from qcore.nn import intrinsic as nni
from qcore.nn import qat as nnqat
from qcore.nn import quantizable as nnqa
from qcore.nn import quantized as nnq
from qcore.nn.intrinsic import FusedModule
from qcore.nn.intrinsic import qat as nniqat
from qcore.nn.intrinsic import quantized as nniq
from qcore.nn.intrinsic.quantized import dynamic as nniqd
from qcore.nn.qat import dynamic as nnqatd
from qcore.nn.quantized import dynamic as nnqd
from qcore.nn.stubs import DeQuantStub, QuantStub

Stage: TypeAlias = Literal["static", "dynamic", "qat"]
ModuleType: TypeAlias = type[nn.Module]
Mapping: TypeAlias = dict[ModuleType, ModuleType]


@dataclass(frozen=True)
class Entry:
    """A float module and what it becomes."""

    float: ModuleType
    static: ModuleType | None = None
    dynamic: ModuleType | None = None
    qat: ModuleType | None = None
    observed: ModuleType | None = None
    """What prepare puts in its place: the same in parts, which are quantized one by one."""
    converted: ModuleType | None = None
    """What `observed` is called when its parts are quantized."""


CATALOG: tuple[Entry, ...] = (
    Entry(QuantStub, static=nnq.Quantize),
    Entry(DeQuantStub, static=nnq.DeQuantize),
    Entry(nn.Linear, static=nnq.Linear, dynamic=nnqd.Linear, qat=nnqat.Linear),
    Entry(nni.LinearReLU, static=nniq.LinearReLU, dynamic=nniqd.LinearReLU, qat=nniqat.LinearReLU),
    Entry(nni.LinearBn1d, static=nnq.Linear, qat=nniqat.LinearBn1d),
    Entry(nn.LSTM, dynamic=nnqd.LSTM, observed=nnqa.LSTM, converted=nnq.LSTM),
    Entry(nn.MultiheadAttention, observed=nnqa.MultiheadAttention, converted=nnq.MultiheadAttention),
    Entry(nn.GRU, dynamic=nnqd.GRU),
    Entry(nn.LSTMCell, dynamic=nnqd.LSTMCell),
    Entry(nn.GRUCell, dynamic=nnqd.GRUCell),
    Entry(nn.RNNCell, dynamic=nnqd.RNNCell),
    Entry(nn.Conv1d, static=nnq.Conv1d, qat=nnqat.Conv1d),
    Entry(nn.Conv2d, static=nnq.Conv2d, qat=nnqat.Conv2d),
    Entry(nn.Conv3d, static=nnq.Conv3d, qat=nnqat.Conv3d),
    Entry(nni.ConvReLU1d, static=nniq.ConvReLU1d, qat=nniqat.ConvReLU1d),
    Entry(nni.ConvReLU2d, static=nniq.ConvReLU2d, qat=nniqat.ConvReLU2d),
    Entry(nni.ConvReLU3d, static=nniq.ConvReLU3d, qat=nniqat.ConvReLU3d),
    Entry(nni.ConvBn1d, static=nnq.Conv1d, qat=nniqat.ConvBn1d),
    Entry(nni.ConvBn2d, static=nnq.Conv2d, qat=nniqat.ConvBn2d),
    Entry(nni.ConvBn3d, static=nnq.Conv3d, qat=nniqat.ConvBn3d),
    Entry(nni.ConvBnReLU1d, static=nniq.ConvReLU1d, qat=nniqat.ConvBnReLU1d),
    Entry(nni.ConvBnReLU2d, static=nniq.ConvReLU2d, qat=nniqat.ConvBnReLU2d),
    Entry(nni.ConvBnReLU3d, static=nniq.ConvReLU3d, qat=nniqat.ConvBnReLU3d),
    Entry(nn.ConvTranspose1d, static=nnq.ConvTranspose1d, qat=nnqat.ConvTranspose1d),
    Entry(nn.ConvTranspose2d, static=nnq.ConvTranspose2d, qat=nnqat.ConvTranspose2d),
    Entry(nn.ConvTranspose3d, static=nnq.ConvTranspose3d, qat=nnqat.ConvTranspose3d),
    Entry(nn.BatchNorm2d, static=nnq.BatchNorm2d),
    Entry(nn.BatchNorm3d, static=nnq.BatchNorm3d),
    Entry(nni.BNReLU2d, static=nniq.BNReLU2d),
    Entry(nni.BNReLU3d, static=nniq.BNReLU3d),
    Entry(nn.LayerNorm, static=nnq.LayerNorm),
    Entry(nn.GroupNorm, static=nnq.GroupNorm),
    Entry(nn.InstanceNorm1d, static=nnq.InstanceNorm1d),
    Entry(nn.InstanceNorm2d, static=nnq.InstanceNorm2d),
    Entry(nn.InstanceNorm3d, static=nnq.InstanceNorm3d),
    Entry(nn.ReLU6, static=nnq.ReLU6),
    Entry(nn.Hardswish, static=nnq.Hardswish),
    Entry(nn.ELU, static=nnq.ELU),
    Entry(nn.LeakyReLU, static=nnq.LeakyReLU),
    Entry(nn.PReLU, static=nnq.PReLU),
    Entry(nn.Embedding, static=nnq.Embedding, dynamic=nnq.Embedding, qat=nnqat.Embedding),
    Entry(nn.EmbeddingBag, static=nnq.EmbeddingBag, dynamic=nnq.EmbeddingBag, qat=nnqat.EmbeddingBag),
    Entry(nnq.FloatFunctional, static=nnq.QFunctional),
)

NORMS: tuple[ModuleType, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FOLDED: tuple[tuple[ModuleType, ...], ...] = (
    (nn.ConvTranspose1d, nn.BatchNorm1d),
    (nn.ConvTranspose2d, nn.BatchNorm2d),
    (nn.ConvTranspose3d, nn.BatchNorm3d),
)
"""Sequences that fold into their first module, and have no fused class."""

TRANSPARENT: tuple[ModuleType, ...] = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.Flatten,
    nn.Unflatten,
    nn.ReLU,
    nn.Hardtanh,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardsigmoid,
    nn.GELU,
    nn.Threshold,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.Upsample,
    nn.ChannelShuffle,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    *(
        getattr(nn, f"{kind}Pad{rank}d")
        for kind in ("Constant", "Zero", "Reflection", "Replication")
        for rank in (1, 2, 3)
    ),
)
"""Float modules that work on quantized tensors as they are, with the parameters of their input."""


def is_transparent(module: nn.Module) -> bool:
    """Whether a module is one of these, with the forward of its class."""
    found = match(type(module), {kind: kind for kind in TRANSPARENT}).target
    return found is not None and "forward" not in vars(module)


def mapping(stage: Stage) -> Mapping:
    """Float module class -> what it becomes at a stage."""
    found = {entry.float: getattr(entry, stage) for entry in CATALOG}
    return {kind: target for kind, target in found.items() if target is not None}


def conversion() -> Mapping:
    """What convert makes of a prepared module: of a float one, or of one trained with fake quantization."""
    trained = {entry.qat: entry.static for entry in CATALOG if entry.qat is not None and entry.static is not None}
    return {**mapping("static"), **trained, nnqatd.Linear: nnqd.Linear}


def trained_dynamic() -> Mapping:
    """Class that trains with fake quantization -> what it becomes where its activations are quantized dynamically."""
    return {entry.qat: entry.dynamic for entry in CATALOG if entry.qat is not None and entry.dynamic is not None}


def observed() -> Mapping:
    """Float module class -> the same in parts, for static quantization and training."""
    return {entry.float: entry.observed for entry in CATALOG if entry.observed is not None}


def converted() -> Mapping:
    """Module in parts -> its class when the parts are quantized."""
    found = {entry.observed: entry.converted for entry in CATALOG if entry.observed is not None}
    return {kind: target for kind, target in found.items() if target is not None}


def fusions() -> dict[tuple[ModuleType, ...], type[FusedModule]]:
    """Sequence of float modules -> the class that fuses them."""
    return {entry.float.parts: entry.float for entry in CATALOG if issubclass(entry.float, FusedModule)}


COLUMNS = ("float", "prepared", "static", "dynamic", "QAT", "operator")


def rows() -> list[tuple[str, ...]]:
    """For each float module, in words: what it becomes at each stage, and the operators that this is.

    `prepared`: the form in parts that prepare puts in its place; elsewhere that is the module itself, observed.
    """
    return [
        (
            *map(
                _public_name,
                (entry.float, entry.observed, entry.static or entry.converted, entry.dynamic, entry.qat),
            ),
            ", ".join(dict.fromkeys(_computes(kind) for kind in (entry.static, entry.dynamic) if kind is not None)),
        )
        for entry in CATALOG
    ]


def _public_name(kind: ModuleType | None) -> str:
    """A class under the package that has it, which is the one that its module lies in."""
    if kind is None:
        return ""
    module = sys.modules[kind.__module__]
    package = str(module.__package__).removesuffix(".modules")
    return kind.__name__ if package == "qcore.nn" else f"{package}.{kind.__name__}"


def _computes(kind: Any) -> str:
    relu = " + relu" if getattr(kind, "relu", False) else ""
    return f"{kind.computes}{relu}"


@dataclass(frozen=True)
class Match:
    """What a module becomes; or nothing, and the reason if one might have expected otherwise."""

    target: ModuleType | None
    reason: str = ""


def match(kind: ModuleType, table: Mapping) -> Match:
    """Look a class up by itself, then by its bases; a subclass that computes something else does not match."""
    if kind in table:
        return Match(table[kind])
    for base in kind.__mro__[1:]:
        if base in table:
            changed = [name for name in _COMPUTING if _lookup(kind, name) is not _lookup(base, name)]
            if changed:
                return Match(None, f"a subclass of {base.__name__} with a {changed[0]} of its own")
            return Match(table[base])
    return Match(None)


_COMPUTING = ("forward", "__call__", "_conv_forward", "_output_padding")


def _lookup(kind: ModuleType, name: str) -> object:
    return getattr(kind, name, None)
