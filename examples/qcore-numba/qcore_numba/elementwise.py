"""Add, mul and clamp. Inputs are brought to one dense layout, which the result keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, empty_like

import qcore
from qcore import operators as ops
from qcore.native.memory import alike
from qcore_numba.steps import compiled, fma, in_pieces, to_uint8

LEAST = 1 << 14


@compiled
def add(a, sa, za, b, sb, zb, y, inverse, zero, low, begin, end):
    """clamp(rint((real(a) + real(b)) * (1 / sy)) + zy), real(x) = fma(s, x, -(s * z))."""
    shift_a, shift_b = -(sa * np.float32(za)), -(sb * np.float32(zb))
    for i in range(begin, end):
        total = fma(sa, np.float32(a[i]), shift_a) + fma(sb, np.float32(b[i]), shift_b)
        y[i] = to_uint8(total * inverse, zero, low)


@compiled
def mul(a, sa, za, b, sb, zb, y, inverse, zero, low, begin, end):
    """clamp(rint(f32((a - za) * (b - zb)) * (sa * sb * (1 / sy))) + zy)."""
    multiplier = sa * sb * inverse
    for i in range(begin, end):
        product = np.float32((np.int32(a[i]) - za) * (np.int32(b[i]) - zb))
        y[i] = to_uint8(product * multiplier, zero, low)


def _binary(run: Callable[..., None], relu: bool) -> qcore.Kernel:
    def kernel(a: Tensor, qa: qcore.QParams, b: Tensor, qb: qcore.QParams, out: qcore.QParams) -> Tensor:
        a, b = alike(a, b)
        y = empty_like(a)
        left = flat(a), np.float32(qa.scale), int(qa.zero_point)
        right = flat(b), np.float32(qb.scale), int(qb.zero_point)
        inverse = np.float32(1) / np.float32(out.scale)
        last = flat(y), inverse, int(out.zero_point), int(out.zero_point) if relu else 0
        in_pieces(y.numel(), LEAST, lambda begin, end: run(*left, *right, *last, begin, end))
        return y

    return kernel


def flat(x: Tensor) -> Any:
    """The memory of a dense tensor, in its order."""
    return x.as_strided((x.numel(),), (1,)).numpy()


def build_add(operator: ops.Add) -> qcore.Kernel:
    """kernel(a, qa, b, qb, out) -> y"""
    return _binary(add, operator.relu)


def build_mul(operator: ops.Mul) -> qcore.Kernel:
    """kernel(a, qa, b, qb, out) -> y"""
    return _binary(mul, operator.relu)


def build_clamp(operator: ops.Clamp) -> qcore.Kernel:
    """kernel(x, qx) -> y; torch's own clamp of integers does it, once the bounds are integers."""

    def bound(value: float, qx: qcore.QParams) -> int:
        inverse = np.float32(1) / np.float32(qx.scale)
        return to_uint8(np.float32(value) * inverse + np.float32(qx.zero_point), 0, 0)

    def kernel(x: Tensor, qx: qcore.QParams) -> Tensor:
        low = 0 if operator.low is None else bound(operator.low, qx)
        high = 255 if operator.high is None else bound(operator.high, qx)
        return x.clamp(min=low).clamp(max=high)

    return kernel
