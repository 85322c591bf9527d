"""Elementwise kernels: inputs are brought to one dense layout, which the result keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, empty_like, float32, get_num_threads

from qcore import operators as ops
from qcore import tables
from qcore.native.memory import alike, as_bytes, dense, is_channels_last
from qcore.tensor.qparams import QParams, per_channel, per_tensor


def by_channel(x: Tensor, axis: int, dtype: torch.dtype, run: Callable[[Tensor, Tensor, int], None]) -> Tensor:
    """The result of run(x, y, axis) on contiguous tensors; it has the memory format of x."""
    axis %= x.ndim
    if not is_channels_last(x):
        x = x.contiguous()
        y = empty_like(x, dtype=dtype)
        run(x, y, axis)
        return y
    x = x.movedim(1, -1)
    y = empty_like(x, dtype=dtype)
    run(x, y, 0 if axis == 0 else (axis - 2) % (x.ndim - 1) + 1)
    return y.movedim(-1, 1)


class Quantize:
    """kernel(x, out) -> integers"""

    def __init__(self, operator: ops.Quantize, native: Any) -> None:
        self._native = native

    def __call__(self, x: Tensor, out: QParams) -> Tensor:
        dtype = out.dtype
        if out.axis is None:
            x = dense(x)
            y = empty_like(x, dtype=dtype.storage)
            self._native.quantize(x, y, dtype.is_signed, out.scale, out.zero_point, get_num_threads())
            return y

        def run(x: Tensor, y: Tensor, axis: int) -> None:
            parameters = out.scale, out.zero_point, axis
            self._native.quantize_channels(x, y, dtype.is_signed, *parameters, get_num_threads())

        return by_channel(x, out.axis, dtype.storage, run)


class Dequantize:
    """kernel(x, qx) -> floats"""

    def __init__(self, operator: ops.Dequantize, native: Any) -> None:
        self._native = native

    def __call__(self, x: Tensor, qx: QParams) -> Tensor:
        signed = qx.dtype.is_signed
        if qx.axis is None:
            x = dense(x)
            y = empty_like(x, dtype=float32)
            self._native.dequantize(x, y, signed, qx.scale, qx.zero_point, get_num_threads())
            return y

        def run(x: Tensor, y: Tensor, axis: int) -> None:
            self._native.dequantize_channels(x, y, signed, qx.scale, qx.zero_point, axis, get_num_threads())

        return by_channel(x, qx.axis, float32, run)


class _Binary:
    """kernel(a, qa, b, qb, out) -> y"""

    def __init__(self, run: Any, relu: bool) -> None:
        self._run, self._relu = run, relu

    def __call__(self, a: Tensor, qa: QParams, b: Tensor, qb: QParams, out: QParams) -> Tensor:
        a, b = alike(a, b)
        y = empty_like(a, dtype=out.dtype.storage)
        inputs = a, qa.scale, qa.zero_point, b, qb.scale, qb.zero_point
        self._run(*inputs, y, out.scale, out.zero_point, self._relu, get_num_threads())
        return y


class Add(_Binary):
    def __init__(self, operator: ops.Add, native: Any) -> None:
        super().__init__(native.add, operator.relu)


class Mul(_Binary):
    def __init__(self, operator: ops.Mul, native: Any) -> None:
        super().__init__(native.mul, operator.relu)


class Clamp:
    """kernel(x, qx) -> y; the bounds are quantized as a channel's floats are."""

    def __init__(self, operator: ops.Clamp, native: Any) -> None:
        quantize = Quantize(ops.Quantize(), native)

        @lru_cache(maxsize=64)
        def bounds(qx: QParams) -> tuple[int, int]:
            one = per_channel(torch.tensor([qx.scale], dtype=float32), torch.tensor([qx.zero_point]), 0, qx.dtype)

            def integer(bound: float | None, otherwise: int) -> int:
                return otherwise if bound is None else int(quantize(torch.tensor([bound], dtype=float32), one))

            return integer(operator.low, qx.dtype.qmin), integer(operator.high, qx.dtype.qmax)

        self.bounds = bounds
        self._run = native.clamp

    def __call__(self, x: Tensor, qx: QParams) -> Tensor:
        x = dense(x)
        y = empty_like(x)
        self._run(x, y, *self.bounds(qx), get_num_threads())
        return y


class Lookup:
    """kernel(x, qx, out) -> y, through the table of all 256 integers, in the order of their bits"""

    def __init__(self, operator: ops.Lookup, native: Any) -> None:
        @lru_cache(maxsize=64)
        def table(qx: QParams, out: QParams) -> Tensor:
            for given in (qx, out):
                per_tensor(given.scale, given.zero_point, given.dtype)  # refuses what is no scale or zero point
            values = as_bytes(tables.table(operator.function, operator.args, qx, out))
            return (values.roll(qx.dtype.qmin) if qx.dtype.is_signed else values).contiguous()

        self.table = table
        self._run = native.lookup

    def __call__(self, x: Tensor, qx: QParams, out: QParams) -> Tensor:
        x = dense(x)
        y = empty_like(x, dtype=out.dtype.storage)
        self._run(as_bytes(x), as_bytes(y), self.table(qx, out), get_num_threads())
        return y


class Cat:
    """kernel(xs, qxs, out) -> y: each input requantized, then joined"""

    def __init__(self, operator: ops.Cat, native: Any) -> None:
        self._dim, self._relu = operator.dim, operator.relu
        self._run = native.requantize

    def __call__(self, xs: Sequence[Tensor], qxs: Sequence[QParams], out: QParams) -> Tensor:
        parts = []
        for x, qx in zip(xs, qxs, strict=True):
            x = dense(x)
            y = empty_like(x, dtype=out.dtype.storage)
            self._run(x, qx.scale, qx.zero_point, y, out.scale, out.zero_point, self._relu, get_num_threads())
            parts.append(y)
        return torch.cat(parts, self._dim)
