"""Linear and convolution: weights are packed when the kernel is built; a call is one native call."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, empty, float32, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.native.memory import channels_last, empty_channels_last
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import QParams


def constants(operator: Any, axis: int = 0) -> tuple[Tensor, Tensor, bool, Tensor | None]:
    """Scales (float32) and zero points (int32), one a channel of that axis; whether per channel; the bias (float32)."""
    if operator.qweight.dtype != qint8:
        raise ArgumentError(f"{operator.name}: weight is {operator.qweight.dtype!r}; it must be {qint8!r}")
    channels = operator.weight.shape[axis]
    scales = torch.as_tensor(operator.qweight.scale, dtype=torch.float32).expand(channels).contiguous()
    zero_points = torch.as_tensor(operator.qweight.zero_point)
    if zero_points.is_floating_point():
        raise ArgumentError(f"{operator.name}: weight zero points must be integers, not {zero_points.dtype}")
    zero_points = zero_points.to(torch.int32).expand(channels).contiguous()
    bias = None if operator.bias is None else operator.bias.detach().float().contiguous()
    return scales, zero_points, operator.qweight.axis is not None, bias


class Linear:
    """kernel(x, qx, out) -> y"""

    def __init__(self, operator: ops.Linear | ops.LinearDynamic, native: Any) -> None:
        self.packed = native.linear(operator.weight.contiguous(), *constants(operator), operator.relu)
        self._run = self.packed.run
        self._features = operator.weight.shape[0]

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        x = x.contiguous()
        y = empty(*x.shape[:-1], self._features, dtype=out.dtype.storage)
        self._run(x, qx.scale, qx.zero_point, out.scale, out.zero_point, y, get_num_threads())
        return y


class LinearDynamic:
    """kernel(x) -> y"""

    def __init__(self, operator: ops.LinearDynamic, native: Any) -> None:
        self._run = native.linear(operator.weight.contiguous(), *constants(operator), operator.relu).run_dynamic
        self._features = operator.weight.shape[0]
        self._options = (operator.reduce_range, operator.per_row)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = empty(*x.shape[:-1], self._features, dtype=float32)
        self._run(x, y, *self._options, get_num_threads())
        return y


class Conv:
    """kernel(x, qx, out) -> y, channels last in memory"""

    def __init__(self, operator: ops.Conv, native: Any) -> None:
        rank = operator.spatial
        weight = operator.weight
        kernel = tuple(weight.shape[2:])
        stride = tuple(operator.stride) or (1,) * rank
        padding = tuple(operator.padding) or (0,) * rank
        dilation = tuple(operator.dilation) or (1,) * rank
        if not len(stride) == len(padding) == len(dilation) == rank:
            raise ArgumentError(
                f"conv: stride {stride}, padding {padding}, dilation {dilation} must have {rank} values"
            )
        lead = 3 - rank
        ones, zeros = (1,) * lead, (0,) * lead
        weight = weight.contiguous().view(*weight.shape[:2], *ones, *kernel)
        geometry = ones + stride, zeros + padding, ones + dilation, operator.groups
        self.packed = native.conv(weight, *constants(operator), operator.relu, *geometry)
        self._run = self.packed.run

        @lru_cache(maxsize=64)
        def output_shape(shape: torch.Size) -> tuple[int, ...]:
            sizes = [
                (size + 2 * pad - gap * (width - 1) - 1) // step + 1
                for size, pad, gap, width, step in zip(shape[2:], padding, dilation, kernel, stride, strict=True)
            ]
            if not all(shape[2:]):
                raise ArgumentError(f"conv: x {tuple(shape)} has no elements in a dimension that the kernel moves over")
            if min(sizes) < 1:
                raise ArgumentError(f"conv: the kernel {kernel} is larger than the padded input {tuple(shape)}")
            return (shape[0], weight.shape[0], *sizes)

        self._output_shape = output_shape
        self._rank = rank + 2

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if x.ndim != self._rank:
            raise ArgumentError(f"conv: x must have {self._rank} dimensions, not {x.ndim}")
        x = channels_last(x)
        y = empty_channels_last(self._output_shape(x.shape), out.dtype.storage)
        self._run(x, qx.scale, qx.zero_point, out.scale, out.zero_point, y, get_num_threads())
        return y
