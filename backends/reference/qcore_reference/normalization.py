"""Batch, layer, group and instance normalization."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.errors import ArgumentError
from qcore.operators import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import along, centered, f32, fma, like, requantize, saturate, sqrt

OPS = (
    OpSpec(BatchNorm, activations=(quint8, qint8), fused=("relu",)),
    OpSpec(LayerNorm, activations=(quint8, qint8)),
    OpSpec(GroupNorm, activations=(quint8, qint8)),
    OpSpec(InstanceNorm, activations=(quint8, qint8)),
)


def build_batch_norm(operator: BatchNorm) -> Kernel:
    """clamp(rint(fma(f32(k * (sx / sy)), x - zx, f32(b / sy))) + zy), the scales in float64, with float32
    k = weight * (1 / sqrt(var + eps)) and b = bias - mean * k.
    """
    inverse = 1 / sqrt(operator.running_var.float() + f32(operator.eps))
    factor = inverse if operator.weight is None else inverse * operator.weight.detach().float()
    shift = torch.zeros_like(factor) if operator.bias is None else operator.bias.detach().float()
    shift = shift - operator.running_mean.float() * factor

    def batch_norm(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        _check_channels(operator, x, len(factor))
        k = along((factor.double() * (qx.scale / out.scale)).float(), 1, x.ndim)
        b = along((shift.double() / out.scale).float(), 1, x.ndim)
        value = fma(k, centered(x, qx).float(), b)
        low = out.zero_point if operator.relu else None
        return like(saturate(value, out.dtype, out.zero_point, low), x)

    return batch_norm


def statistics(x: Tensor, qx: QParams, eps: float) -> tuple[Tensor, Tensor]:
    """Of each row of x (rows, n), from exact sums: float32 x - mean in integers, and r = s / sqrt(var + eps), the sum,
    the root and the quotient in float64."""
    count, scale = f32(x.shape[1]), f32(qx.scale)
    integers = x.long()
    mean = integers.sum(1, keepdim=True).float() / count
    square = (integers * integers).sum(1, keepdim=True).float() / count
    var = fma(-mean, mean, square).clamp(min=0)
    rate = scale.double() / torch.sqrt((var * scale * scale).double() + eps)
    return centered(x, qx).float() - (mean - f32(qx.zero_point)), rate.float()


def constants(operator: LayerNorm | GroupNorm | InstanceNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias; 1 and 0 where there is none."""
    weight = torch.ones(1, dtype=torch.float32) if operator.weight is None else operator.weight.detach().float()
    return weight, torch.zeros(1, dtype=torch.float32) if operator.bias is None else operator.bias.detach().float()


def build_layer_norm(operator: LayerNorm) -> Kernel:
    """clamp(rint(fma(distance * rate, weight, bias) * (1 / sy)) + zy), over the last dimensions."""
    count = len(operator.normalized_shape)
    weight, bias = constants(operator)

    def layer_norm(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if tuple(x.shape[-count:]) != operator.normalized_shape:
            raise ArgumentError(f"layer_norm: x {tuple(x.shape)} does not end in {operator.normalized_shape}")
        rows = x.reshape(-1, x[(0,) * (x.ndim - count)].numel()) if x.numel() else x.reshape(0, 1)
        distance, rate = statistics(rows, qx, operator.eps)
        value = fma((distance * rate).reshape(x.shape), weight, bias)
        return like(requantize(value, 1 / f32(out.scale), out), x)

    return layer_norm


def build_group_norm(operator: GroupNorm) -> Kernel:
    """clamp(rint(fma(distance, weight * rate, bias) * (1 / sy)) + zy), over each group of channels."""
    return _over_groups(operator, lambda channels: operator.num_groups)


def build_instance_norm(operator: InstanceNorm) -> Kernel:
    """The same over each channel."""
    return _over_groups(operator, lambda channels: channels)


def _over_groups(operator: GroupNorm | InstanceNorm, groups_of: Kernel) -> Kernel:
    weight, bias = constants(operator)

    def norm(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        channels = x.shape[1]
        groups = groups_of(channels)
        if channels % groups:
            raise ArgumentError(f"{operator.name}: {channels} channels do not divide into {groups} groups")
        if len(weight) != 1:
            _check_channels(operator, x, len(weight))
        rows = x.reshape(x.shape[0] * groups, math.prod(x.shape[1:]) // groups)
        distance, rate = statistics(rows, qx, operator.eps)
        factor = weight * rate.reshape(x.shape[0], groups).repeat_interleave(channels // groups, 1)
        factor = factor.reshape(*factor.shape, *(1,) * (x.ndim - 2))
        value = fma(distance.reshape(x.shape), factor, along(bias, 1, x.ndim))
        return like(requantize(value, 1 / f32(out.scale), out), x)

    return norm


def _check_channels(operator: BatchNorm | GroupNorm | InstanceNorm, x: Tensor, channels: int) -> None:
    if x.ndim < 2 or x.shape[1] != channels:
        raise ArgumentError(f"{operator.name}: x {tuple(x.shape)} must have {channels} channels on axis 1")


KERNELS = {
    BatchNorm: build_batch_norm,
    LayerNorm: build_layer_norm,
    GroupNorm: build_group_norm,
    InstanceNorm: build_instance_norm,
}
