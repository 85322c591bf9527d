"""Calibration and training: ranges, histograms and fake quantization on float32, in the memory order of the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, empty_like, get_num_threads

from qcore import training_operators as ops
from qcore.errors import ArgumentError, ArgumentTypeError


def in_order(x: Tensor) -> tuple[Tensor, Tensor]:
    """x, dense in memory, and an uninitialised tensor with its strides."""
    y = empty_like(x)
    return (x if x.stride() == y.stride() else torch.empty_like(y).copy_(x)), y


def dense(x: Tensor) -> Tensor:
    """x as one run of memory, in any order of its dimensions."""
    return x if x.is_contiguous() else in_order(x)[0]


def bits(x: Tensor) -> Tensor:
    """Room for one bit for each element, in blocks of 16."""
    return torch.empty((x.numel() + 15) // 16 * 2, dtype=torch.uint8)


def number(axis: int | None) -> int:
    """An axis as the native functions take it. Raises ArgumentError for a negative one, which would be none to them."""
    if axis is not None and axis < 0:
        raise ArgumentError(f"axis={axis} must be None, or 0 or higher")
    return -1 if axis is None else axis


class Range:
    """kernel(x, axis) -> (low, high)"""

    def __init__(self, operator: ops.Range, native: Any) -> None:
        self._run = native.ranges

    def __call__(self, x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
        low, high = torch.empty((2, *(() if axis is None else x.shape[axis : axis + 1])), dtype=torch.float32)
        self._run(dense(x), number(axis), low, high, get_num_threads())
        return low, high


class Histogram:
    """kernel(x, exponent, first) -> (counts, low, high)"""

    def __init__(self, operator: ops.Histogram, native: Any) -> None:
        self._bins, self._run = operator.bins, native.grid_histogram

    def __call__(self, x: Tensor, exponent: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
        counts, ends = torch.zeros(self._bins, dtype=torch.int64), torch.empty(2, dtype=torch.float32)
        self._run(dense(x), exponent, first, counts, ends, get_num_threads())
        return counts, *ends


class EvenHistogram:
    """kernel(x, low, high) -> counts"""

    def __init__(self, operator: ops.EvenHistogram, native: Any) -> None:
        self._bins, self._run = operator.bins, native.even_histogram

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        if low.dtype != torch.float32 or high.dtype != torch.float32:
            raise ArgumentTypeError(f"low and high must be torch.float32, not {low.dtype} and {high.dtype}")
        counts = torch.zeros(self._bins, dtype=torch.int64)
        self._run(dense(x), float(low), float(high), counts, get_num_threads())
        return counts


class FakeQuantize:
    """kernel(x, scale, zero_point, axis) -> (y, mask)"""

    def __init__(self, operator: ops.FakeQuantize, native: Any) -> None:
        self._range, self._run = (operator.quant_min, operator.quant_max), native.fake_quantize

    def __call__(self, x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
        x, y = in_order(x)
        mask = bits(x)
        self._run(x, scale, zero_point, number(axis), *self._range, y, mask, get_num_threads())
        return y, mask


class FakeQuantizeBackward:
    """kernel(grad, mask) -> gradient"""

    def __init__(self, operator: ops.FakeQuantizeBackward, native: Any) -> None:
        self._run = native.keep_inside

    def __call__(self, grad: Tensor, mask: Tensor) -> Tensor:
        y = empty_like(grad)
        self._run(grad, mask, y, get_num_threads())
        return y


class ObserveFakeQuantize:
    """kernel(x, min_val, max_val, scale, zero_point, axis) -> (y, mask), or None for x with NaN or infinity"""

    def __init__(self, operator: ops.ObserveFakeQuantize, native: Any) -> None:
        integers = operator.quant_min, operator.quant_max
        self._rule = operator.averaging_constant, *integers, operator.symmetric, operator.eps, operator.middle
        self._run = native.observe_fake_quantize

    def __call__(
        self, x: Tensor, min_val: Tensor, max_val: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None
    ) -> tuple[Tensor, Tensor] | None:
        x, y = in_order(x)
        mask, state = bits(x), (min_val, max_val, scale, zero_point)
        finite = self._run(x, number(axis), *self._rule, *state, y, mask, get_num_threads())
        return (y, mask) if finite else None


OPS = (
    ops.Range,
    ops.Histogram,
    ops.EvenHistogram,
    ops.FakeQuantize,
    ops.FakeQuantizeBackward,
    ops.ObserveFakeQuantize,
)
"""Each is built by the class of its name."""
