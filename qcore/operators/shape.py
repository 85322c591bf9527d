"""Operators that join, pool, reduce or resample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcore.operators.base import Operator


@dataclass(frozen=True)
class Cat(Operator):
    """Concatenation along `dim`, each input requantized to `out`. Call: kernel(xs list, qxs list, out)."""

    name: ClassVar[str] = "cat"
    dim: int = 0
    relu: bool = False


@dataclass(frozen=True)
class MaxPool(Operator):
    """Max pooling over the last len(kernel_size) dimensions. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "max_pool"
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    ceil_mode: bool = False

    @property
    def spatial(self) -> int:
        return len(self.kernel_size)


@dataclass(frozen=True)
class AvgPool(Operator):
    """Average pooling over the last len(kernel_size) dimensions. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "avg_pool"
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @property
    def spatial(self) -> int:
        return len(self.kernel_size)


@dataclass(frozen=True)
class AdaptiveAvgPool(Operator):
    """Average pooling to a given size (None keeps that of x). Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "adaptive_avg_pool"
    output_size: tuple[int | None, ...] = ()

    @property
    def spatial(self) -> int:
        return len(self.output_size)


@dataclass(frozen=True)
class Mean(Operator):
    """Mean over `dims` (empty: all). Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "mean"
    dims: tuple[int, ...] = ()
    keepdim: bool = False


@dataclass(frozen=True)
class Interpolate(Operator):
    """Resampling by `mode` nearest (1 to 3 dimensions) or bilinear (2). Call: kernel(x, qx) -> same QParams as x.

    One of `size` and `scale_factor` is given, for each spatial dimension of x (batch, channels, *spatial).
    """

    name: ClassVar[str] = "interpolate"
    size: tuple[int, ...] | None = None
    scale_factor: tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool = False
