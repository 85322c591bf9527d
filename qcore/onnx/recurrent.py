"""LSTM with integer weights, layer by layer, as ONNX Runtime's DynamicQuantizeLSTM takes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore.nn.quantized.dynamic.rnn import LSTM
from qcore.onnx.floats import as_unsigned
from qcore.operators import CellWeights

_ORDER = (0, 3, 1, 2)
"""torch's gates (input, forget, cell, output) in ONNX's order: input, output, forget, cell."""


class DynamicLSTM(nn.Module):
    """Arguments and results as nn.LSTM, without packed sequences."""

    def __init__(self, lstm: LSTM, unsigned: bool) -> None:
        super().__init__()
        self.batch_first = lstm.batch_first
        self.hidden_size = lstm.hidden_size
        self.directions = 2 if lstm.bidirectional else 1
        cells = [holder.cell() for holder in lstm.cells]
        self.layers = nn.ModuleList(
            _Layer(cells[first : first + self.directions], unsigned) for first in range(0, len(cells), self.directions)
        )

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(time, batch, in) -> (time, batch, directions * hidden), (h, c)."""
        x = x.transpose(0, 1) if self.batch_first else x
        hs, cs = [], []
        for number, layer in enumerate(self.layers):
            if hx is None:
                h = c = x.new_zeros((self.directions, x.shape[1], self.hidden_size))
            else:
                part = slice(number * self.directions, (number + 1) * self.directions)
                h, c = hx[0][part], hx[1][part]
            y, h, c = layer(x, h, c)
            x = y.transpose(1, 2).flatten(2)
            hs.append(h)
            cs.append(c)
        return (x.transpose(0, 1) if self.batch_first else x), (torch.cat(hs), torch.cat(cs))


class _Layer(nn.Module):
    """x (time, batch, in), states (directions, batch, hidden) -> y (time, directions, batch, hidden), h, c.

    It is only recorded: torch has nothing that runs this operator.
    """

    w: Tensor
    r: Tensor
    w_scale: Tensor
    r_scale: Tensor
    zero_point: Tensor
    bias: Tensor

    def __init__(self, cells: list[CellWeights], unsigned: bool) -> None:
        super().__init__()
        for name, weights in (("w", [cell.w_ih for cell in cells]), ("r", [cell.w_hh for cell in cells])):
            stacked = torch.stack([_by_gate(weight).t() for weight in weights]).contiguous()
            self.register_buffer(name, as_unsigned(stacked) if unsigned else stacked)
        self.register_buffer("w_scale", torch.stack([_scales(cell.q_ih, cell.w_ih) for cell in cells]))
        self.register_buffer("r_scale", torch.stack([_scales(cell.q_hh, cell.w_hh) for cell in cells]))
        self.register_buffer("zero_point", torch.full(self.w_scale.shape, 128 if unsigned else 0, dtype=self.w.dtype))
        self.register_buffer("bias", torch.stack([_biases(cell) for cell in cells]))

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
        state = tuple(h.shape)
        return torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::DynamicQuantizeLSTM",
            (
                x,
                self.w,
                self.r,
                self.bias,
                None,
                h,
                c,
                None,
                self.w_scale,
                self.zero_point,
                self.r_scale,
                self.zero_point,
            ),
            {"direction": "bidirectional" if state[0] == 2 else "forward", "hidden_size": state[2]},
            dtypes=(x.dtype, x.dtype, x.dtype),
            shapes=((x.shape[0], *state), state, state),
            version=1,
        )


def _by_gate(stacked: Tensor) -> Tensor:
    """Rows (4 * hidden, ...) in ONNX's order of gates."""
    return torch.cat([stacked.chunk(4)[gate] for gate in _ORDER])


def _scales(qparams: Any, weight: Tensor) -> Tensor:
    return _by_gate(torch.as_tensor(qparams.scale, dtype=torch.float32).expand(weight.shape[0]))


def _biases(cell: CellWeights) -> Tensor:
    zeros = torch.zeros(cell.w_ih.shape[0])
    return torch.cat([_by_gate(zeros if bias is None else bias) for bias in (cell.b_ih, cell.b_hh)])
