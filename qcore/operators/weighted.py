"""Operators with weights: linear, convolutions, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from qcore.operators.base import FLOAT, UNARY, Operator
from qcore.operators.forms import LAST, Form, floats, like, windows
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
    call: ClassVar = UNARY

    def extents(self) -> dict[str, int]:
        return {"out_features": self.weight.shape[0], "in_features": self.weight.shape[1]}

    def forms(self, *call: Any) -> Sequence[Form]:
        x, _, out = call
        return [((*x.shape[:-1], self.weight.shape[0]), out.dtype.storage, torch.contiguous_format)]


@dataclass(frozen=True, eq=False)
class LinearDynamic(Weighted):
    """Linear on floats, quantized to uint8 on the way in. Call: kernel(x float32 (..., in)) -> float32 (..., out).

    Scale and zero point are chosen from the range of the whole of x, or of each row of (..., in) with `per_row`;
    `reduce_range` halves the integer range to 0..127.
    """

    name: ClassVar[str] = "linear_dynamic"
    call: ClassVar = FLOAT
    reduce_range: bool = False
    per_row: bool = False

    def extents(self) -> dict[str, int]:
        return {"out_features": self.weight.shape[0], "in_features": self.weight.shape[1]}

    def forms(self, *call: Any) -> Sequence[Form]:
        return [floats(*call[0].shape[:-1], self.weight.shape[0])]


@dataclass(frozen=True, eq=False)
class Conv(Weighted):
    """Convolution in 1 to 3 spatial dimensions; weight (out, in/groups, *kernel), channels on axis 0; pads by zeros.

    Call: kernel(x (batch, in, *spatial), qx, out) -> (batch, out, *spatial), channels_last in 2 and 3 dimensions.
    """

    name: ClassVar[str] = "conv"
    call: ClassVar = UNARY
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

    def forms(self, *call: Any) -> Sequence[Form]:
        x, _, out = call
        spatial = windows(x.shape[2:], self.weight.shape[2:], self.stride, self.padding, self.dilation)
        shape = (x.shape[0], self.weight.shape[0], *spatial)
        return [(shape, out.dtype.storage, LAST.get(len(shape), torch.contiguous_format))]


@dataclass(frozen=True, eq=False)
class ConvTranspose(Weighted):
    """Transposed convolution; weight (in, out/groups, *kernel), with channels on axis 1.

    With groups, channel c of the output uses the per-channel parameters c % (out/groups).

    Call: kernel(x (batch, in, *spatial), qx, out) -> (batch, out, *spatial).
    """

    name: ClassVar[str] = "conv_transpose"
    call: ClassVar = UNARY
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

    def forms(self, *call: Any) -> Sequence[Form]:
        x, _, out = call
        settings = self.weight.shape[2:], self.stride, self.padding, self.dilation, self.output_padding
        sizes = zip(x.shape[2:], *settings, strict=True)
        spatial = [(n - 1) * s - 2 * p + d * (k - 1) + extra + 1 for n, k, s, p, d, extra in sizes]
        return [like(x, (x.shape[0], self.weight.shape[1] * self.groups, *spatial), out.dtype.storage)]


@dataclass(frozen=True, eq=False)
class LinearFp16(Operator):
    """x @ weight.T + bias on floats; weight float16 (out, in). Call: kernel(x float32 (..., in)) -> float32."""

    name: ClassVar[str] = "linear_fp16"
    call: ClassVar = FLOAT
    weight: Tensor
    bias: Tensor | None = None
    relu: bool = False

    def extents(self) -> dict[str, int]:
        return {"out_features": self.weight.shape[0], "in_features": self.weight.shape[1]}

    def forms(self, *call: Any) -> Sequence[Form]:
        return [floats(*call[0].shape[:-1], self.weight.shape[0])]


@dataclass(frozen=True, eq=False)
class Embedding(Operator):
    """Rows of a table; weight uint8 (rows, dim), quint8 or quint4x2 (a value to a byte), scale and zero point per row.

    `mapping`, for a pruned table, is int32 or int64 (indices,): the row of an index, -1 for one that is all zeros.
    Call: kernel(indices int32 or int64 (...)) -> float32 (..., dim). Raises ArgumentError for an index without a row.
    """

    name: ClassVar[str] = "embedding"
    call: ClassVar = FLOAT
    weight: Tensor
    qweight: QParams
    mapping: Tensor | None = None

    def forms(self, *call: Any) -> Sequence[Form]:
        return [floats(*call[0].shape, self.weight.shape[1])]


@dataclass(frozen=True, eq=False)
class EmbeddingBag(Operator):
    """Sums (or means) of bags of rows of a table as of Embedding; an empty bag gives zeros.

    Call: kernel(indices, offsets, per_sample_weights) -> float32 (bags, dim). Indices (bags, length) go without offsets
    (None); indices (n,) with offsets (bags,), where each bag starts, or (bags + 1,), the last being n, with
    `include_last_offset`. per_sample_weights (None, or float32 shaped like indices) scale the rows, for sums only.
    Raises ArgumentError for an index without a row, and for offsets that do not rise from 0 to n.
    """

    name: ClassVar[str] = "embedding_bag"
    call: ClassVar = ("x", "offsets?", "per_sample_weights?")
    weight: Tensor
    qweight: QParams
    mapping: Tensor | None = None
    mode: str = "sum"
    include_last_offset: bool = False

    def forms(self, *call: Any) -> Sequence[Form]:
        x, offsets, _ = call
        bags = x.shape[0] if offsets is None else offsets.shape[0] - self.include_last_offset
        return [floats(bags, self.weight.shape[1])]
