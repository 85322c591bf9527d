"""torch.fake_quantize_* and the fused observe-and-fake-quantize function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qcore.api._fake_quantize_function import fake_quantize
from qcore.compat.functions.overridable import overridable
from qcore.errors import ArgumentError
from qcore.tensor.qparams import choose_qparams_native

_torch = overridable("torch")


@_torch
def fake_quantize_per_tensor_affine(
    input: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int
) -> Tensor:
    """Round input to what the integers quant_min..quant_max stand for; scale and zero point are numbers or tensors."""
    scale, zero_point = torch.as_tensor(scale, dtype=torch.float32), torch.as_tensor(zero_point)
    if scale.numel() != 1 or zero_point.numel() != 1:
        raise ArgumentError("fake_quantize_per_tensor_affine: scale and zero_point must hold one element each")
    return fake_quantize(input, scale.reshape(1), _whole(zero_point.reshape(1)), None, quant_min, quant_max)


@_torch
def fake_quantize_per_channel_affine(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Tensor:
    """The same with a scale and zero point for each slice along an axis, both (channels,)."""
    if not 0 <= axis < input.ndim or scale.shape != (input.shape[axis],) or zero_point.shape != scale.shape:
        raise ArgumentError(
            f"fake_quantize_per_channel_affine: axis {axis}, scale {tuple(scale.shape)} and zero_point "
            f"{tuple(zero_point.shape)} do not fit an input of shape {tuple(input.shape)}"
        )
    return fake_quantize(input, scale.float(), _whole(zero_point), axis, quant_min, quant_max)


@_torch
def fused_moving_avg_obs_fake_quant(
    input: Tensor,
    observer_on: Tensor,
    fake_quant_on: Tensor,
    running_min: Tensor,
    running_max: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    averaging_const: float,
    quant_min: int,
    quant_max: int,
    ch_axis: int,
    per_row_fake_quant: bool = False,
    symmetric_quant: bool = False,
) -> Tensor:
    """Update a moving range and the parameters from it, in place, where the one switch is on; round where the other
    is."""
    if bool(observer_on):
        _observe(input.detach(), running_min, running_max, averaging_const, ch_axis if per_row_fake_quant else None)
        found = choose_qparams_native(running_min, running_max, quant_min, quant_max, symmetric_quant)
        for kept, new in zip((scale, zero_point), found, strict=True):
            kept.resize_(new.reshape(-1).shape).copy_(new.reshape(-1))
    if not bool(fake_quant_on):
        return input
    return fake_quantize(input, scale, zero_point.int(), ch_axis if per_row_fake_quant else None, quant_min, quant_max)


def _observe(x: Tensor, low: Tensor, high: Tensor, constant: float, axis: int | None) -> None:
    if axis is None:
        new_low, new_high = x.amin().reshape(low.shape or ()), x.amax().reshape(high.shape or ())
    else:
        rows = x.transpose(0, axis).flatten(1)
        new_low, new_high = rows.amin(1), rows.amax(1)
        if low.numel() != new_low.numel():
            low.resize_(new_low.shape).fill_(torch.inf)
            high.resize_(new_high.shape).fill_(-torch.inf)
    for kept, new in ((low, new_low), (high, new_high)):
        kept.copy_(torch.where(kept.isinf(), new, kept + constant * (new - kept)))


def _whole(zero_point: Tensor) -> Tensor:
    return zero_point if zero_point.is_floating_point() else zero_point.int()
