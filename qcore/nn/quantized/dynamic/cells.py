"""Single recurrent cells with integer (or float16) weights on floats."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.nn.quantized.base import float_dtype_of
from qcore.nn.quantized.dynamic.cell_weights import CellHolder
from qcore.nn.quantized.dynamic.options import dynamic_options, is_float16, reason_against_dynamic
from qcore.nn.weights import settled
from qcore.tensor.arguments import check_whole
from qcore.tensor.dtypes import QDType, qint8
from qcore.tensor.qparams import QParams


class Cell(CellHolder):
    """What the single cells share; arguments as of the float class, and `dtype` of the weights."""

    compiles = True
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = qint8) -> None:
        super().__init__()
        check_whole(0, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.reduce_range = True
        self.per_row = False
        self._init_cell(self.gates, input_size, hidden_size, bias, dtype)

    @property
    def _qweight(self) -> QParams | None:
        return self._q_ih

    def activation_dtypes(self, input: QDType) -> tuple[QDType, ...]:
        """Activations are floats, quantized inside."""
        return ()

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """The activations must be for dynamic quantization, or the weight float16."""
        return reason_against_dynamic(qconfig)

    @classmethod
    def from_float(cls, mod: Any, use_precomputed_fake_quant: bool = False) -> Any:
        """The quantized cell for a float one with a `qconfig`; QuantizationError for weights that are not finite."""
        mod = settled(mod)
        half = is_float16(mod.qconfig)
        quantized = cls._sized(mod, torch.float16 if half else qint8)
        quantized.qcore_path = getattr(mod, "qcore_path", "")
        quantized._backend = getattr(mod, "qcore_backend", None)
        quantized.float_dtype = float_dtype_of(mod)
        if not half:
            quantized.per_row, quantized.reduce_range = dynamic_options(mod.qconfig.activation(), mod)
        quantized.take([mod.weight_ih, mod.weight_hh, mod.bias_ih, mod.bias_hh], mod)
        return quantized.train(mod.training)

    @classmethod
    def _sized(cls, mod: Any, dtype: Any) -> Any:
        return cls(mod.input_size, mod.hidden_size, mod.bias, dtype)

    def _step(self, input: Tensor, states: list[Tensor] | None) -> list[Tensor]:
        """The new states for an input (batch, input_size) or (input_size,)."""
        input = self._entered(input, "floats, which it quantizes itself")
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ArgumentError(
                f"{self._label()} takes (batch, {self.input_size}) or ({self.input_size},); got shape "
                f"{tuple(input.shape)}"
            )
        batched = input.ndim == 2
        x = input if batched else input.unsqueeze(0)
        shape = (x.shape[0], self.hidden_size)
        if states is None:
            states = [x.new_zeros(shape) for _ in range(self.states)]
        else:
            states = [self._entered(state, "floats, as its state", "the state") for state in states]
            wanted = shape if batched else shape[1:]
            if len(states) != self.states or any(tuple(state.shape) != wanted for state in states):
                raise ArgumentError(f"{self._label()}: a state must have shape {wanted}, as the input has")
            states = states if batched else [state.unsqueeze(0) for state in states]
        result = self._compute(x, *states)
        new = list(result) if self.states > 1 else [result]
        return new if batched else [state.squeeze(0) for state in new]

    def _example(self) -> tuple[Any, ...]:
        states = tuple(torch.zeros(2, self.hidden_size, dtype=torch.float32) for _ in range(self.states))
        return torch.zeros(2, self.input_size, dtype=torch.float32), states if self.states > 1 else states[0]

    def _values(self) -> dict[str, Any]:
        w_ih, w_hh = self.weights()
        return {"_packed_weight_ih": (w_ih, self._b_ih), "_packed_weight_hh": (w_hh, self._b_hh)}

    def _set_values(self, values: dict[str, Any]) -> None:
        (w_ih, b_ih), (w_hh, b_hh) = values["_packed_weight_ih"], values["_packed_weight_hh"]
        self.set_cell(w_ih, w_hh, b_ih, b_hh)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "reduce_range": self.reduce_range, "per_row": self.per_row}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        self.reduce_range = bool(options.get("reduce_range", self.reduce_range))
        self.per_row = bool(options.get("per_row", self.per_row))

    def _get_name(self) -> str:
        return "DynamicQuantized" + type(self).__name__

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class LSTMCell(Cell):
    """One step of an LSTM on floats: (batch, input_size), (h, c) -> (h, c); arguments as nn.LSTMCell.

    Raises ArgumentError for other shapes. Arithmetic: docs/numerics.md, "lstm".
    """

    computes = "lstm_cell"
    gates = 4
    states = 2

    def operator(self) -> ops.LSTMCell:
        """The operator with this module's weights."""
        return ops.LSTMCell((self.cell(),), self.reduce_range, per_row=self.per_row)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(batch, input_size), and (h, c) or None for zeros -> (h, c)."""
        h, c = self._step(input, None if hx is None else list(hx))
        return h, c


class GRUCell(Cell):
    """One step of a GRU on floats: (batch, input_size), h -> h; arguments as nn.GRUCell.

    Raises ArgumentError for other shapes. Arithmetic: docs/numerics.md, "gru".
    """

    computes = "gru_cell"
    gates = 3

    def operator(self) -> ops.GRUCell:
        """The operator with this module's weights."""
        return ops.GRUCell((self.cell(),), self.reduce_range, per_row=self.per_row)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(batch, input_size), and h or None for zeros -> h."""
        return self._step(input, None if hx is None else [hx])[0]


class RNNCell(Cell):
    """One step of an Elman network on floats: (batch, input_size), h -> h; arguments as nn.RNNCell.

    Raises ArgumentError for other shapes or nonlinearities. Arithmetic: docs/numerics.md, "rnn_cell".
    """

    computes = "rnn_cell"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = qint8,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"nonlinearity={nonlinearity!r} is neither 'tanh' nor 'relu'")
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

    @classmethod
    def _sized(cls, mod: Any, dtype: Any) -> Any:
        return cls(mod.input_size, mod.hidden_size, mod.bias, mod.nonlinearity, dtype)

    def operator(self) -> ops.RNNCell:
        """The operator with this module's weights."""
        return ops.RNNCell((self.cell(),), self.reduce_range, self.nonlinearity, per_row=self.per_row)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(batch, input_size), and h or None for zeros -> h."""
        return self._step(input, None if hx is None else [hx])[0]
