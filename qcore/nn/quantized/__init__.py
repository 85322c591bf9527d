"""Statically quantized modules: integers in, integers out."""

from __future__ import annotations

from qcore.nn.quantized.conv import Conv1d, Conv2d, Conv3d
from qcore.nn.quantized.functional_modules import FloatFunctional, FXFloatFunctional, QFunctional
from qcore.nn.quantized.linear import Linear
from qcore.nn.quantized.stubs import DeQuantize, Quantize

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "DeQuantize",
    "FXFloatFunctional",
    "FloatFunctional",
    "Linear",
    "QFunctional",
    "Quantize",
]
