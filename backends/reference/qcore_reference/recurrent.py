"""LSTM, GRU and single cells on floats, their linears quantized dynamically or in float16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.errors import ArgumentError
from qcore.operators import GRU, LSTM, CellWeights, GRUCell, LinearDynamic, LinearFp16, LSTMCell, RNNCell
from qcore.tensor.qparams import QParams
from qcore_reference.gates import sigmoid, tanh
from qcore_reference.linear import LIMITS
from qcore_reference.linear_dynamic import build_linear_dynamic
from qcore_reference.linear_fp16 import build_linear_fp16
from qcore_reference.weighted import WEIGHTS

OPS = tuple(
    OpSpec(operator, activations=(), weights=WEIGHTS, options=("per_row", "reduce_range", "float16"), limits=LIMITS)
    for operator in (LSTM, GRU, LSTMCell, GRUCell, RNNCell)
)

State = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, State], State]
"""From the linears of input and state, and the former state, to the new state."""


def lstm_step(a: Tensor, b: Tensor, state: State) -> State:
    """c' = f * c + i * g and h' = o * tanh(c'), with the gates i, f, o = sigmoid(b + a) and g = tanh(b + a)."""
    i, f, g, o = (b + a).chunk(4, dim=-1)
    c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gru_step(a: Tensor, b: Tensor, state: State) -> State:
    """h' = (h - n) * z + n, with r, z = sigmoid(b + a) and n = tanh(a + b * r)."""
    r, z, _ = (b + a).chunk(3, dim=-1)
    n = tanh(a.chunk(3, dim=-1)[2] + b.chunk(3, dim=-1)[2] * sigmoid(r))
    return ((state[0] - n) * sigmoid(z) + n,)


def rnn_tanh_step(a: Tensor, b: Tensor, state: State) -> State:
    """h' = tanh(b + a)."""
    return (tanh(b + a),)


def rnn_relu_step(a: Tensor, b: Tensor, state: State) -> State:
    """h' = max(b + a, 0)."""
    return ((b + a).clamp(min=0),)


@dataclass(frozen=True)
class Cell:
    """The two linears of a cell, and what it does with them."""

    input: Kernel
    state: Kernel
    step: Step

    @classmethod
    def of(cls, weights: CellWeights, step: Step, operator: Any) -> Cell:
        return cls(
            _linear(weights.w_ih, weights.q_ih, weights.b_ih, operator),
            _linear(weights.w_hh, weights.q_hh, weights.b_hh, operator),
            step,
        )

    def once(self, x: Tensor, state: State) -> State:
        """One step. Raises ArgumentError for other than (batch, in) and (batch, hidden) of one batch."""
        if any(part.ndim != 2 or len(part) != len(x) for part in (x, *state)):
            shapes = ", ".join(str(tuple(part.shape)) for part in (x, *state))
            raise ArgumentError(f"x and the states of a cell must be (batch, features) of one batch; got {shapes}")
        return self.step(self.input(x), self.state(state[0]), state)

    def sequence(self, x: Tensor, state: State, batch_sizes: list[int], reverse: bool) -> tuple[Tensor, State]:
        """All steps of a packed sequence; the linear of the input is one for all of it, with one range."""
        inputs = self.input(x).split(batch_sizes)
        outputs: list[Tensor] = []
        for a in reversed(inputs) if reverse else inputs:
            rows = len(a)
            current = tuple(part[:rows] for part in state)
            new = self.step(a, self.state(current[0]), current)
            outputs.append(new[0])
            state = tuple(torch.cat((part, former[rows:])) for part, former in zip(new, state, strict=True))
        return torch.cat(outputs[::-1] if reverse else outputs), state


def _linear(weight: Tensor, qweight: QParams | None, bias: Tensor | None, operator: Any) -> Kernel:
    if qweight is None:
        return build_linear_fp16(LinearFp16(weight, bias))
    options = {"reduce_range": operator.reduce_range, "per_row": operator.per_row}
    return build_linear_dynamic(LinearDynamic(weight, qweight, bias, **options))


def _layers(operator: LSTM | GRU, step: Step) -> Callable[[Tensor, State, Tensor | None], tuple[Tensor, State]]:
    cells = [Cell.of(weights, step, operator) for weights in operator.cells]
    directions = 2 if operator.bidirectional else 1

    def run(x: Tensor, states: State, batch_sizes: Tensor | None) -> tuple[Tensor, State]:
        for state in states:
            if state.ndim != 3 or len(state) != len(cells):
                raise ArgumentError(
                    f"{operator.name}: the initial state must be ({len(cells)}, batch, hidden), for each layer and "
                    f"direction; got {tuple(state.shape)}"
                )
        y, sizes = (
            (x, batch_sizes.tolist()) if batch_sizes is not None else (x.flatten(0, 1), [x.shape[1]] * x.shape[0])
        )
        if not sizes or sizes[0] != states[0].shape[1] or sum(sizes) != len(y) or sizes != sorted(sizes, reverse=True):
            raise ArgumentError(
                f"{operator.name}: batch sizes {sizes} must not be empty, start with the batch of the state, "
                f"{states[0].shape[1]}, never rise, and sum to the rows of x, {len(y)}"
            )
        final: list[State] = []
        for first in range(0, len(cells), directions):
            outputs = []
            for direction in range(directions):
                start = tuple(part[first + direction] for part in states)
                output, state = cells[first + direction].sequence(y, start, sizes, reverse=direction == 1)
                outputs.append(output)
                final.append(state)
            y = torch.cat(outputs, dim=-1)
        if batch_sizes is None:
            y = y.unflatten(0, x.shape[:2])
        return y, tuple(torch.stack(parts) for parts in zip(*final, strict=True))

    return run


def build_lstm(operator: LSTM) -> Kernel:
    run = _layers(operator, lstm_step)

    def lstm(x: Tensor, h: Tensor, c: Tensor, batch_sizes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = run(x, (h, c), batch_sizes)
        return y, h, c

    return lstm


def build_gru(operator: GRU) -> Kernel:
    run = _layers(operator, gru_step)

    def gru(x: Tensor, h: Tensor, batch_sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        y, (h,) = run(x, (h,), batch_sizes)
        return y, h

    return gru


def build_lstm_cell(operator: LSTMCell) -> Kernel:
    cell = Cell.of(operator.cells[0], lstm_step, operator)

    def lstm_cell(x: Tensor, h: Tensor, c: Tensor) -> State:
        return cell.once(x, (h, c))

    return lstm_cell


def build_gru_cell(operator: GRUCell) -> Kernel:
    return _one_state(Cell.of(operator.cells[0], gru_step, operator))


def build_rnn_cell(operator: RNNCell) -> Kernel:
    steps = {"tanh": rnn_tanh_step, "relu": rnn_relu_step}
    if operator.nonlinearity not in steps:
        raise ArgumentError(f"rnn_cell: nonlinearity {operator.nonlinearity!r} is not one of {', '.join(steps)}")
    return _one_state(Cell.of(operator.cells[0], steps[operator.nonlinearity], operator))


def _one_state(cell: Cell) -> Kernel:
    def once(x: Tensor, h: Tensor) -> Tensor:
        return cell.once(x, (h,))[0]

    return once


KERNELS = {
    LSTM: build_lstm,
    GRU: build_gru,
    LSTMCell: build_lstm_cell,
    GRUCell: build_gru_cell,
    RNNCell: build_rnn_cell,
}
