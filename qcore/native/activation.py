"""PReLU through a table of all integers for each weight, and softmax."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, get_num_threads

from qcore import operators as ops
from qcore import tables
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.native.memory import as_bytes, channels_last, dense, is_channels_last
from qcore.tensor.qparams import QParams, per_tensor


class PReLU:
    """kernel(x, qx, out) -> y, with the memory format of x"""

    def __init__(self, operator: ops.PReLU, native: Any) -> None:
        weight, qweight = operator.weight, operator.qweight
        if weight.dtype != qweight.dtype.storage:
            raise ArgumentTypeError(f"prelu: weight is {weight.dtype}; it must be {qweight.dtype.storage}")
        if weight.ndim != 1 or not len(weight) or weight.device.type != "cpu" or qweight.axis is not None:
            raise ArgumentError(
                f"prelu: weight {tuple(weight.shape)} on {weight.device} must be one-dimensional, not empty, on the "
                "CPU, with one scale and zero point"
            )
        per_tensor(qweight.scale, qweight.zero_point, qweight.dtype)
        slope = weight.detach().long() - qweight.zero_point

        @lru_cache(maxsize=64)
        def results(qx: QParams, out: QParams) -> Tensor:
            for given in (qx, out):
                per_tensor(given.scale, given.zero_point, given.dtype)
            sx, sw, inverse = (torch.tensor(scale, dtype=torch.float32) for scale in (qx.scale, qweight.scale, 1.0))
            inverse = inverse / torch.tensor(out.scale, dtype=torch.float32)
            distance = torch.arange(qx.dtype.qmin, qx.dtype.qmax + 1) - qx.zero_point
            below = (distance * slope[:, None]).float() * ((sx * sw) * inverse)
            value = torch.where(distance > 0, distance.float() * (sx * inverse), below)
            shifted = torch.round(value).double() + out.zero_point
            values = as_bytes(shifted.clamp(out.dtype.qmin, out.dtype.qmax).to(out.dtype.storage))
            return values.roll(qx.dtype.qmin, 1) if qx.dtype.is_signed else values

        self._results, self._native, self._channels = results, native, len(weight)

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        channels = self._channels
        if channels != 1 and (x.ndim < 2 or x.shape[1] != channels):
            raise ArgumentError(f"prelu: x {tuple(x.shape)} must have {channels} channels on axis 1, one per weight")
        x = dense(x)
        y = torch.empty_like(x, dtype=out.dtype.storage)
        if channels == 1:
            self._native.lookup(as_bytes(x), as_bytes(y), self._results(qx, out)[0], get_num_threads())
            return y
        if is_channels_last(x):
            shape, rows, into = (-1, channels, 1), x.movedim(1, -1), y.movedim(1, -1)
        else:
            shape, rows, into = (x.shape[0], channels, math.prod(x.shape[2:])), x, y
        if x.numel():
            rows, into = as_bytes(rows).view(shape), as_bytes(into).view(shape)
            self._native.lookup_channels(rows, into, self._results(qx, out), get_num_threads())
        return y


class Softmax:
    """kernel(x, qx, out) -> y, with the memory format of x"""

    def __init__(self, operator: ops.Softmax, native: Any) -> None:
        self._dim, self._run = operator.dim, native.softmax

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if not -max(x.ndim, 1) <= self._dim < max(x.ndim, 1):
            raise ArgumentError(f"softmax: dim={self._dim} does not exist in x {tuple(x.shape)}")
        per_tensor(qx.scale, qx.zero_point, qx.dtype)
        last = x.movedim(self._dim, -1).contiguous() if x.ndim else x
        y = torch.empty_like(last, dtype=out.dtype.storage)
        rows = last.shape[-1] if x.ndim else 1
        if x.numel():
            terms = tables.exponentials(qx)
            self._run(last.view(-1, rows), terms, y.view(-1, rows), out.scale, out.zero_point, get_num_threads())
        y = y.movedim(-1, self._dim) if x.ndim else y
        return channels_last(y) if is_channels_last(x) else y.contiguous()
