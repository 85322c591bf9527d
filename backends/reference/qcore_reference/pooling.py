"""Max, average and adaptive average pooling; the parameters of the input are those of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import AdaptiveAvgPool, AvgPool, MaxPool
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import along, centered, f32, fma, like, requantize, saturate

OPS = (
    OpSpec(MaxPool, activations=(quint8, qint8), spatial=(1, 2, 3)),
    OpSpec(AvgPool, activations=(quint8, qint8), spatial=(1, 2, 3)),
    OpSpec(AdaptiveAvgPool, activations=(quint8, qint8), spatial=(1, 2, 3)),
)
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def average(total: Tensor, count: Tensor, qx: QParams) -> Tensor:
    """clamp(rint(fma(f32(total), 1 / count, z))), total the exact sum of x - z: adaptive pooling and mean."""
    return saturate(fma(total.float(), 1 / f32(count), f32(qx.zero_point)), qx.dtype)


def average_of_window(total: Tensor, count: Tensor, qx: QParams) -> Tensor:
    """clamp(rint(f32(total) * (1 / count)) + z), total the exact sum of x - z: average pooling."""
    return requantize(total.float(), 1 / f32(count), qx)


def build_max_pool(operator: MaxPool) -> Kernel:
    """The greatest integer of each window; a window that holds only padding gives dtype's least."""

    def max_pool(x: Tensor, qx: QParams) -> Tensor:
        greatest = MAX_POOL[operator.spatial](
            x.double(),
            operator.kernel_size,
            operator.stride or operator.kernel_size,
            operator.padding or 0,
            operator.dilation or 1,
            operator.ceil_mode,
        )
        return like(greatest.clamp(min=qx.dtype.qmin).to(x.dtype), x)

    return max_pool


@dataclass(frozen=True)
class Windows:
    """The windows along one dimension: [start, stop) inside of the input, and how many elements each counts."""

    starts: Tensor
    stops: Tensor
    counts: Tensor

    def sums(self, x: Tensor, dim: int) -> Tensor:
        """The sum of each window of x (float64 integers, so exact in any order)."""
        prefix = torch.cat([torch.zeros_like(x.narrow(dim, 0, 1)), x.cumsum(dim)], dim)
        return prefix.index_select(dim, self.stops) - prefix.index_select(dim, self.starts)


def sliding(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, include_pad: bool) -> Windows:
    """Windows of average pooling; with ceil_mode also a last, cut one, if it starts before the right padding."""
    room = size + 2 * padding - kernel
    steps = -(-room // stride) if ceil_mode else room // stride
    if ceil_mode and steps * stride >= size + padding:
        steps -= 1
    starts = torch.arange(steps + 1) * stride - padding
    stops = (starts + kernel).clamp(max=size + padding)
    inner = starts.clamp(0, size), stops.clamp(0, size)
    return Windows(*inner, stops - starts if include_pad else inner[1] - inner[0])


def adaptive(size: int, windows: int) -> Windows:
    """Window i of n is [floor(i * size / n), ceil((i + 1) * size / n))."""
    index = torch.arange(windows)
    starts, stops = index * size // windows, -(-(index + 1) * size // windows)
    return Windows(starts, stops, stops - starts)


def totals(x: Tensor, qx: QParams, windows: Sequence[Windows]) -> tuple[Tensor, Tensor]:
    """The sums of x - z over the windows of the last dimensions, and the number of elements that each counts."""
    rank = len(windows)
    total, count = centered(x, qx), torch.ones((), dtype=torch.float64)
    for axis, window in enumerate(windows):
        total = window.sums(total, axis - rank)
        count = count * along(window.counts, axis, rank)
    return total, count


def build_avg_pool(operator: AvgPool) -> Kernel:
    """The average of each window, which padding enters as zeros; `divisor_override` replaces its count."""
    rank = operator.spatial

    def avg_pool(x: Tensor, qx: QParams) -> Tensor:
        windows = [
            sliding(size, kernel, stride, padding, operator.ceil_mode, operator.count_include_pad)
            for size, kernel, stride, padding in zip(
                x.shape[-rank:],
                operator.kernel_size,
                operator.stride or operator.kernel_size,
                operator.padding or (0,) * rank,
                strict=True,
            )
        ]
        total, count = totals(x, qx, windows)
        if operator.divisor_override is not None:
            count = torch.tensor(operator.divisor_override)
        return like(average_of_window(total, count, qx), x)

    return avg_pool


def build_adaptive_avg_pool(operator: AdaptiveAvgPool) -> Kernel:
    """The average of each of the `output_size` windows that cover the input."""

    def adaptive_avg_pool(x: Tensor, qx: QParams) -> Tensor:
        sizes = x.shape[-operator.spatial :]
        pairs = zip(sizes, operator.output_size, strict=True)
        windows = [adaptive(size, size if goal is None else goal) for size, goal in pairs]
        return like(average(*totals(x, qx, windows), qx), x)

    return adaptive_avg_pool


KERNELS = {MaxPool: build_max_pool, AvgPool: build_avg_pool, AdaptiveAvgPool: build_adaptive_avg_pool}
