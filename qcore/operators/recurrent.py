"""Recurrent layers and cells, on floats that are quantized on the way in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from qcore.operators.base import Frozen, Operator
from qcore.operators.forms import Form, floats
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, eq=False)
class CellWeights(Frozen):
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
    """Shared: the weights of all cells, all int8 or all float16; `reduce_range` and `per_row` as in LinearDynamic.

    A range is that of one linear's whole input: of a layer's input at all steps, or of the state at one.
    """

    cells: tuple[CellWeights, ...]
    reduce_range: bool = False
    per_row: bool = field(default=False, kw_only=True)

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

    def forms(self, *call: Any) -> Sequence[Form]:
        x, h, *_ = call
        if not hasattr(self, "bidirectional"):
            return [floats(*h.shape)] * self.results
        width = h.shape[2] * (2 if self.bidirectional else 1)
        return [floats(*x.shape[:-1], width), *[floats(*h.shape)] * (self.results - 1)]


@dataclass(frozen=True, eq=False)
class LSTM(_Recurrent):
    """Layers of long short-term memory over a sequence; `cells` by layer, forward before backward if `bidirectional`.

    Call: kernel(x float32 (time, batch, in), h, c (layers * directions, batch, hidden), batch_sizes) -> (y, h, c), y
    being (time, batch, directions * hidden). batch_sizes is None, or int64 (time,), falling, for a packed x (sum, in).
    """

    name: ClassVar[str] = "lstm"
    call: ClassVar = ("x", "h", "c", "batch_sizes?")
    results: ClassVar = 3
    bidirectional: bool = False


@dataclass(frozen=True, eq=False)
class GRU(_Recurrent):
    """Layers of gated recurrent units, as LSTM without c. Call: kernel(x, h, batch_sizes) -> (y, h)."""

    name: ClassVar[str] = "gru"
    call: ClassVar = ("x", "h", "batch_sizes?")
    results: ClassVar = 2
    bidirectional: bool = False


@dataclass(frozen=True, eq=False)
class LSTMCell(_Recurrent):
    """One step of one LSTM cell. Call: kernel(x float32 (batch, in), h (batch, hidden), c) -> (h, c)."""

    name: ClassVar[str] = "lstm_cell"
    call: ClassVar = ("x", "h", "c")
    results: ClassVar = 2


@dataclass(frozen=True, eq=False)
class GRUCell(_Recurrent):
    """One step of one GRU cell. Call: kernel(x float32 (batch, in), h (batch, hidden)) -> h."""

    name: ClassVar[str] = "gru_cell"
    call: ClassVar = ("x", "h")


@dataclass(frozen=True, eq=False)
class RNNCell(_Recurrent):
    """One step of an Elman cell, `nonlinearity` tanh or relu. Call: kernel(x (batch, in), h (batch, hidden)) -> h."""

    name: ClassVar[str] = "rnn_cell"
    call: ClassVar = ("x", "h")
    nonlinearity: str = "tanh"
