"""Between float and integer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcore.operators.base import Operator


@dataclass(frozen=True)
class Quantize(Operator):
    """Float to integer. Call: kernel(x float32, out) -> integer tensor; `out` per tensor or per channel.

    `float_zero_points`: whether the zero points of `out` are float32 (the scheme per_channel_affine_float_qparams).
    """

    name: ClassVar[str] = "quantize"
    float_zero_points: bool = False


@dataclass(frozen=True)
class Dequantize(Operator):
    """Integer to float. Call: kernel(x, qx) -> float32 tensor; `qx` per tensor or per channel.

    `float_zero_points`: whether the zero points of `qx` are float32 (the scheme per_channel_affine_float_qparams).
    """

    name: ClassVar[str] = "dequantize"
    float_zero_points: bool = False
