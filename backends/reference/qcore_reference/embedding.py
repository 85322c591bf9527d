"""Embedding and embedding bags: integer rows in, floats out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec, WeightSpec
from qcore.errors import ArgumentError
from qcore.operators import Embedding, EmbeddingBag, FloatEmbedding
from qcore.tensor.dtypes import quint4x2, quint8
from qcore_reference.arithmetic import f32, fma

WEIGHTS = (WeightSpec(quint8, per_channel=True), WeightSpec(quint4x2, per_channel=True))
OPS = (
    OpSpec(Embedding, activations=(), weights=WEIGHTS),
    OpSpec(EmbeddingBag, activations=(), weights=WEIGHTS),
    OpSpec(FloatEmbedding, activations=()),
)
_INDICES = (torch.int32, torch.int64)


@dataclass(frozen=True)
class Table:
    """Rows as float32, with their scale s and offset b = -(z * s), so that a row's values are fma(s, q, b)."""

    rows: Tensor
    scale: Tensor
    offset: Tensor
    mapping: Tensor | None

    @classmethod
    def of(cls, operator: Embedding | EmbeddingBag) -> Table:
        """Of 4-bit rows, s and b are rounded to float16, which is how they are stored.

        Raises ArgumentError for a table, parameters or a mapping of other shapes or dtypes than these.
        """
        weight, qweight, mapping = operator.weight, operator.qweight, operator.mapping
        if weight.ndim != 2 or qweight.axis != 0 or torch.as_tensor(qweight.scale).numel() != len(weight):
            raise ArgumentError(
                f"{operator.name}: weight {tuple(weight.shape)} must be (rows, dim), with a scale for each row; got "
                f"{qweight}"
            )
        if mapping is not None and (mapping.ndim != 1 or mapping.dtype not in _INDICES):
            raise ArgumentError(
                f"{operator.name}: mapping {tuple(mapping.shape)} of {mapping.dtype} must be one-dimensional, int32 "
                "or int64"
            )
        scale = f32(qweight.scale)
        offset = -(f32(qweight.zero_point) * scale)
        if qweight.dtype == quint4x2:
            scale, offset = scale.half().float(), offset.half().float()
        return cls(weight.float(), scale[:, None], offset[:, None], mapping)

    def find(self, indices: Tensor) -> Tensor:
        """The row of each index; -1 for those that were pruned. Raises ArgumentError for an index out of range."""
        found = _inside(indices, len(self.rows if self.mapping is None else self.mapping))
        return found if self.mapping is None else self.mapping.long()[found]


def _inside(indices: Tensor, size: int) -> Tensor:
    if indices.dtype not in _INDICES:
        raise ArgumentError(f"indices must be int32 or int64; got {indices.dtype}")
    outside = (indices < 0) | (indices >= size)
    if outside.any():
        raise ArgumentError(f"index {int(indices[outside][0])} is outside of the table: it has {size} entries")
    return indices.long()


def build_float_embedding(operator: FloatEmbedding) -> Kernel:
    """The row of each index."""
    weight = operator.weight.detach()
    if weight.ndim != 2 or weight.dtype != torch.float32 or not weight.is_contiguous() or not weight.is_cpu:
        raise ArgumentError(
            f"float_embedding: weight {tuple(weight.shape)} of {weight.dtype} on {weight.device} must be (rows, dim), "
            "float32, contiguous, on the CPU"
        )

    def float_embedding(indices: Tensor) -> Tensor:
        rows = weight.index_select(0, _inside(indices, len(weight)).flatten())
        return rows.view(*indices.shape, weight.shape[1])

    return float_embedding


def build_embedding(operator: Embedding) -> Kernel:
    """y = fma(s, q, b) for the row of each index; 0 for pruned ones."""
    table = Table.of(operator)

    def embedding(indices: Tensor) -> Tensor:
        rows = table.find(indices)
        y = fma(table.scale[rows], table.rows[rows], table.offset[rows])
        return y.where(rows[..., None] >= 0, 0.0)

    return embedding


def build_embedding_bag(operator: EmbeddingBag) -> Kernel:
    """y = 0, then y = fma(p * s, q, y + p * b) for each row of the bag in turn, with p = 1 where there are no weights;
    a mean is y / length.
    """
    table = Table.of(operator)
    if operator.mode not in ("sum", "mean"):
        raise ArgumentError(f"embedding_bag: mode {operator.mode!r} is not supported; use 'sum' or 'mean'")

    def embedding_bag(indices: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None) -> Tensor:
        starts, lengths = bags(indices, offsets, operator.include_last_offset)
        if per_sample_weights is not None:
            shape, dtype = per_sample_weights.shape, per_sample_weights.dtype
            if operator.mode != "sum" or shape != indices.shape or dtype != torch.float32:
                raise ArgumentError(
                    f"per_sample_weights of shape {tuple(shape)} and {dtype} with mode {operator.mode!r} and indices "
                    f"{tuple(indices.shape)}: they must be float32 in the shape of indices, and mode must be 'sum'"
                )
            per_sample_weights = per_sample_weights.flatten()
        rows = table.find(indices).flatten()
        y = torch.zeros(len(lengths), table.rows.shape[1], dtype=torch.float32)
        for position in range(int(lengths.max()) if len(lengths) else 0):
            bag = (lengths > position).nonzero().flatten()
            entry = starts[bag] + position
            kept = rows[entry] >= 0
            bag, entry = bag[kept], entry[kept]
            row = rows[entry]
            scale, offset = table.scale[row], table.offset[row]
            if per_sample_weights is not None:
                weight = per_sample_weights[entry][:, None]
                scale, offset = weight * scale, weight * offset
            y[bag] = fma(scale, table.rows[row], y[bag] + offset)
        return y / lengths.clamp(min=1)[:, None] if operator.mode == "mean" else y

    return embedding_bag


def bags(indices: Tensor, offsets: Tensor | None, include_last: bool) -> tuple[Tensor, Tensor]:
    """First entry and length of each bag, as int64."""
    if offsets is None:
        if indices.ndim != 2:
            raise ArgumentError(f"indices of shape {tuple(indices.shape)} without offsets: they must be (bags, length)")
        count, length = indices.shape
        return torch.arange(count) * length, torch.full((count,), length)
    if indices.ndim != 1 or offsets.ndim != 1 or offsets.dtype not in _INDICES:
        shapes = f"indices {tuple(indices.shape)} and offsets {tuple(offsets.shape)} of {offsets.dtype}"
        raise ArgumentError(f"{shapes} must both be one-dimensional and int32 or int64")
    ends = offsets.long()
    if not include_last:
        ends = torch.cat((ends, ends.new_tensor([len(indices)])))
    lengths = ends.diff()
    if not len(ends) or ends[0] != 0 or ends[-1] != len(indices) or (lengths < 0).any():
        raise ArgumentError(
            f"offsets must rise from 0 to {len(indices)}, the number of indices; got {offsets.tolist()}"
        )
    return ends[:-1], lengths


KERNELS = {Embedding: build_embedding, EmbeddingBag: build_embedding_bag, FloatEmbedding: build_float_embedding}
