"""Products of activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from qcore.errors import ArgumentError
from qcore.operators.base import Operator
from qcore.operators.forms import Form

MAX_SUMMED = 33025
"""The most products of 255 * 255 whose sum is sure to fit in int32."""


@dataclass(frozen=True)
class MatMul(Operator):
    """Matrix products of two activations. Call: kernel(a (..., m, k), qa, b (..., k, n), qb, out) -> (..., m, n).

    Leading dimensions broadcast. Raises ArgumentError for fewer than two dimensions, shapes that do not fit, and k
    above MAX_SUMMED.
    """

    name: ClassVar[str] = "matmul"
    call: ClassVar = ("a", "qa", "b", "qb", "out")

    def forms(self, *call: Any) -> Sequence[Form]:
        a, _, b, _, out = call
        batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
        return [((*batch, a.shape[-2], b.shape[-1]), out.dtype.storage, torch.contiguous_format)]


def check_shapes(a: Tensor, b: Tensor) -> torch.Size:
    """The leading dimensions of the product; ArgumentError for operands that MatMul does not take."""
    shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
    if a.ndim < 2 or b.ndim < 2:
        raise ArgumentError(f"matmul: operands must have at least 2 dimensions; got {shapes}")
    if a.shape[-1] != b.shape[-2]:
        raise ArgumentError(f"matmul: shapes {shapes} do not fit: {a.shape[-1]} columns meet {b.shape[-2]} rows")
    if a.shape[-1] > MAX_SUMMED:
        raise ArgumentError(f"matmul: sums of {a.shape[-1]} products may leave int32; at most {MAX_SUMMED}")
    try:
        batch: torch.Size = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
        return batch
    except RuntimeError:
        raise ArgumentError(f"matmul: the leading dimensions of {shapes} do not broadcast") from None
