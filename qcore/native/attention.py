"""Attention on floats: one native call, operands in any strides."""

from __future__ import annotations

from typing import Any

from torch import Tensor, empty, float32, get_num_threads

from qcore import operators as ops
from qcore.operators.attention import check_attention


class Attention:
    """kernel(q, k, v, mask) -> y, whose heads of one query lie together in memory, as the layer after it wants them"""

    def __init__(self, operator: ops.Attention, native: Any) -> None:
        self._operator, self._run = operator, native.attention

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        mask = check_attention(q, k, v, mask)
        batch, heads, queries, width = q.shape
        y = empty(batch, queries, heads, v.shape[3], dtype=float32).transpose(1, 2)
        self._run(q, k, v, mask, y, self._operator.factor(width), self._operator.causal, get_num_threads())
        return y
