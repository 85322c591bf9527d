"""LSTM, GRU and single cells, and linear with float16 weights: a call of all layers and steps is one native call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, empty, float32, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.native.weighted import constants
from qcore.tensor.qparams import QParams


class LinearFp16:
    """kernel(x) -> y"""

    def __init__(self, operator: ops.LinearFp16, native: Any) -> None:
        bias = None if operator.bias is None else operator.bias.detach().float().contiguous()
        self._run = native.linear_half(operator.weight.detach().contiguous(), bias, operator.relu).run
        self._features = operator.weight.shape[:1]

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = empty(x.shape[:-1] + self._features, dtype=float32)
        self._run(x, y, get_num_threads())
        return y


def packed(operator: Any, kind: str, native: Any, directions: int = 1) -> Any:
    """The native layers with the weights of the operator's cells."""
    cells = [
        (_weight(cell.w_ih, cell.q_ih, cell.b_ih), _weight(cell.w_hh, cell.q_hh, cell.b_hh)) for cell in operator.cells
    ]
    return native.recurrent(kind, directions, cells, operator.reduce_range, operator.per_row, operator.float16)


def _weight(weight: Tensor, qweight: QParams | None, bias: Tensor | None) -> tuple[Any, ...]:
    weight = weight.detach().contiguous()
    if qweight is None:
        return weight, None, None, False, None if bias is None else bias.detach().float().contiguous()
    return weight, *constants(ops.LinearDynamic(weight, qweight, bias))


def _copy(state: Tensor) -> Tensor:
    return state.clone(memory_format=torch.contiguous_format)


class _Layers:
    """The result of a call on a sequence: y, and the last state in place of the copies of the first that are given."""

    def __init__(self, operator: ops.LSTM | ops.GRU, native: Any) -> None:
        directions = 2 if operator.bidirectional else 1
        self._run = packed(operator, operator.name, native, directions).run
        self._features = (directions * operator.cells[0].w_hh.shape[1],)

    def _call(self, x: Tensor, h: Tensor, c: Tensor | None, batch_sizes: Tensor | None) -> Tensor:
        x = x.contiguous()
        y = empty(x.shape[:-1] + self._features, dtype=float32)
        sizes = None if batch_sizes is None else batch_sizes.contiguous()
        self._run(x, sizes, h, c, y, get_num_threads())
        return y


class LSTM(_Layers):
    """kernel(x, h, c, batch_sizes) -> y, h, c"""

    def __call__(self, x: Tensor, h: Tensor, c: Tensor, batch_sizes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        h, c = _copy(h), _copy(c)
        return self._call(x, h, c, batch_sizes), h, c


class GRU(_Layers):
    """kernel(x, h, batch_sizes) -> y, h"""

    def __call__(self, x: Tensor, h: Tensor, batch_sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        h = _copy(h)
        return self._call(x, h, None, batch_sizes), h


class LSTMCell:
    """kernel(x, h, c) -> h, c"""

    def __init__(self, operator: ops.LSTMCell, native: Any) -> None:
        self._step = packed(operator, "lstm", native).step

    def __call__(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h, c = _copy(h), _copy(c)
        self._step(x.contiguous(), h, c, get_num_threads())
        return h, c


class _OneState:
    """kernel(x, h) -> h"""

    def __init__(self, operator: Any, kind: str, native: Any) -> None:
        self._step = packed(operator, kind, native).step

    def __call__(self, x: Tensor, h: Tensor) -> Tensor:
        h = _copy(h)
        self._step(x.contiguous(), h, None, get_num_threads())
        return h


class GRUCell(_OneState):
    def __init__(self, operator: ops.GRUCell, native: Any) -> None:
        super().__init__(operator, "gru", native)


class RNNCell(_OneState):
    def __init__(self, operator: ops.RNNCell, native: Any) -> None:
        if operator.nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"rnn_cell: nonlinearity {operator.nonlinearity!r} is not one of tanh, relu")
        super().__init__(operator, f"rnn_{operator.nonlinearity}", native)
