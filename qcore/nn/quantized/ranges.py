"""Ranges that quantized layers share where their results are joined: what is joined takes the first one's.

A first range that leaves out no more than a step keeps its scale, which is then that of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.qparams import QParams, per_tensor

_LEFT_OUT = 1 / 256


def bounds(qparams: QParams) -> tuple[float, float]:
    """The real numbers that the least and the greatest integer stand for."""
    scale, zero_point = float(qparams.scale), int(qparams.zero_point)
    return (qparams.dtype.qmin - zero_point) * scale, (qparams.dtype.qmax - zero_point) * scale


def widest(layers: Sequence[Any]) -> int:
    """Which of some layers gives results of the widest range; the first where one is not quantized."""
    if not all(isinstance(layer, StaticOutput) for layer in layers):
        return 0
    widths = [float(layer._out.scale) for layer in layers]
    return widths.index(max(widths))


def widen(layer: Any, *others: tuple[float, float]) -> None:
    """Let the results of a quantized layer reach over other ranges too; they keep their scale where they do."""
    if not isinstance(layer, StaticOutput) or not others:
        return
    low, high = bounds(layer._out)
    left_out = _LEFT_OUT * (high - low)
    least, most = min(other[0] for other in others), max(other[1] for other in others)
    if least < low - left_out or most > high + left_out:
        low, high, dtype = min(low, least), max(high, most), layer._out.dtype
        scale = (high - low) / (dtype.qmax - dtype.qmin)
        scale = torch.tensor(scale, dtype=torch.float32).item()  # as files hold it
        layer._out = per_tensor(scale, round(dtype.qmin - low / scale), dtype)


def share(*layers: Any) -> None:
    """Give layers one range, that of all of them, where the first one's does not do for the others."""
    if not all(isinstance(layer, StaticOutput) for layer in layers):
        return
    before = layers[0]._out
    widen(layers[0], *(bounds(layer._out) for layer in layers[1:]))
    if layers[0]._out is not before:
        for layer in layers[1:]:
            layer._out = layers[0]._out
