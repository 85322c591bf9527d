"""Pooling: channels last inside; a contiguous input gets a contiguous result; an input without a batch is one of 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.native.memory import channels_last, empty_channels_last, is_channels_last
from qcore.tensor.qparams import QParams


def pooled(x: Tensor, sizes: list[int], run: Callable[[Tensor, Tensor], None]) -> Tensor:
    """The result of run(x, y), where the last dimensions of y have these sizes."""
    rank = len(sizes)
    if x.ndim not in (rank + 1, rank + 2):
        raise ArgumentError(f"pooling over {rank} dimensions takes {rank + 1} or {rank + 2} dimensions, not {x.ndim}")
    if min(sizes, default=1) < 1 or 0 in x.shape[1 - x.ndim :]:
        raise ArgumentError(f"pooling {tuple(x.shape)} would give sizes {tuple(sizes)}; all must be at least 1")
    batched = x if x.ndim == rank + 2 else x[None]
    inner = channels_last(batched)
    y = empty_channels_last((*inner.shape[:2], *sizes), x.dtype)
    run(inner, y)
    if not is_channels_last(batched):
        y = y.contiguous()
    return y if batched is x else y[0]


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows fit; with ceil_mode a last, cut one too, unless it would start in the right padding."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    steps = -(-room // stride)
    return steps if steps * stride >= size + padding else steps + 1


class Windows:
    """Kernel size, stride, padding and dilation in three dimensions, and the sizes they give."""

    def __init__(self, operator: ops.MaxPool | ops.AvgPool) -> None:
        self.rank = rank = operator.spatial or 0
        kernel = tuple(operator.kernel_size)
        stride = tuple(operator.stride) or kernel
        padding = tuple(operator.padding) or (0,) * rank
        dilation = tuple(getattr(operator, "dilation", ())) or (1,) * rank
        if not len(stride) == len(padding) == len(dilation) == rank:
            raise ArgumentError(f"{operator.name}: kernel_size, stride, padding and dilation must be of one length")
        if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
            raise ArgumentError(
                f"{operator.name}: kernel_size, stride, dilation must be at least 1, padding at least 0"
            )
        self._spans = tuple(zip(kernel, stride, padding, dilation, strict=True))
        self.ceil_mode = operator.ceil_mode
        lead = 3 - rank
        self.kernel, self.stride = (1,) * lead + kernel, (1,) * lead + stride
        self.padding, self.dilation = (0,) * lead + padding, (1,) * lead + dilation

    def sizes(self, x: Tensor) -> list[int]:
        spatial = x.shape[x.ndim - len(self._spans) :]
        return [window_count(size, *span, self.ceil_mode) for size, span in zip(spatial, self._spans, strict=False)]


class MaxPool:
    """kernel(x, qx) -> y"""

    def __init__(self, operator: ops.MaxPool, native: Any) -> None:
        self._windows, self._native = Windows(operator), native

    def __call__(self, x: Tensor, qx: QParams) -> Tensor:
        w = self._windows

        def run(x: Tensor, y: Tensor) -> None:
            self._native.max_pool(x, y, w.kernel, w.stride, w.padding, w.dilation, get_num_threads())

        return pooled(x, w.sizes(x), run)


class AvgPool:
    """kernel(x, qx) -> y"""

    def __init__(self, operator: ops.AvgPool, native: Any) -> None:
        self._windows, self._native = Windows(operator), native
        self._include_pad = operator.count_include_pad
        if operator.divisor_override == 0:
            raise ArgumentError("avg_pool: divisor_override must not be 0")
        self._divisor = operator.divisor_override or 0

    def __call__(self, x: Tensor, qx: QParams) -> Tensor:
        w = self._windows

        def run(x: Tensor, y: Tensor) -> None:
            args = (w.kernel, w.stride, w.padding, self._include_pad, self._divisor)
            self._native.avg_pool(x, y, qx.zero_point, *args, get_num_threads())

        return pooled(x, w.sizes(x), run)


class AdaptiveAvgPool:
    """kernel(x, qx) -> y"""

    def __init__(self, operator: ops.AdaptiveAvgPool, native: Any) -> None:
        self._sizes, self._native = operator.output_size, native

    def __call__(self, x: Tensor, qx: QParams) -> Tensor:
        spatial = x.shape[x.ndim - len(self._sizes) :]
        sizes = [size if goal is None else goal for size, goal in zip(spatial, self._sizes, strict=False)]

        def run(x: Tensor, y: Tensor) -> None:
            self._native.adaptive_avg_pool(x, y, qx.zero_point, get_num_threads())

        return pooled(x, sizes, run)
