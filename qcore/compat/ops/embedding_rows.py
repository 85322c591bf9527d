"""Float tables packed by row into plain uint8 tensors, as recommendation systems keep them.

A row is its integers, then a scale and a bias: 8 bits with float32 ones (dim + 8 bytes), or 4 bits, two to a byte, low
half first, with float16 ones (dim / 2 + 4 bytes). value = integer * scale + bias, the bias being the row's minimum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qcore.compat.ops.calls import operator
from qcore.compat.ops.embedding import mapping_of
from qcore.errors import ArgumentError, UnsupportedError

_EPSILON = 1e-8


# --- packing --------------------------------------------------------------------------------------------------------


@operator
def embedding_bag_byte_prepack(weight: Tensor) -> Tensor:
    """A float table (..., dim) -> uint8 (..., dim + 8), each row by its own minimum and maximum."""
    rows = _floats(weight, "embedding_bag_byte_prepack")
    return _byte_rows(rows, rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True))


@operator
def embedding_bag_byte_prepack_with_rowwise_min_max(weight: Tensor, rowwise_min_max: Tensor) -> Tensor:
    """A float table (rows, dim) -> uint8 (rows, dim + 8), with minimum and maximum of each row given, (rows, 2)."""
    rows = _floats(weight, "embedding_bag_byte_prepack_with_rowwise_min_max")
    low, high = _bounds(rows, rowwise_min_max)
    return _byte_rows(rows, low, high)


def _byte_rows(rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
    reach = high - low
    inverse = torch.full_like(reach, 255.0) / (reach + _EPSILON)
    integers = ((rows - low) * inverse).round().clamp(0, 255).to(torch.uint8)
    scale_bias = torch.cat((reach / torch.full_like(reach, 255.0), low), -1).contiguous()
    return torch.cat((integers, scale_bias.view(torch.uint8)), -1)


@operator
def embedding_bag_4bit_prepack(
    weight: Tensor, optimized_qparams: bool = False, nbins: int = 200, ratio: float = 0.16
) -> Tensor:
    """A float table (rows, dim), dim even -> uint8 (rows, dim / 2 + 4); no search for better parameters."""
    rows = _floats(weight, "embedding_bag_4bit_prepack")
    _plain(optimized_qparams, "embedding_bag_4bit_prepack")
    return _nibble_rows(rows, rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True))


@operator
def embedding_bag_4bit_prepack_with_rowwise_min_max(
    weight: Tensor, rowwise_min_max: Tensor, optimized_qparams: bool = False, nbins: int = 200, ratio: float = 0.16
) -> Tensor:
    """The same with minimum and maximum of each row given, (rows, 2)."""
    rows = _floats(weight, "embedding_bag_4bit_prepack_with_rowwise_min_max")
    _plain(optimized_qparams, "embedding_bag_4bit_prepack_with_rowwise_min_max")
    low, high = _bounds(rows, rowwise_min_max)
    return _nibble_rows(rows, low, high)


def _nibble_rows(rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
    if rows.shape[-1] % 2:
        raise ArgumentError(f"a 4-bit table holds two values to a byte: dim {rows.shape[-1]} must be even")
    low = low.half().float()
    scale = ((high - low) / 15).half()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    inverse = torch.ones_like(low) / scale.float()
    scale, inverse = torch.where(inverse.isinf(), 1.0, scale), torch.where(inverse.isinf(), 1.0, inverse)
    integers = ((rows - low) * inverse).round().clamp(0, 15).to(torch.uint8)
    packed = integers[..., 0::2] | (integers[..., 1::2] << 4)
    scale_bias = torch.cat((scale.half(), low.half()), -1).contiguous()
    return torch.cat((packed, scale_bias.view(torch.uint8)), -1)


def _floats(weight: Any, name: str) -> Tensor:
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or not weight.ndim:
        raise ArgumentError(f"torch.ops.quantized.{name} takes a float table (rows, dim)")
    if not bool(weight.isfinite().all()):
        raise ArgumentError(f"torch.ops.quantized.{name}: the table holds NaN or infinity")
    return weight.detach().float()


def _bounds(rows: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    if bounds.shape != (*rows.shape[:-1], 2):
        raise ArgumentError(f"rowwise_min_max of shape {tuple(bounds.shape)} must be {(*rows.shape[:-1], 2)}")
    low, high = bounds.detach().float().unbind(-1)
    return low.unsqueeze(-1), high.unsqueeze(-1)


def _plain(optimized: bool, name: str) -> None:
    if optimized:
        raise UnsupportedError(
            f"torch.ops.quantized.{name}: optimized_qparams=True: no search for parameters is there; give minimum and "
            "maximum of each row to embedding_bag_4bit_prepack_with_rowwise_min_max"
        )


# --- unpacking ------------------------------------------------------------------------------------------------------


@operator
def embedding_bag_byte_unpack(weight: Tensor) -> Tensor:
    """uint8 (..., dim + 8) -> float32 (..., dim)."""
    return _real(*_byte_parts(weight, "embedding_bag_byte_unpack"))


@operator
def embedding_bag_4bit_unpack(weight: Tensor) -> Tensor:
    """uint8 (..., dim / 2 + 4) -> float32 (..., dim)."""
    return _real(*_nibble_parts(weight, "embedding_bag_4bit_unpack"))


def _real(integers: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """One fused multiply-add: the product is exact in float64."""
    return (integers.double() * scale.double() + bias.double()).float()


def _byte_parts(packed: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Integers as float32, scale and bias of each row."""
    rows = _packed(packed, name, 8)
    scale_bias = rows[..., -8:].contiguous().view(torch.float32)
    return rows[..., :-8].float(), scale_bias[..., :1], scale_bias[..., 1:]


def _nibble_parts(packed: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    rows = _packed(packed, name, 4)
    scale_bias = rows[..., -4:].contiguous().view(torch.float16).float()
    halves = rows[..., :-4]
    integers = torch.stack((halves & 15, halves >> 4), -1).flatten(-2)
    return integers.float(), scale_bias[..., :1], scale_bias[..., 1:]


def _packed(packed: Any, name: str, tail: int) -> Tensor:
    if not isinstance(packed, Tensor) or packed.dtype != torch.uint8 or not packed.ndim or packed.shape[-1] < tail:
        raise ArgumentError(f"torch.ops.quantized.{name} takes a packed uint8 table, with {tail} bytes after each row")
    return packed


# --- sums of bags ---------------------------------------------------------------------------------------------------


def _rowwise(name: str, parts: Any) -> Any:
    def call(
        weight: Tensor,
        indices: Tensor,
        offsets: Tensor | None = None,
        scale_grad_by_freq: bool = False,
        mode: int = 0,
        pruned_weights: bool = False,
        per_sample_weights: Tensor | None = None,
        compressed_indices_mapping: Tensor | None = None,
        include_last_offset: bool = False,
    ) -> Tensor:
        integers, scale, bias = parts(weight, name)
        mapping = mapping_of(pruned_weights, compressed_indices_mapping)
        starts, lengths = _bags(name, indices, offsets, include_last_offset)
        rows = _found(name, indices.flatten().long(), len(integers), mapping)
        factors = None if per_sample_weights is None else per_sample_weights.flatten().float()
        if factors is not None and factors.shape != rows.shape:
            raise ArgumentError(f"torch.ops.quantized.{name}: per_sample_weights must have the shape of indices")
        total = torch.zeros(len(lengths), integers.shape[1])
        for position in range(int(lengths.max()) if len(lengths) else 0):
            bag = (lengths > position).nonzero().flatten()
            entry = starts[bag] + position
            bag, entry = bag[rows[entry] >= 0], entry[rows[entry] >= 0]
            row = rows[entry]
            by, added = scale[row], bias[row]
            if factors is not None:
                by, added = by * factors[entry, None], added * factors[entry, None]
            total[bag] = _real(integers[row], by, total[bag] + added)
        return total

    call.__name__ = name
    call.__doc__ = (
        "Sums of bags of rows of a packed uint8 table -> float32 (bags, dim); arguments as embedding_bag_byte."
    )
    return operator(call)


def _bags(name: str, indices: Tensor, offsets: Tensor | None, include_last: bool) -> tuple[Tensor, Tensor]:
    """First entry and length of each bag."""
    if offsets is None:
        if indices.ndim != 2:
            raise ArgumentError(f"torch.ops.quantized.{name}: without offsets, indices must be (bags, length)")
        count, length = indices.shape
        return torch.arange(count) * length, torch.full((count,), length)
    ends = offsets.long()
    ends = ends if include_last else torch.cat((ends, ends.new_tensor([indices.numel()])))
    lengths = ends.diff()
    if not len(ends) or ends[0] != 0 or ends[-1] != indices.numel() or bool((lengths < 0).any()):
        raise ArgumentError(f"torch.ops.quantized.{name}: offsets must rise from 0 to {indices.numel()}")
    return ends[:-1], lengths


def _found(name: str, indices: Tensor, size: int, mapping: Tensor | None) -> Tensor:
    """The row of each index; -1 for those that were pruned."""
    entries = size if mapping is None else len(mapping)
    if bool(((indices < 0) | (indices >= entries)).any()):
        raise ArgumentError(f"torch.ops.quantized.{name}: an index is outside of the table of {entries} entries")
    return indices if mapping is None else mapping.long()[indices]


embedding_bag_byte_rowwise_offsets = _rowwise("embedding_bag_byte_rowwise_offsets", _byte_parts)
embedding_bag_4bit_rowwise_offsets = _rowwise("embedding_bag_4bit_rowwise_offsets", _nibble_parts)
