"""Transposed convolution: weights are packed when the kernel is built; a call is one native call."""

from __future__ import annotations

from typing import Any

from torch import Tensor, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.native.memory import channels_last, empty_channels_last
from qcore.native.weighted import constants
from qcore.tensor.qparams import QParams


class ConvTranspose:
    """kernel(x, qx, out) -> y, channels last in memory"""

    def __init__(self, operator: ops.ConvTranspose, native: Any) -> None:
        rank, weight, groups = operator.spatial, operator.weight, operator.groups
        kernel = tuple(weight.shape[2:])
        stride, dilation = (tuple(given) or (1,) * rank for given in (operator.stride, operator.dilation))
        padding, extra = (tuple(given) or (0,) * rank for given in (operator.padding, operator.output_padding))
        if not len(stride) == len(padding) == len(dilation) == len(extra) == rank:
            raise ArgumentError(
                f"conv_transpose: stride {stride}, padding {padding}, output_padding {extra}, dilation {dilation} must "
                f"have {rank} values"
            )
        if any(more >= max(step, gap) for more, step, gap in zip(extra, stride, dilation, strict=True)):
            raise ArgumentError(f"conv_transpose: output_padding {extra} must be below stride or dilation")
        per_group = weight.shape[1]
        scales, zeros, *others = constants(operator, axis=1)
        ones, none = (1,) * (3 - rank), (0,) * (3 - rank)
        geometry = ones + stride, none + padding, none + extra, ones + dilation, groups
        packed = weight.contiguous().view(*weight.shape[:2], *ones, *kernel)
        self._run = native.conv_transpose(
            packed, scales.repeat(groups), zeros.repeat(groups), *others, operator.relu, *geometry
        ).run
        self._rank, self._channels = rank + 2, per_group * groups
        self._spans = tuple(zip(kernel, stride, padding, extra, dilation, strict=True))

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if x.ndim != self._rank:
            raise ArgumentError(f"conv_transpose: x must have {self._rank} dimensions, not {x.ndim}")
        sizes = [
            (size - 1) * step - 2 * pad + gap * (width - 1) + more + 1
            for size, (width, step, pad, more, gap) in zip(x.shape[2:], self._spans, strict=True)
        ]
        if min(sizes) < 1 or min(x.shape[2:]) < 1:
            raise ArgumentError(f"conv_transpose: x {tuple(x.shape)} would give sizes {sizes}; all must be at least 1")
        y = empty_channels_last((x.shape[0], self._channels, *sizes), out.dtype.storage)
        self._run(channels_last(x), qx.scale, qx.zero_point, out.scale, out.zero_point, y, get_num_threads())
        return y
