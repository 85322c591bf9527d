"""Resampling by the nearest point or bilinearly."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.errors import ArgumentError
from qcore.operators import Interpolate
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import f32, like

OPS = (OpSpec(Interpolate, activations=(quint8, qint8)),)


def build_interpolate(operator: Interpolate) -> Kernel:
    """x itself where the size stays; else as `nearest` or `bilinear` say."""
    if (operator.size is None) == (operator.scale_factor is None):
        raise ArgumentError(f"interpolate: give one of size={operator.size} and scale_factor={operator.scale_factor}")
    if operator.mode not in ("nearest", "bilinear"):
        raise ArgumentError(f"interpolate: mode {operator.mode!r} is not supported; use 'nearest' or 'bilinear'")

    def interpolate(x: Tensor, qx: QParams) -> Tensor:
        sizes = _sizes(operator, x)
        if sizes == tuple(x.shape[2:]):
            return x.clone()
        factors = operator.scale_factor or (None,) * len(sizes)
        if operator.mode == "nearest":
            return like(nearest(x, sizes, factors), x)
        return like(bilinear(x, qx, sizes, factors, operator.align_corners), x)

    return interpolate


def _sizes(operator: Interpolate, x: Tensor) -> tuple[int, ...]:
    given = operator.size or operator.scale_factor or ()
    if len(given) != x.ndim - 2 or (operator.mode == "bilinear" and x.ndim != 4):
        raise ArgumentError(
            f"interpolate: x {tuple(x.shape)} does not fit mode {operator.mode!r} with {len(given)} sizes or factors"
        )
    if operator.size is not None:
        sizes = operator.size
    else:
        sizes = tuple(int(n * factor) for n, factor in zip(x.shape[2:], given, strict=True))
    if min(sizes) < 1 or min(x.shape[2:]) < 1:
        raise ArgumentError(f"interpolate: from {tuple(x.shape[2:])} to {sizes}: all sizes must be at least 1")
    return sizes


def _step(size: int, result: int, factor: float | None) -> Tensor:
    """Points of x to one of the result: f32(1 / factor), or f32(size) / f32(result)."""
    return f32(1 / factor) if factor is not None else f32(size) / f32(result)


def nearest(x: Tensor, sizes: tuple[int, ...], factors: tuple[float | None, ...]) -> Tensor:
    """Point i is min(floor(f32(i) * step), size - 1) of x."""
    for axis, (result, factor) in enumerate(zip(sizes, factors, strict=True), start=2):
        size = x.shape[axis]
        position = torch.arange(result, dtype=torch.float32) * _step(size, result, factor)
        x = x.index_select(axis, position.floor().long().clamp(max=size - 1))
    return x


def bilinear(
    x: Tensor, qx: QParams, sizes: tuple[int, ...], factors: tuple[float | None, ...], corners: bool
) -> Tensor:
    """clamp(rint((v - z) + z)), v = h0 * (w0 * x00 + w1 * x01) + h1 * (w0 * x10 + w1 * x11)."""
    top, bottom, h0, h1 = _neighbours(x.shape[2], sizes[0], factors[0], corners)
    left, right, w0, w1 = _neighbours(x.shape[3], sizes[1], factors[1], corners)
    values = x.float()

    def row(index: Tensor) -> Tensor:
        line = values.index_select(2, index)
        return w0 * line.index_select(3, left) + w1 * line.index_select(3, right)

    value = h0[:, None] * row(top) + h1[:, None] * row(bottom)
    zero_point = f32(qx.zero_point)
    return torch.round((value - zero_point) + zero_point).clamp(qx.dtype.qmin, qx.dtype.qmax).to(x.dtype)


def _neighbours(size: int, result: int, factor: float | None, corners: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Index before and after each point, and their weights. Corners aligned: at i * (f32(size - 1) / f32(result - 1));
    else at max((i + 0.5) * step - 0.5, 0).
    """
    index = torch.arange(result, dtype=torch.float32)
    if corners:
        position = index * (f32(size - 1) / f32(result - 1) if result > 1 else f32(0.0))
    else:
        position = ((index + 0.5) * _step(size, result, factor) - 0.5).clamp(min=0)
    before = position.long().clamp(max=size - 1)
    after = (before + 1).clamp(max=size - 1)
    weight = position - before.float()
    return before, after, 1 - weight, weight


KERNELS = {Interpolate: build_interpolate}
