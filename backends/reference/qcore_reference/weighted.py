"""What linear and convolution share: constants of their weights, the step from sum to output, declarations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qcore.capability import WeightSpec
from qcore.errors import ArgumentError
from qcore.operators import Weighted
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import centered, f32, fma, requantize

WEIGHTS = (WeightSpec(qint8, per_channel=True), WeightSpec(qint8, per_channel=False))
ACCUMULATED = 65793
"""The most products of uint8 and int8 whose sum is sure to fit in int32: floor(2**31 / (255 * 128))."""


@dataclass(frozen=True)
class Constants:
    """weight - zero points as float64; float32 scales: 0-dim, or one per output channel; float32 bias or None."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, operator: Weighted) -> Constants:
        """Raises ArgumentError for a weight without elements."""
        if not operator.weight.numel():
            raise ArgumentError(f"{operator.name}: weight of shape {tuple(operator.weight.shape)} has no elements")
        weight = centered(operator.weight, operator.qweight)
        bias = None if operator.bias is None else operator.bias.detach().float()
        return cls(weight, f32(operator.qweight.scale), bias)


def finish(acc: Tensor, constants: Constants, qx: QParams, out: QParams, relu: bool) -> Tensor:
    """clamp(rint(sum * (sxw / sy)) + zy) with sxw = f32(sx) * f32(sw); channels of `acc` last.

    sum is f32(acc) + bias / sxw with weights per channel, and fma(bias, 1 / sxw, f32(acc)) per tensor.
    """
    sxw = f32(qx.scale) * constants.scale
    total = acc.float()
    if constants.bias is not None:
        per_channel = constants.scale.ndim == 1
        total = total + constants.bias / sxw if per_channel else fma(constants.bias, 1 / sxw, total)
    return requantize(total, sxw / f32(out.scale), out, relu)
