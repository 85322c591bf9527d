"""Embeddings on packed quantized tables, 8 or 4 bits."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.compat.ops.calls import operator
from qcore.compat.ops.packed import Packed, packed_as
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.tensor.dtypes import QDType, quint4x2, quint8
from qcore.tensor.qtensor import QTensor


class EmbeddingPacked(Packed):
    """A quantized table (rows, dim), with a float zero point for each row."""


@operator
def embedding_bag_prepack(weight: Tensor) -> EmbeddingPacked:
    """A table, quint8 or quint4x2, per channel on axis 0 with float zero points -> packed."""
    if not isinstance(weight, QTensor):
        raise ArgumentTypeError(
            f"torch.ops.quantized.embedding_bag_prepack takes a quantized table, not one of {weight.dtype}; for float "
            "tables there is embedding_bag_byte_prepack"
        )
    if weight.qparams.dtype not in (quint8, quint4x2) or weight.qparams.axis != 0 or weight.ndim != 2:
        raise ArgumentError(
            "torch.ops.quantized.embedding_bag_prepack: the table must be quint8 or quint4x2, (rows, dim), per channel "
            f"on axis 0; got {weight.qparams.dtype!r}, axis {weight.qparams.axis}"
        )
    return EmbeddingPacked(weight, None)


@operator
def embedding_bag_unpack(W_prepack: Any) -> Tensor:
    """The quantized table."""
    return packed_as(EmbeddingPacked, W_prepack, "embedding_bag_unpack").weight  # type: ignore[no-any-return]


def _table(packed: Any, name: str, dtype: QDType) -> EmbeddingPacked:
    table: EmbeddingPacked = packed_as(EmbeddingPacked, packed, name)
    if table.weight.dtype != dtype:
        raise ArgumentError(f"torch.ops.quantized.{name}: the table is {table.weight.dtype!r}, not {dtype!r}")
    return table


def _embedding(name: str, dtype: QDType) -> Any:
    def call(weight: Any, indices: Tensor, pruned_weights: bool = False) -> Tensor:
        table = _table(weight, name, dtype)
        rows: Any = table.weight
        return table.kernel("embedding", lambda: ops.Embedding(rows.raw, rows.qparams))(indices)  # type: ignore[no-any-return]

    call.__name__ = name
    call.__doc__ = "Rows of a packed table: indices (...) -> float32 (..., dim)."
    return operator(call)


def _embedding_bag(name: str, dtype: QDType) -> Any:
    def call(
        weight: Any,
        indices: Tensor,
        offsets: Tensor | None = None,
        scale_grad_by_freq: bool = False,
        mode: int = 0,
        pruned_weights: bool = False,
        per_sample_weights: Tensor | None = None,
        compressed_indices_mapping: Tensor | None = None,
        include_last_offset: bool = False,
    ) -> Tensor:
        table = _table(weight, name, dtype)
        rows: Any = table.weight
        mapping = mapping_of(pruned_weights, compressed_indices_mapping)
        if mapping is not None:
            bag = ops.EmbeddingBag(rows.raw, rows.qparams, mapping, "sum", include_last_offset)
            kernel = EmbeddingPacked(rows, None).kernel("pruned", lambda: bag)
        else:
            kernel = table.kernel(
                ("bag", include_last_offset),
                lambda: ops.EmbeddingBag(rows.raw, rows.qparams, None, "sum", include_last_offset),
            )
        return kernel(indices, offsets, per_sample_weights)  # type: ignore[no-any-return]

    call.__name__ = name
    call.__doc__ = "Sums of bags of rows of a packed table, as qcore.operators.EmbeddingBag; `mode` is 0, the sum."
    return operator(call)


def mapping_of(pruned: bool, mapping: Tensor | None) -> Tensor | None:
    """The rows of a pruned table; torch's operators take no notice of a mapping of one element, nor do these."""
    return mapping if pruned and mapping is not None and mapping.numel() > 1 else None


embedding_byte = _embedding("embedding_byte", quint8)
embedding_4bit = _embedding("embedding_4bit", quint4x2)
embedding_bag_byte = _embedding_bag("embedding_bag_byte", quint8)
embedding_bag_4bit = _embedding_bag("embedding_bag_4bit", quint4x2)
