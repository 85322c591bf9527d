"""Matrix products of two activations: one native call for all batches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, empty, full, get_num_threads, uint8

from qcore import operators as ops
from qcore.native.memory import unsigned
from qcore.operators.products import check_shapes
from qcore.tensor.qparams import QParams


class MatMul:
    """kernel(a, qa, b, qb, out) -> y; b in any strides, a copied unless its rows are dense"""

    def __init__(self, operator: ops.MatMul, native: Any) -> None:
        self._run = native.matmul

    def __call__(self, a: Tensor, qa: QParams, b: Tensor, qb: QParams, out: QParams) -> Tensor:
        batch = check_shapes(a, b)
        if not a.shape[-1]:
            return full((*batch, a.shape[-2], b.shape[-1]), int(out.zero_point), dtype=out.dtype.storage)
        a, zero_a = unsigned(a, qa)
        b, zero_b = unsigned(b, qb)
        if a.stride(-1) != 1:
            a = a.contiguous()
        if a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
            a, b = a.expand(*batch, *a.shape[-2:]), b.expand(*batch, *b.shape[-2:])
        y = empty(*batch, a.shape[-2], b.shape[-1], dtype=uint8)
        shift = 128 if out.dtype.is_signed else 0
        self._run(a, qa.scale, zero_a, b, qb.scale, zero_b, y, out.scale, out.zero_point + shift, get_num_threads())
        return y.bitwise_xor_(shift).view(out.dtype.storage) if shift else y
