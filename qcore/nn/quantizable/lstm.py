"""An LSTM of layers and cells whose parts are quantized one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from qcore.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from qcore.nn.quantizable.base import Quantizable
from qcore.nn.quantizable.joins import joined
from qcore.nn.quantizable.lstm_cell import LSTMCell, State, zero_state
from qcore.tensor.arguments import check_number, check_type, check_whole
from qcore.tensor.qtensor import QTensor


class _Direction(nn.Module):
    """A cell run along a sequence (steps, batch, features)."""

    def __init__(self, cell: LSTMCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """All results (steps, batch, hidden), and the last state."""
        results = []
        for step in x.unbind(0):
            state = self.cell(step, state)
            results.append(state[0])
        return torch.stack(results, 0), state


class _Layer(nn.Module):
    """One layer: forwards, and backwards too where it is bidirectional."""

    def __init__(self, forwards: LSTMCell, backwards: LSTMCell | None) -> None:
        super().__init__()
        self.layer_fw = _Direction(forwards)
        if backwards is not None:
            self.layer_bw = _Direction(backwards)

    def forward(self, x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """All results, those of both directions side by side, and the last state of each direction."""
        result, last = self.layer_fw(x, states[0])
        if len(states) == 1:
            return result, [last]
        reversed_result, reversed_last = self.layer_bw(x.flip(0), states[1])
        return joined([result, reversed_result.flip(0)], 2), [last, reversed_last]


class LSTM(Quantizable):
    """x (steps, batch, input_size), or (batch, steps, input_size) with batch_first, or (steps, input_size) -> results,
    (h, c) as of nn.LSTM.

    Float tensors before convert, quantized ones after it, state too. `dropout` acts in training. Raises
    UnsupportedError for projections, ArgumentError for other shapes, ArgumentTypeError for packed sequences, which
    torch's has not either. Source of the equations: torch.nn.LSTM.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        split_gates: bool = False,
    ) -> None:
        super().__init__()
        check_whole(0, input_size=input_size, hidden_size=hidden_size)
        check_whole(1, 2**15, num_layers=num_layers)  # more would only fill the memory
        check_number(0, 1, dropout=dropout)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.layers = nn.ModuleList()
        for index in range(num_layers):
            size = hidden_size * (2 if bidirectional else 1) if index else input_size
            cells = [
                LSTMCell(size, hidden_size, bias, device, dtype, split_gates=split_gates)
                for _ in range(2 if bidirectional else 1)
            ]
            self.layers.append(_Layer(cells[0], cells[1] if bidirectional else None))

    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:
        """All results, and the last state: h and c of (layers * directions, batch, hidden_size)."""
        x, hidden = input, hx
        self._check(x)
        batched = x.dim() == 3
        if not batched:
            x, hidden = x.unsqueeze(1), None if hidden is None else (hidden[0].unsqueeze(1), hidden[1].unsqueeze(1))
        elif self.batch_first:
            x = x.transpose(0, 1)
        directions = 2 if self.bidirectional else 1
        states = self._states(x, hidden)
        last: list[list[Tensor]] = [[], []]
        for index, layer in enumerate(self.layers):
            x, found = layer(x, states[index * directions : (index + 1) * directions])
            for part in (0, 1):
                last[part].append(joined([state[part].unsqueeze(0) for state in found], 0))
            if self.training and index + 1 < self.num_layers and not isinstance(x, QTensor):
                x = F.dropout(x, self.dropout)
        h, c = (joined(of_layers, 0) for of_layers in last)
        if not batched:
            return x.squeeze(1), (h.squeeze(1), c.squeeze(1))
        return x.transpose(0, 1) if self.batch_first else x, (h, c)

    def flatten_parameters(self) -> None:
        """Nothing: nn.LSTM has it for the memory of a GPU, and callers call it."""

    def _check(self, x: Any) -> None:
        if isinstance(x, PackedSequence):
            raise ArgumentTypeError(
                f"{self._label()} takes no packed sequences: pad them, or use quantize_dynamic, whose LSTM takes them"
            )
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"{self._label()} takes a tensor; got a {type(x).__name__}")
        steps = 1 if self.batch_first and x.dim() == 3 else 0
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size or not x.shape[steps]:
            order = "(batch, steps" if self.batch_first else "(steps, batch"
            raise ArgumentError(
                f"{self._label()} takes {order}, {self.input_size}) of at least one step, or (steps, "
                f"{self.input_size}); got shape {tuple(x.shape)}"
            )

    def _states(self, x: Tensor, hidden: State | None) -> list[State]:
        """The first state of each direction of each layer."""
        shape = self.num_layers * (2 if self.bidirectional else 1), x.shape[1], self.hidden_size
        if hidden is None:
            zeros = zero_state(x, *shape[1:])
            return [(zeros, zeros)] * shape[0]
        check_type(self._label(), (tuple, list), hx=hidden)
        if len(hidden) != 2 or not all(isinstance(part, Tensor) for part in hidden):
            raise ArgumentTypeError(f"{self._label()}: hx must be two tensors, h_0 and c_0, or None")
        for name, part in zip(("h_0", "c_0"), hidden, strict=True):
            if tuple(part.shape) != shape:
                raise ArgumentError(f"{self._label()}: {name} must have shape {shape}; got {tuple(part.shape)}")
        return list(zip(hidden[0].unbind(0), hidden[1].unbind(0), strict=True))

    @classmethod
    def from_float(cls, other: Any, split_gates: bool = False) -> LSTM:
        """The LSTM in parts, for an nn.LSTM; ArgumentTypeError for anything else, UnsupportedError for projections."""
        if not isinstance(other, nn.LSTM):
            raise ArgumentTypeError(f"{cls.__name__}.from_float takes an nn.LSTM; got a {type(other).__name__}")
        if other.proj_size:
            raise UnsupportedError(f"quantizable LSTM has no projections (proj_size={other.proj_size})")
        made = cls(
            other.input_size,
            other.hidden_size,
            other.num_layers,
            other.bias,
            other.batch_first,
            other.dropout,
            other.bidirectional,
            split_gates=split_gates,
        )
        for index in range(other.num_layers):
            layer: Any = made.layers[index]
            layer.layer_fw.cell = _cell(other, f"l{index}", split_gates)
            if other.bidirectional:
                layer.layer_bw.cell = _cell(other, f"l{index}_reverse", split_gates)
        return made.train(other.training)

    def _get_name(self) -> str:
        return "QuantizableLSTM"


def _cell(other: nn.LSTM, suffix: str, split_gates: bool) -> LSTMCell:
    """A cell with copies of the parameters of one direction of one layer."""
    names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if other.bias else [])
    values = {
        short: getattr(other, f"{name}_{suffix}") for short, name in zip(("wi", "wh", "bi", "bh"), names, strict=False)
    }
    return LSTMCell.from_params(**values, split_gates=split_gates)
