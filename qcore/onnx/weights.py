"""Weights, scales and zero points as ONNX takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qcore.tensor.qparams import QParams

_MOST_BIAS = 2.0**30
"""A greater bias stays float: its sum with the products could leave int32."""


class Ends(NamedTuple):
    """The parameters of an operator's first input and of its result, where they are known."""

    x: QParams | None = None
    out: QParams | None = None


def scale_and_zero_point(q: QParams, channels: int | None = None) -> tuple[Tensor, Tensor]:
    """Both as ONNX takes them: float32, and integers of the values' own dtype; one for each channel where asked."""
    scale = torch.as_tensor(q.scale, dtype=torch.float32)
    zero_point = torch.as_tensor(q.zero_point).to(q.dtype.storage)
    if channels is not None:
        scale, zero_point = scale.expand(channels).contiguous(), zero_point.expand(channels).contiguous()
    return scale, zero_point


def as_unsigned(x: Tensor) -> Tensor:
    """int8 -> uint8, each value 128 greater."""
    return (x.to(torch.int16) + 128).to(torch.uint8)


@dataclass(frozen=True)
class IntegerWeight:
    """The weight of an operator, its scale and zero point, and the bias: int32 with a scale, or float32 without."""

    weight: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor | None
    bias_scale: Tensor | None

    @classmethod
    def of(cls, operator: Any, ends: Ends, unsigned: bool, axis: int, outputs: int) -> IntegerWeight:
        """`axis`: that of per-channel scales; `unsigned`: whether int8 becomes uint8, 128 greater.

        The bias is an integer where that is possible: in steps that are small beside those of the result.
        """
        per_channel = operator.qweight.axis is not None
        scale, zero_point = scale_and_zero_point(operator.qweight, operator.weight.shape[axis] if per_channel else None)
        weight, bias = operator.weight.contiguous(), operator.bias
        if unsigned:
            weight, zero_point = as_unsigned(weight), as_unsigned(zero_point)
        if bias is not None and ends.x is not None and ends.out is not None and scale.numel() in (1, outputs):
            both = (scale * torch.as_tensor(ends.x.scale, dtype=torch.float32)).expand(outputs).contiguous()
            integers = (bias / both).round()
            if bool((integers.abs() < _MOST_BIAS).all()) and bool((both <= ends.out.scale / 4).all()):
                return cls(weight, scale, zero_point, integers.to(torch.int32), both)
        return cls(weight, scale, zero_point, None if bias is None else bias.detach().clone(), None)
