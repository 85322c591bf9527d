"""Recurrent layers and cells: their linears quantized by range, their steps as an ONNX Scan over the sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan

from qcore import operators as ops
from qcore.onnx.dynamic import LinearDynamic, LinearFp16
from qcore.onnx.weights import Ends
from qcore.operators import CellWeights
from qcore.tensor.qparams import QParams

States: TypeAlias = "list[Tensor]"
Step: TypeAlias = Callable[[Tensor, Tensor, States], States]
"""From the linears of input and state, and the states, to the new states; the first of these is the output."""


def _lstm(a: Tensor, b: Tensor, states: States) -> States:
    i, f, g, o = (b + a).chunk(4, -1)
    c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


def _gru(a: Tensor, b: Tensor, states: States) -> States:
    (ar, az, an), (br, bz, bn) = a.chunk(3, -1), b.chunk(3, -1)
    n = torch.tanh(an + bn * torch.sigmoid(br + ar))
    return [(states[0] - n) * torch.sigmoid(bz + az) + n]


def _elman(nonlinearity: Callable[[Tensor], Tensor]) -> Step:
    return lambda a, b, states: [nonlinearity(b + a)]


def _step(operator: Any) -> Step:
    if isinstance(operator, ops.RNNCell):
        return _elman(torch.relu if operator.nonlinearity == "relu" else torch.tanh)
    return _lstm if isinstance(operator, ops.LSTM | ops.LSTMCell) else _gru


class _Weights(nn.Module):
    """The two linears of a cell."""

    def __init__(self, operator: Any, cell: CellWeights, unsigned: bool) -> None:
        super().__init__()
        self.input = _linear(operator, cell.w_ih, cell.q_ih, cell.b_ih, unsigned)
        self.state = _linear(operator, cell.w_hh, cell.q_hh, cell.b_hh, unsigned)


def _linear(operator: Any, weight: Tensor, q: QParams | None, bias: Tensor | None, unsigned: bool) -> nn.Module:
    if q is None:
        return LinearFp16(ops.LinearFp16(weight, bias), Ends(), unsigned)
    options = {"reduce_range": operator.reduce_range, "per_row": operator.per_row}
    return LinearDynamic(ops.LinearDynamic(weight, q, bias, **options), Ends(), unsigned)


class Cell(nn.Module):
    """One step of one cell."""

    def __init__(self, operator: Any, ends: Ends, unsigned: bool) -> None:
        super().__init__()
        self.step = _step(operator)
        self.weights = _Weights(operator, operator.cells[0], unsigned)

    def forward(self, x: Tensor, *states: Tensor) -> Any:
        """(batch, in), and (batch, hidden) of each state -> the new ones."""
        new = self.step(self.weights.input(x), self.weights.state(states[0]), list(states))
        return tuple(new) if len(new) > 1 else new[0]


class Layers(nn.Module):
    """Layers of cells over a sequence."""

    def __init__(self, operator: Any, ends: Ends, unsigned: bool) -> None:
        super().__init__()
        self.step = _step(operator)
        self.directions = 2 if operator.bidirectional else 1
        self.weights = nn.ModuleList(_Weights(operator, cell, unsigned) for cell in operator.cells)

    def forward(self, x: Tensor, *states: Any) -> Any:
        """(time, batch, in), states (cells, batch, hidden), None for batch sizes -> y, and the last states."""
        initial = states[:-1]
        last: list[States] = []
        for first in range(0, len(self.weights), self.directions):
            outputs = []
            for number in range(first, first + self.directions):
                carried, y = self._run(self.weights[number], x, [each[number] for each in initial], number > first)
                outputs.append(y)
                last.append(carried)
            x = torch.cat(outputs, -1)
        return (x, *(torch.stack(each) for each in zip(*last, strict=True)))

    def _run(self, weights: Any, x: Tensor, states: States, reverse: bool) -> tuple[States, Tensor]:
        def once(carried: States, a: Tensor) -> tuple[States, Tensor]:
            new = self.step(a, weights.state(carried[0]), carried)
            return new, new[0].clone()

        apart = [each.clone() for each in states]  # scan takes no two that share memory, as of one tensor given twice
        result: tuple[States, Tensor] = scan(once, apart, weights.input(x), reverse=reverse)
        return result
