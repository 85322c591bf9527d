"""Operators that join, pool, reduce or resample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from qcore.operators.base import KEEPING, Operator
from qcore.operators.forms import Form, like, windows


@dataclass(frozen=True)
class Cat(Operator):
    """Concatenation along `dim`, each input requantized to `out`. Call: kernel(xs list, qxs list, out)."""

    name: ClassVar[str] = "cat"
    call: ClassVar = ("xs", "qxs", "out")
    dim: int = 0
    relu: bool = False

    def forms(self, *call: Any) -> Sequence[Form]:
        xs, _, out = call
        shape = list(xs[0].shape)
        dim = self.dim % len(shape)
        shape[dim] = sum(x.shape[dim] for x in xs)
        return [like(xs[0], shape, out.dtype.storage)]


@dataclass(frozen=True)
class MaxPool(Operator):
    """Max pooling over the last len(kernel_size) dimensions. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "max_pool"
    call: ClassVar = KEEPING
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    ceil_mode: bool = False

    @property
    def spatial(self) -> int:
        return len(self.kernel_size)

    def forms(self, *call: Any) -> Sequence[Form]:
        return [_pooled(self, call[0], self.dilation or (1,) * self.spatial)]


@dataclass(frozen=True)
class AvgPool(Operator):
    """Average pooling over the last len(kernel_size) dimensions. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "avg_pool"
    call: ClassVar = KEEPING
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @property
    def spatial(self) -> int:
        return len(self.kernel_size)

    def forms(self, *call: Any) -> Sequence[Form]:
        return [_pooled(self, call[0], (1,) * self.spatial)]


def _pooled(pool: MaxPool | AvgPool, x: Any, dilation: tuple[int, ...]) -> Form:
    rank = pool.spatial
    settings = pool.kernel_size, pool.stride or pool.kernel_size, pool.padding or (0,) * rank, dilation
    return like(x, (*x.shape[:-rank], *windows(x.shape[-rank:], *settings, pool.ceil_mode)), x.dtype)


@dataclass(frozen=True)
class AdaptiveAvgPool(Operator):
    """Average pooling to a given size (None keeps that of x). Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "adaptive_avg_pool"
    call: ClassVar = KEEPING
    output_size: tuple[int | None, ...] = ()

    @property
    def spatial(self) -> int:
        return len(self.output_size)

    def forms(self, *call: Any) -> Sequence[Form]:
        x, rank = call[0], self.spatial
        sizes = zip(x.shape[-rank:], self.output_size, strict=True)
        return [like(x, (*x.shape[:-rank], *(n if size is None else size for n, size in sizes)), x.dtype)]


@dataclass(frozen=True)
class Mean(Operator):
    """Mean over `dims` (empty: all). Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "mean"
    call: ClassVar = KEEPING
    dims: tuple[int, ...] = ()
    keepdim: bool = False

    def forms(self, *call: Any) -> Sequence[Form]:
        x = call[0]
        dims = {dim % x.ndim for dim in self.dims} or set(range(x.ndim))
        shape = [1 if dim in dims else n for dim, n in enumerate(x.shape) if self.keepdim or dim not in dims]
        return [like(x, shape, x.dtype)]


@dataclass(frozen=True)
class Interpolate(Operator):
    """Resampling by `mode` nearest (1 to 3 dimensions) or bilinear (2). Call: kernel(x, qx) -> same QParams as x.

    One of `size` and `scale_factor` is given, for each spatial dimension of x (batch, channels, *spatial).
    """

    name: ClassVar[str] = "interpolate"
    call: ClassVar = KEEPING
    size: tuple[int, ...] | None = None
    scale_factor: tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool = False

    def forms(self, *call: Any) -> Sequence[Form]:
        x, sizes = call[0], self.size
        if sizes is None:
            sizes = tuple(int(n * factor) for n, factor in zip(x.shape[2:], self.scale_factor or (), strict=True))
        return [like(x, (*x.shape[:2], *sizes), x.dtype)]
