"""The operators a backend can run. Each is built once, from constants and attributes, and called many times.

`Backend.build(operator)` returns a kernel: a callable on plain integer (or float) tensors and their QParams, that
takes and returns what the operator's docstring says under "Call". Weights are canonical: int8 integers in torch's
layout with their QParams; packing them is the kernel's business. Arithmetic: docs/numerics.md, to the bit.

Names in the call lines: x, a, b: integer tensors; qx, qa, qb: their QParams (per tensor); out: QParams of the result.
An activation's memory format carries over: channels_last in, channels_last out; values never depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from qcore.tensor.qparams import QParams


@dataclass(frozen=True)
class Operator:
    """One operator with all that is known of it before it runs."""

    name: ClassVar[str]

    @property
    def fused(self) -> tuple[str, ...]:
        """Names of the operations fused after this one."""
        return ("relu",) if getattr(self, "relu", False) else ()

    def extents(self) -> dict[str, int]:
        """Sizes that a declaration may limit, by name."""
        return {}

    @property
    def spatial(self) -> int | None:
        """Number of spatial dimensions, for convolutions and pooling."""
        return None

    def __str__(self) -> str:
        return " + ".join((self.name, *self.fused))


# --- between float and integer --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantize(Operator):
    """Float to integer. Call: kernel(x float32, out) -> integer tensor; `out` per tensor or per channel.

    `float_zero_points`: whether the zero points of `out` are float32 (the scheme per_channel_affine_float_qparams).
    """

    name: ClassVar[str] = "quantize"
    float_zero_points: bool = False


@dataclass(frozen=True)
class Dequantize(Operator):
    """Integer to float. Call: kernel(x, qx) -> float32 tensor; `qx` per tensor or per channel.

    `float_zero_points`: whether the zero points of `qx` are float32 (the scheme per_channel_affine_float_qparams).
    """

    name: ClassVar[str] = "dequantize"
    float_zero_points: bool = False


# --- with weights ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Weighted(Operator):
    """One integer weight: `weight` int8, `qweight` per tensor or per channel, `bias` float32 or None."""

    weight: Tensor
    qweight: QParams
    bias: Tensor | None = None
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Linear(_Weighted):
    """x @ weight.T + bias; weight (out, in), channels on axis 0. Call: kernel(x (..., in), qx, out) -> (..., out)."""

    name: ClassVar[str] = "linear"

    def extents(self) -> dict[str, int]:
        return {"out_features": self.weight.shape[0], "in_features": self.weight.shape[1]}


@dataclass(frozen=True, eq=False)
class LinearDynamic(_Weighted):
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
class Conv(_Weighted):
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
class ConvTranspose(_Weighted):
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


# --- recurrent, on floats that are quantized on the way in ----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CellWeights:
    """Weights of one layer and direction: for its input (gates * hidden, in), for its state (gates * hidden, hidden).

    int8 with QParams per tensor or per channel on axis 0; or float16, without. Biases are float32 or None. Gates are
    stacked in torch's order: input, forget, cell, output of LSTM; reset, update, new of GRU.
    """

    w_ih: Tensor
    q_ih: QParams | None
    w_hh: Tensor
    q_hh: QParams | None
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Recurrent(Operator):
    """Shared: the weights of all cells, all int8 or all float16; `reduce_range` as in LinearDynamic."""

    cells: tuple[CellWeights, ...]
    reduce_range: bool = False

    @property
    def qweight(self) -> QParams | None:
        """Parameters that stand for those of all weights where these are int8; None for float16."""
        return self.cells[0].q_ih

    @property
    def float16(self) -> bool:
        """Whether the weights are float16."""
        return self.qweight is None

    def extents(self) -> dict[str, int]:
        return {"in_features": max(max(cell.w_ih.shape[1], cell.w_hh.shape[1]) for cell in self.cells)}


@dataclass(frozen=True, eq=False)
class LSTM(_Recurrent):
    """Layers of long short-term memory over a sequence; `cells` by layer, forward before backward if `bidirectional`.

    Call: kernel(x float32 (time, batch, in), h, c (layers * directions, batch, hidden), batch_sizes) -> (y, h, c), y
    being (time, batch, directions * hidden). batch_sizes is None, or int64 (time,), falling, for a packed x (sum, in).
    """

    name: ClassVar[str] = "lstm"
    bidirectional: bool = False


@dataclass(frozen=True, eq=False)
class GRU(_Recurrent):
    """Layers of gated recurrent units, as LSTM without c. Call: kernel(x, h, batch_sizes) -> (y, h)."""

    name: ClassVar[str] = "gru"
    bidirectional: bool = False


@dataclass(frozen=True, eq=False)
class LSTMCell(_Recurrent):
    """One step of one LSTM cell. Call: kernel(x float32 (batch, in), h (batch, hidden), c) -> (h, c)."""

    name: ClassVar[str] = "lstm_cell"


@dataclass(frozen=True, eq=False)
class GRUCell(_Recurrent):
    """One step of one GRU cell. Call: kernel(x float32 (batch, in), h (batch, hidden)) -> h."""

    name: ClassVar[str] = "gru_cell"


@dataclass(frozen=True, eq=False)
class RNNCell(_Recurrent):
    """One step of an Elman cell, `nonlinearity` tanh or relu. Call: kernel(x (batch, in), h (batch, hidden)) -> h."""

    name: ClassVar[str] = "rnn_cell"
    nonlinearity: str = "tanh"


# --- elementwise ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Add(Operator):
    """a + b of broadcastable shapes. Call: kernel(a, qa, b, qb, out)."""

    name: ClassVar[str] = "add"
    relu: bool = False


@dataclass(frozen=True)
class Mul(Operator):
    """a * b of broadcastable shapes. Call: kernel(a, qa, b, qb, out)."""

    name: ClassVar[str] = "mul"
    relu: bool = False


@dataclass(frozen=True)
class Clamp(Operator):
    """Clamp to real bounds (None: open); relu is low=0, relu6 is 0 and 6. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "clamp"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Lookup(Operator):
    """A function of one variable through a table of all integers of x's dtype. Call: kernel(x, qx, out).

    `function` is a key of qcore.tables.FUNCTIONS; `args` are its parameters.
    """

    name: ClassVar[str] = "lookup"
    function: str = ""
    args: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.function}"


@dataclass(frozen=True, eq=False)
class PReLU(Operator):
    """x above zero, x * weight below; 8-bit weight (1,) or (channels,) of axis 1. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "prelu"
    weight: Tensor
    qweight: QParams


@dataclass(frozen=True)
class Softmax(Operator):
    """exp(x) over its sum along `dim`. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "softmax"
    dim: int = -1


# --- shape and reduction --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cat(Operator):
    """Concatenation along `dim`, each input requantized to `out`. Call: kernel(xs list, qxs list, out)."""

    name: ClassVar[str] = "cat"
    dim: int = 0
    relu: bool = False


@dataclass(frozen=True)
class MaxPool(Operator):
    """Max pooling over the last len(kernel_size) dimensions. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "max_pool"
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    ceil_mode: bool = False

    @property
    def spatial(self) -> int:
        return len(self.kernel_size)


@dataclass(frozen=True)
class AvgPool(Operator):
    """Average pooling over the last len(kernel_size) dimensions. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "avg_pool"
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @property
    def spatial(self) -> int:
        return len(self.kernel_size)


@dataclass(frozen=True)
class AdaptiveAvgPool(Operator):
    """Average pooling to a given size (None keeps that of x). Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "adaptive_avg_pool"
    output_size: tuple[int | None, ...] = ()

    @property
    def spatial(self) -> int:
        return len(self.output_size)


@dataclass(frozen=True)
class Mean(Operator):
    """Mean over `dims` (empty: all). Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "mean"
    dims: tuple[int, ...] = ()
    keepdim: bool = False


@dataclass(frozen=True)
class Interpolate(Operator):
    """Resampling by `mode` nearest (1 to 3 dimensions) or bilinear (2). Call: kernel(x, qx) -> same QParams as x.

    One of `size` and `scale_factor` is given, for each spatial dimension of x (batch, channels, *spatial).
    """

    name: ClassVar[str] = "interpolate"
    size: tuple[int, ...] | None = None
    scale_factor: tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool = False


# --- normalization --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BatchNorm(Operator):
    """Normalization by fixed statistics, one per channel of axis 1; float32 constants. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "batch_norm"
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    eps: float = 1e-5
    relu: bool = False


@dataclass(frozen=True, eq=False)
class LayerNorm(Operator):
    """Normalization over the last len(normalized_shape) dimensions. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "layer_norm"
    normalized_shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float = 1e-5


@dataclass(frozen=True, eq=False)
class GroupNorm(Operator):
    """Normalization over each of `num_groups` groups of channels of axis 1. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "group_norm"
    num_groups: int
    weight: Tensor | None
    bias: Tensor | None
    eps: float = 1e-5


@dataclass(frozen=True, eq=False)
class InstanceNorm(Operator):
    """Normalization of each sample's channels by their own statistics. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "instance_norm"
    weight: Tensor | None
    bias: Tensor | None
    eps: float = 1e-5


def operators() -> dict[str, type[Operator]]:
    """Every operator by its name."""
    found: dict[str, type[Operator]] = {}
    pending: list[type[Operator]] = list(Operator.__subclasses__())
    while pending:
        item = pending.pop()
        pending.extend(item.__subclasses__())
        if "name" in vars(item):
            found[item.name] = item
    return dict(sorted(found.items()))


def is_constant_free(operator: Operator) -> bool:
    """Whether the operator holds no tensors, so that one kernel serves every use of it."""
    holds_tensors = any(isinstance(value, Tensor | QParams) for value in _values(operator))
    return not holds_tensors and not hasattr(operator, "cells")


def _values(operator: Operator) -> list[Any]:
    return [getattr(operator, field.name) for field in fields(operator)]
