"""Types that torch names: kinds of quantization, and what may stand for an observer."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from qcore.api.fake_quantize import FakeQuantizeBase
from qcore.api.observer import ObserverBase
from qcore.errors import ArgumentError

__all__ = ["ObserverOrFakeQuantize", "QuantType"]

ObserverOrFakeQuantize: TypeAlias = "ObserverBase | FakeQuantizeBase"


class QuantType(IntEnum):
    """How a layer is quantized."""

    DYNAMIC = 0
    STATIC = 1
    QAT = 2
    WEIGHT_ONLY = 3


_NAMES = {kind: kind.name.lower() for kind in QuantType}


def _get_quant_type_to_str(quant_type: QuantType) -> str:
    """The name of a kind."""
    return _NAMES[quant_type]


def _quant_type_from_str(name: str) -> QuantType:
    """The kind of a name; ArgumentError for another one."""
    for kind, text in _NAMES.items():
        if text == name:
            return kind
    raise ArgumentError(f"quant type {name!r}: use one of {', '.join(_NAMES.values())}")
