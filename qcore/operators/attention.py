"""Attention on floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.operators.base import Operator
from qcore.operators.forms import Form, floats


@dataclass(frozen=True)
class Attention(Operator):
    """Scaled dot product attention of float32. Call: kernel(q, k, v, mask) -> (batch, heads, queries, values).

    q (batch, heads, queries, width), k (batch, heads, keys, width), v (batch, heads, keys, values); mask is None, or
    broadcasts over (batch, heads, queries, keys): float32, which is added to the scores, or bool, where False adds -inf
    and True 0. `scale` of the scores: None is
    1 / sqrt(width); `causal`: a query takes part in no key after its own number. A query without keys, or whose
    scores all are -inf, gives zeros. Raises ArgumentError for shapes that do not fit.
    """

    name: ClassVar[str] = "attention"
    call: ClassVar = ("q", "k", "v", "mask?")
    scale: float | None = None
    causal: bool = False

    def forms(self, *call: Any) -> Sequence[Form]:
        q, _, v, _ = call
        return [floats(*q.shape[:3], v.shape[3])]

    def factor(self, width: int) -> float:
        """The scale for a width; without one of its own, 1 for a width of 0."""
        return float(max(width, 1)) ** -0.5 if self.scale is None else self.scale


def check_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask as float32 (batch, heads, queries, keys); ArgumentError for operands that Attention does not take."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.ndim == k.ndim == v.ndim == 4 or not q.shape[:2] == k.shape[:2] == v.shape[:2]:
        raise ArgumentError(f"attention: {shapes} must be 4-dimensional, with the same batch and heads")
    if q.shape[3] != k.shape[3] or k.shape[2] != v.shape[2]:
        raise ArgumentError(f"attention: {shapes} do not fit: q and k need one width, k and v one number of keys")
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype not in (torch.float32, torch.bool):
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ArgumentTypeError(f"attention: mask must be None, or a float32 or bool tensor, not {got}")
    if mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, -torch.inf)
    try:
        return mask.expand(*q.shape[:3], k.shape[2])
    except RuntimeError:
        wanted = (*q.shape[:3], k.shape[2])
        raise ArgumentError(f"attention: a mask of {tuple(mask.shape)} does not broadcast to {wanted}") from None
