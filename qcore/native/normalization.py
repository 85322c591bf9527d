"""Layer, group and instance norm, and means: over rows of memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.native.memory import channels_last, is_channels_last
from qcore.tensor.qparams import QParams


def filled(values: Tensor | None, count: int, otherwise: float) -> Tensor:
    """The constants as float32, one for each of `count`."""
    if values is None:
        return torch.full((count,), otherwise, dtype=torch.float32)
    return values.detach().float().reshape(-1).contiguous()


class _Norm:
    """kernel(x, qx, out) -> y, with the memory format of x"""

    _each = False

    def __init__(self, operator: Any, native: Any) -> None:
        self._operator, self._run = operator, native.normalize

    def _shape(self, x: Tensor) -> tuple[int, int, int, int]:
        """Rows, groups of each, channels of each, and elements of each channel."""
        raise NotImplementedError

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        operator, shape = self._operator, self._shape(x)
        rows = x.contiguous().view(shape)
        y = torch.empty_like(rows, dtype=out.dtype.storage)
        count = shape[2] * shape[3] if self._each else shape[1] * shape[2]
        constants = filled(operator.weight, count, 1.0), filled(operator.bias, count, 0.0), operator.eps, self._each
        self._run(rows, qx.scale, qx.zero_point, *constants, y, out.scale, out.zero_point, get_num_threads())
        y = y.view(x.shape)
        return channels_last(y) if is_channels_last(x) else y


class LayerNorm(_Norm):
    _each = True

    def _shape(self, x: Tensor) -> tuple[int, int, int, int]:
        last = tuple(self._operator.normalized_shape)
        if not last or tuple(x.shape[-len(last) :]) != last:
            raise ArgumentError(f"layer_norm: x {tuple(x.shape)} does not end in {last}")
        return math.prod(x.shape[: x.ndim - len(last)]), 1, math.prod(last), 1


class GroupNorm(_Norm):
    def _shape(self, x: Tensor) -> tuple[int, int, int, int]:
        if x.ndim < 2:
            raise ArgumentError(f"{self._operator.name}: x {tuple(x.shape)} must have channels on axis 1")
        groups, channels = self._groups(x), x.shape[1]
        if groups < 1 or channels % groups:
            raise ArgumentError(f"{self._operator.name}: {channels} channels do not divide into {groups} groups")
        return x.shape[0], groups, channels // groups, math.prod(x.shape[2:])

    def _groups(self, x: Tensor) -> int:
        groups: int = self._operator.num_groups
        return groups


class InstanceNorm(GroupNorm):
    def _groups(self, x: Tensor) -> int:
        return max(x.shape[1], 1)


class BatchNorm:
    """kernel(x, qx, out) -> y, with the memory format of x"""

    def __init__(self, operator: ops.BatchNorm, native: Any) -> None:
        var = operator.running_var.detach().float() + torch.tensor(operator.eps, dtype=torch.float32)
        weight, bias = (None if v is None else v.detach().float() for v in (operator.weight, operator.bias))
        inverse = 1 / var.double().sqrt().float()  # the float32 square root, exact
        factor = inverse if weight is None else inverse * weight
        shift = torch.zeros_like(factor) if bias is None else bias
        self._shift = (shift - operator.running_mean.detach().float() * factor).double()
        self._factor, self._relu, self._run = factor.double(), operator.relu, native.batch_norm

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        channels = len(self._factor)
        if x.ndim < 2 or x.shape[1] != channels:
            raise ArgumentError(f"batch_norm: x {tuple(x.shape)} must have {channels} channels on axis 1")
        if not (0 < qx.scale < math.inf and 0 < out.scale < math.inf):
            raise ArgumentError(f"batch_norm: scales {qx.scale} and {out.scale} must be positive and finite")
        last = is_channels_last(x)
        dense = x.movedim(1, -1) if last else x.contiguous()
        y = torch.empty_like(dense, dtype=out.dtype.storage)
        shape = (-1, channels, 1) if last else (x.shape[0], channels, math.prod(x.shape[2:]))
        factor, shift = (self._factor * (qx.scale / out.scale)).float(), (self._shift / out.scale).float()
        affine = qx.zero_point, factor, shift, self._relu
        if x.numel():
            self._run(dense.view(shape), *affine, y.view(shape), out.zero_point, get_num_threads())
        return y.movedim(-1, 1) if last else y


class Mean:
    """kernel(x, qx) -> y"""

    def __init__(self, operator: ops.Mean, native: Any) -> None:
        self._dims, self._keepdim, self._native = operator.dims, operator.keepdim, native

    def __call__(self, x: Tensor, qx: QParams) -> Tensor:
        if any(not -x.ndim <= dim < x.ndim for dim in self._dims):
            raise ArgumentError(f"mean: dims {self._dims} do not all exist in x {tuple(x.shape)}")
        dims = sorted({dim % x.ndim for dim in self._dims}) or list(range(x.ndim))
        kept = [dim for dim in range(x.ndim) if dim not in dims]
        shape = [1 if dim in dims else size for dim, size in enumerate(x.shape)]
        result = torch.empty([x.shape[dim] for dim in kept], dtype=qx.dtype.storage)
        count = math.prod(x.shape[dim] for dim in dims)
        inner = [dim for dim in kept if dim > dims[0]] or kept[-1:] * int(is_channels_last(x))
        if not count:
            result.fill_(qx.dtype.qmax)  # 0 / 0
        elif inner and count < 2**23:
            outer = kept[: len(kept) - len(inner)]
            blocks = x.permute(*outer, *dims, *inner).contiguous()
            size = math.prod(x.shape[dim] for dim in inner)
            y = result.view(-1, 1, size).transpose(1, 2)
            blocks = blocks.view(-1, count, size).transpose(1, 2)
            self._native.adaptive_avg_pool(blocks, y, qx.zero_point, get_num_threads())
        else:
            rows = x.permute(*kept, *dims).contiguous().view(-1, count)
            self._native.mean_of_rows(rows, qx.zero_point, result, get_num_threads())
        return result.view(shape) if self._keepdim else result
