"""Layers on floats: linear with 8-bit or float16 weights, and tables of embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qcore import operators as ops
from qcore.onnx.weights import Ends, as_unsigned
from qcore.tensor.dtypes import quint4x2

_LEAST = float(torch.tensor(6.1e-5))
"""The least scale of a range; tensors made in a loop's body cannot be exported."""


class LinearDynamic(nn.Module):
    """Linear on floats, in integers: x is quantized by its range, and the sums are corrected for its zero point."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    sums: Tensor
    bias: Tensor | None

    def __init__(self, operator: ops.LinearDynamic, ends: Ends, unsigned: bool) -> None:
        super().__init__()
        self.operator = operator
        zero_point = torch.as_tensor(operator.qweight.zero_point).to(torch.int8)
        weight = operator.weight.t().contiguous()
        self.register_buffer("sums", (weight.int() - zero_point).sum(0, dtype=torch.int32))
        self.register_buffer("weight", as_unsigned(weight) if unsigned else weight)
        self.register_buffer("weight_zero_point", as_unsigned(zero_point) if unsigned else zero_point)
        self.register_buffer("weight_scale", torch.as_tensor(operator.qweight.scale, dtype=torch.float32))
        self.register_buffer("bias", None if operator.bias is None else operator.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        op = self.operator
        most = 127 if op.reduce_range else 255
        scale, zero_point = _by_range(x, most, op.per_row)
        integers = (x * (1 / scale) + zero_point).round().clamp(0, most).to(torch.uint8)
        sums = torch.ops.qcore_onnx.matmul_integer(integers, self.weight, self.weight_zero_point)
        sums = sums - zero_point.to(torch.int32) * self.sums
        y = sums.float() * (scale * self.weight_scale)
        y = y if self.bias is None else y + self.bias
        return F.relu(y) if op.relu else y


def _by_range(x: Tensor, most: int, per_row: bool) -> tuple[Tensor, Tensor]:
    """float32 scale and zero point for x, as docs/numerics.md says under "Dynamic quantization"."""
    low = (x.amin(-1, keepdim=True) if per_row else x.min()).clamp(max=0)
    high = (x.amax(-1, keepdim=True) if per_row else x.max()).clamp(min=0)
    scale = (high.double() - low) / most
    unusable = scale <= 2.0**-128  # its reciprocal is infinite
    small = (scale < _LEAST) & ~unusable
    grown = _LEAST / scale.float()
    low = torch.where(small & (low != 0), torch.where(high == 0, -(_LEAST * most), low * grown), low)
    high = torch.where(small & (high != 0), torch.where(low == 0, _LEAST * most, high * grown), high)
    scale = torch.where(small, _LEAST, torch.where(unusable, 0.1, scale))
    from_low, from_high = -low / scale, most - high / scale
    zero_point = torch.where(from_low < most + high / scale, from_low, from_high)
    return scale.float(), zero_point.clamp(0, most).round().float()


class LinearFp16(nn.Module):
    """Linear with a float16 weight."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, operator: ops.LinearFp16, ends: Ends, unsigned: bool) -> None:
        super().__init__()
        self.relu = operator.relu
        self.register_buffer("weight", operator.weight)
        self.register_buffer("bias", operator.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = F.linear(x, self.weight.float(), self.bias)
        return F.relu(y) if self.relu else y


class Embedding(nn.Module):
    """Rows of a table, gathered as integers; a pruned index gives zeros."""

    weight: Tensor
    scale: Tensor
    offset: Tensor
    mapping: Tensor | None

    def __init__(self, operator: ops.Embedding | ops.EmbeddingBag, ends: Ends, unsigned: bool) -> None:
        super().__init__()
        scale = torch.as_tensor(operator.qweight.scale, dtype=torch.float32)
        offset = -(torch.as_tensor(operator.qweight.zero_point, dtype=torch.float32) * scale)
        if operator.qweight.dtype == quint4x2:
            scale, offset = scale.half().float(), offset.half().float()
        self.register_buffer("weight", operator.weight)
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.register_buffer("mapping", operator.mapping)

    def forward(self, indices: Tensor) -> Tensor:
        """(...) -> (..., width)."""
        rows, kept = indices.long(), None
        if self.mapping is not None:
            rows = self.mapping[rows].long()
            kept = (rows >= 0).unsqueeze(-1)
            rows = rows.clamp(min=0)
        values = self.weight[rows].float() * self.scale[rows].unsqueeze(-1) + self.offset[rows].unsqueeze(-1)
        return values if kept is None else torch.where(kept, values, 0.0)


class EmbeddingBag(Embedding):
    """Sums or means of bags of such rows."""

    def __init__(self, operator: ops.EmbeddingBag, ends: Ends, unsigned: bool) -> None:
        super().__init__(operator, ends, unsigned)
        self.mean = operator.mode == "mean"
        self.include_last_offset = operator.include_last_offset

    def forward(self, indices: Tensor, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        """Indices (n,) with offsets, or (bags, length) without -> (bags, width)."""
        rows = super().forward(indices)
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.unsqueeze(-1)
        if offsets is None:
            return rows.mean(1) if self.mean else rows.sum(1)
        starts = offsets[:-1] if self.include_last_offset else offsets
        places = torch.arange(indices.shape[0]).unsqueeze(1)
        bag = (places >= starts).sum(1, keepdim=True) - 1  # the last of those that start at one place is not empty
        sums = rows.new_zeros((starts.shape[0], rows.shape[1])).scatter_add(0, bag.expand_as(rows), rows)
        if not self.mean:
            return sums
        lengths = torch.zeros(starts.shape[0]).scatter_add(0, bag.squeeze(1), torch.ones_like(rows[:, 0]))
        return sums / lengths.clamp(min=1).unsqueeze(1)
