"""Single recurrent cells on floats, with packed weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.binding import bind
from qcore.compat.ops.calls import operator
from qcore.compat.ops.linear import LinearPacked, LinearPackedFp16
from qcore.compat.ops.packed import packed_as
from qcore.errors import ArgumentTypeError


def _cell(w_ih: Any, w_hh: Any, name: str) -> tuple[ops.CellWeights, str | None]:
    kind = type(w_ih) if isinstance(w_ih, LinearPacked | LinearPackedFp16) else LinearPacked
    first, second = packed_as(kind, w_ih, name), packed_as(kind, w_hh, name)
    return ops.CellWeights(*_parts(first.weight), *_parts(second.weight), first.bias, second.bias), first.backend


def _parts(weight: Any) -> tuple[Tensor, Any]:
    """Integers and parameters; of a float16 weight, itself and None."""
    return getattr(weight, "raw", weight), getattr(weight, "qparams", None)


def _float(x: Any, name: str) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ArgumentTypeError(f"torch.ops.quantized.{name} takes float tensors and quantizes them itself")
    return x.float()


@operator
def quantized_lstm_cell_dynamic(
    input: Tensor, hx: Any, w_ih: Any, w_hh: Any, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: (batch, in), [h, c] -> h, c; the biases are those that were packed with the weights."""
    name = "quantized_lstm_cell_dynamic"
    cell, backend = _cell(w_ih, w_hh, name)
    h, c = bind(backend, ops.LSTMCell((cell,), True)).build()(*(_float(x, name) for x in (input, *hx)))
    return h, c


@operator
def quantized_gru_cell_dynamic(input: Tensor, hx: Tensor, w_ih: Any, w_hh: Any, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """One step of a GRU: (batch, in), h -> h; the biases are those that were packed with the weights."""
    return _step("quantized_gru_cell_dynamic", lambda cell: ops.GRUCell((cell,), True), input, hx, w_ih, w_hh)


@operator
def quantized_rnn_relu_cell_dynamic(
    input: Tensor, hx: Tensor, w_ih: Any, w_hh: Any, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    """One step of an Elman network with relu: (batch, in), h -> h; the biases are those packed with the weights."""
    return _step(
        "quantized_rnn_relu_cell_dynamic", lambda cell: ops.RNNCell((cell,), True, "relu"), input, hx, w_ih, w_hh
    )


@operator
def quantized_rnn_tanh_cell_dynamic(
    input: Tensor, hx: Tensor, w_ih: Any, w_hh: Any, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    """One step of an Elman network with tanh: (batch, in), h -> h; the biases are those packed with the weights."""
    return _step(
        "quantized_rnn_tanh_cell_dynamic", lambda cell: ops.RNNCell((cell,), True, "tanh"), input, hx, w_ih, w_hh
    )


def _step(name: str, make: Any, input: Any, hx: Any, w_ih: Any, w_hh: Any) -> Tensor:
    cell, backend = _cell(w_ih, w_hh, name)
    return bind(backend, make(cell)).build()(_float(input, name), _float(hx, name))  # type: ignore[no-any-return]
