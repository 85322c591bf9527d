"""Operators with weights: linear, convolutions, embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from qcore.operators.base import Operator
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, eq=False)
class Weighted(Operator):
    """One integer weight: `weight` int8, `qweight` per tensor or per channel, `bias` float32 or None."""

    weight: Tensor
    qweight: QParams
    bias: Tensor | None = None
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """x @ weight.T + bias; weight (out, in), channels on axis 0. Call: kernel(x (..., in), qx, out) -> (..., out)."""

    name: ClassVar[str] = "linear"

    def extents(self) -> dict[str, int]:
        return {"out_features": self.weight.shape[0], "in_features": self.weight.shape[1]}


@dataclass(frozen=True, eq=False)
class LinearDynamic(Weighted):
    """Linear on floats, quantized to uint8 on the way in. Call: kernel(x float32 (..., in)) -> float32 (..., out).

    Scale and zero point are chosen from the range of the whole of x, or of each row of (..., in) with `per_row`;
    `reduce_range` halves the integer range to 0..127.
    """

    name: ClassVar[str] = "linear_dynamic"
    reduce_range: bool = False
    per_row: bool = False

    def extents(self) -> dict[str, int]:
        return {"out_features": self.weight.shape[0], "in_features": self.weight.shape[1]}


@dataclass(frozen=True, eq=False)
class Conv(Weighted):
    """Convolution in 1 to 3 spatial dimensions; weight (out, in/groups, *kernel), channels on axis 0; pads by zeros.

    Call: kernel(x (batch, in, *spatial), qx, out) -> (batch, out, *spatial), channels_last in 2 and 3 dimensions.
    """

    name: ClassVar[str] = "conv"
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def spatial(self) -> int:
        return self.weight.ndim - 2

    def extents(self) -> dict[str, int]:
        per_group = self.weight[0].numel() if self.weight.shape[0] else 0
        return {"out_channels": self.weight.shape[0], "groups": self.groups, "accumulated": per_group}


@dataclass(frozen=True, eq=False)
class ConvTranspose(Weighted):
    """Transposed convolution; weight (in, out/groups, *kernel), with channels on axis 1.

    With groups, channel c of the output uses the per-channel parameters c % (out/groups).

    Call: kernel(x (batch, in, *spatial), qx, out) -> (batch, out, *spatial).
    """

    name: ClassVar[str] = "conv_transpose"
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def spatial(self) -> int:
        return self.weight.ndim - 2

    def extents(self) -> dict[str, int]:
        per_output = self.weight[:, 0].numel() // max(self.groups, 1) if self.weight.numel() else 0
        return {"out_channels": self.weight.shape[1] * self.groups, "groups": self.groups, "accumulated": per_output}


@dataclass(frozen=True, eq=False)
class LinearFp16(Operator):
    """x @ weight.T + bias on floats; weight float16 (out, in). Call: kernel(x float32 (..., in)) -> float32."""

    name: ClassVar[str] = "linear_fp16"
    weight: Tensor
    bias: Tensor | None = None
    relu: bool = False

    def extents(self) -> dict[str, int]:
        return {"out_features": self.weight.shape[0], "in_features": self.weight.shape[1]}


@dataclass(frozen=True, eq=False)
class Embedding(Operator):
    """Rows of a table; weight uint8 (rows, dim), quint8 or quint4x2 (a value to a byte), scale and zero point per row.

    `mapping`, for a pruned table, is int32 or int64 (indices,): the row of an index, -1 for one that is all zeros.
    Call: kernel(indices int32 or int64 (...)) -> float32 (..., dim). Raises ArgumentError for an index without a row.
    """

    name: ClassVar[str] = "embedding"
    weight: Tensor
    qweight: QParams
    mapping: Tensor | None = None


@dataclass(frozen=True, eq=False)
class EmbeddingBag(Operator):
    """Sums (or means) of bags of rows of a table as of Embedding; an empty bag gives zeros.

    Call: kernel(indices, offsets, per_sample_weights) -> float32 (bags, dim). Indices (bags, length) go without offsets
    (None); indices (n,) with offsets (bags,), where each bag starts, or (bags + 1,), the last being n, with
    `include_last_offset`. per_sample_weights (None, or float32 shaped like indices) scale the rows, for sums only.
    Raises ArgumentError for an index without a row, and for offsets that do not rise from 0 to n.
    """

    name: ClassVar[str] = "embedding_bag"
    weight: Tensor
    qweight: QParams
    mapping: Tensor | None = None
    mode: str = "sum"
    include_last_offset: bool = False
