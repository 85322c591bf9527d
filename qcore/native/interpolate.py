"""Interpolation in the memory format of the input."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.native.memory import empty_channels_last, empty_contiguous, is_channels_last
from qcore.tensor.qparams import QParams


class Interpolate:
    """kernel(x, qx) -> y, with the memory format of x"""

    def __init__(self, operator: ops.Interpolate, native: Any) -> None:
        if (operator.size is None) == (operator.scale_factor is None):
            given = f"size={operator.size} and scale_factor={operator.scale_factor}"
            raise ArgumentError(f"interpolate: give one of {given}")
        if operator.mode not in ("nearest", "bilinear"):
            raise ArgumentError(f"interpolate: mode {operator.mode!r} is not supported; use 'nearest' or 'bilinear'")
        if not all(math.isfinite(factor) and factor > 0 for factor in operator.scale_factor or ()):
            raise ArgumentError(f"interpolate: scale_factor={operator.scale_factor} must be positive and finite")
        self._operator, self._native = operator, native

    def __call__(self, x: Tensor, qx: QParams) -> Tensor:
        operator, rank = self._operator, x.ndim - 2
        given = operator.size or operator.scale_factor or ()
        if rank not in (1, 2, 3) or len(given) != rank or (operator.mode == "bilinear" and rank != 2):
            call = f"mode {operator.mode!r} with {len(given)} sizes or factors"
            raise ArgumentError(f"interpolate: x {tuple(x.shape)} does not fit {call}")
        factors = operator.scale_factor or (0.0,) * rank
        sizes = operator.size or tuple(
            int(min(n * factor, 2.0**62)) for n, factor in zip(x.shape[2:], factors, strict=True)
        )
        if min(sizes) < 1 or min(x.shape[2:]) < 1:
            raise ArgumentError(f"interpolate: from {tuple(x.shape[2:])} to {sizes}: all sizes must be at least 1")
        if sizes == tuple(x.shape[2:]):
            return x.clone()
        if is_channels_last(x):
            y = empty_channels_last((*x.shape[:2], *sizes), x.dtype)
            self._run(x.movedim(1, -1), y.movedim(1, -1), qx, factors)
        else:
            y = empty_contiguous((*x.shape[:2], *sizes), x.dtype)
            self._run(x.contiguous().flatten(0, 1)[..., None], y.flatten(0, 1)[..., None], qx, factors)
        return y

    def _run(self, x: Tensor, y: Tensor, qx: QParams, factors: tuple[float, ...]) -> None:
        """Fill y from x, both contiguous (planes, *sizes, values of a point)."""
        if self._operator.mode == "bilinear":
            corners = self._operator.align_corners
            self._native.bilinear(x, y, factors, corners, qx.zero_point, get_num_threads())
            return
        lead = 5 - x.ndim
        x, y = (v.reshape(v.shape[0], *(1,) * lead, *v.shape[1:]) for v in (x, y))
        self._native.nearest(x, y, (0.0,) * lead + factors, get_num_threads())
