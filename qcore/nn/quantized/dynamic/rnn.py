"""Recurrent networks with integer (or float16) weights on float sequences."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from qcore import operators as ops
from qcore.errors import ArgumentError, UnsupportedError
from qcore.nn.quantized.base import QuantizedModule, float_dtype_of
from qcore.nn.quantized.dynamic.cell_weights import LayerCell, float_cells
from qcore.nn.quantized.dynamic.options import dynamic_options, is_float16, reason_against_dynamic
from qcore.nn.weights import settled
from qcore.tensor.arguments import check_number, check_type, check_whole
from qcore.tensor.dtypes import QDType, qint8
from qcore.tensor.qparams import QParams


class Recurrent(QuantizedModule):
    """What LSTM and GRU share: layers of cells, one or two directions; arguments as of the float class, and `dtype`.

    `dtype` of the weights: qint8 or torch.float16. Inputs and states are quantized by their own range, or with
    `per_row` by that of each row (one step of one sequence); `reduce_range`, as torch has it, means 7 bits. There is no
    dropout between layers: that is for training.
    """

    compiles = True
    gates: ClassVar[int] = 0
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: Any = qint8,
    ) -> None:
        super().__init__()
        if proj_size:
            raise UnsupportedError(f"proj_size={proj_size}: no kernel projects the state; leave this module float")
        check_whole(0, input_size=input_size, hidden_size=hidden_size)
        check_whole(1, 2**15, num_layers=num_layers)  # more would only fill the memory
        check_number(0, 1, dropout=dropout)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.dtype = dtype
        self.reduce_range = True
        self.per_row = False
        directions = 2 if bidirectional else 1
        widths = [input_size if layer == 0 else directions * hidden_size for layer in range(num_layers)]
        cells = [LayerCell(self.gates, width, hidden_size, bias, dtype) for width in widths for _ in range(directions)]
        self._all_weight_values = nn.ModuleList(cells)

    @property
    def cells(self) -> list[LayerCell]:
        """One for each layer and direction, forward before backward."""
        return list(self._all_weight_values)  # type: ignore[arg-type]

    @property
    def float16(self) -> bool:
        """Whether the weights are float16."""
        return self.cells[0].float16

    @property
    def _qweight(self) -> QParams | None:
        return self.cells[0]._q_ih

    def activation_dtypes(self, input: QDType) -> tuple[QDType, ...]:
        """Activations are floats, quantized inside."""
        return ()

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """The activations must be for dynamic quantization, or the weight float16."""
        return reason_against_dynamic(qconfig)

    @classmethod
    def from_float(cls, mod: Any, use_precomputed_fake_quant: bool = False) -> Any:
        """The quantized network for a float one with a `qconfig`.

        Raises UnsupportedError for projections, QuantizationError for weights that are not finite.
        """
        mod = settled(mod)
        half = is_float16(mod.qconfig)
        quantized = cls(
            mod.input_size,
            mod.hidden_size,
            mod.num_layers,
            mod.bias,
            mod.batch_first,
            mod.dropout,
            mod.bidirectional,
            mod.proj_size,
            torch.float16 if half else qint8,
        )
        quantized.qcore_path = getattr(mod, "qcore_path", "")
        quantized._backend = getattr(mod, "qcore_backend", None)
        quantized.float_dtype = float_dtype_of(mod)
        if not half:
            quantized.per_row, quantized.reduce_range = dynamic_options(mod.qconfig.activation(), mod)
        for cell, tensors in zip(quantized.cells, float_cells(mod), strict=True):
            cell.take(tensors, mod)
        return quantized.train(mod.training)

    def get_weight(self) -> dict[str, Tensor]:
        """All weights by the names that the float class gives them."""
        pairs = [cell.weights() for cell in self.cells]
        return {f"{name}_{key}": pair[i] for key, pair in zip(self._keys(), pairs, strict=True) for i, name in _WEIGHTS}

    def get_bias(self) -> dict[str, Tensor | None]:
        """All biases by the names that the float class gives them."""
        pairs = [(cell._b_ih, cell._b_hh) for cell in self.cells]
        return {f"{name}_{key}": pair[i] for key, pair in zip(self._keys(), pairs, strict=True) for i, name in _BIASES}

    def _keys(self) -> list[str]:
        suffixes = ("", "_reverse") if self.bidirectional else ("",)
        return [f"l{layer}{suffix}" for layer in range(self.num_layers) for suffix in suffixes]

    def _run(self, input: Tensor | PackedSequence, states: list[Tensor] | None) -> tuple[Any, list[Tensor]]:
        """Output and final states, laid out as the input is."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, states)
        input = self._entered(input, "floats, which it quantizes itself")
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            raise ArgumentError(
                f"{self._label()} takes (time, batch, {self.input_size}), (time, {self.input_size}) or, with "
                f"batch_first, (batch, time, {self.input_size}); got shape {tuple(input.shape)}"
            )
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        y, *last = self._call(x, self._initial(states, x, x.shape[1], batched), None)
        if not batched:
            return y.squeeze(1), [state.squeeze(1) for state in last]
        return (y.transpose(0, 1) if self.batch_first else y), last

    def _run_packed(self, input: PackedSequence, states: list[Tensor] | None) -> tuple[Any, list[Tensor]]:
        data, batch_sizes, order, back = input
        if data.shape[-1] != self.input_size:
            raise ArgumentError(f"{self._label()} takes {self.input_size} features; got shape {tuple(data.shape)}")
        data = self._entered(data, "floats, which it quantizes itself")
        # a trace keeps a tensor's number as what it was computed from, and an int's as it is
        batch = batch_sizes[0] if torch._C._is_tracing() else int(batch_sizes[0])
        initial = self._initial(states, data, batch)
        if states is not None and order is not None:
            initial = [state.index_select(1, order) for state in initial]
        y, *last = self._call(data, initial, batch_sizes)
        if back is not None:
            last = [state.index_select(1, back) for state in last]
        return PackedSequence(y, batch_sizes, order, back), last

    def _call(self, x: Tensor, states: list[Tensor], batch_sizes: Tensor | None) -> Any:
        return self._compute(x, *states, batch_sizes)

    def _example(self) -> tuple[Any, ...]:
        return (torch.zeros(2, 2, self.input_size, dtype=torch.float32),)

    def _initial(self, states: list[Tensor] | None, x: Tensor, batch: Any, batched: bool = True) -> list[Tensor]:
        """The first states, (layers * directions, batch, hidden_size): those given, or zeros of the kind of x."""
        shape = (len(self.cells), batch, self.hidden_size)
        if states is None:
            return [x.new_zeros(shape) for _ in range(self.states)]
        states = [self._entered(state, "floats, as its state", "the state") for state in states]
        wanted = shape if batched else (shape[0], shape[2])
        for state in states:
            if tuple(state.shape) != wanted:
                raise ArgumentError(f"{self._label()}: a state must have shape {wanted}; got {tuple(state.shape)}")
        return states if batched else [state.unsqueeze(1) for state in states]

    def flatten_parameters(self) -> None:
        """Nothing: nn.LSTM and nn.GRU have it for the memory of a GPU, and callers call it."""

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "reduce_range": self.reduce_range, "per_row": self.per_row}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        self.reduce_range = bool(options.get("reduce_range", self.reduce_range))
        self.per_row = bool(options.get("per_row", self.per_row))

    def _get_name(self) -> str:
        return "DynamicQuantized" + type(self).__name__

    def __repr__(self) -> str:
        return f"{self._get_name()}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Sizes, and what differs from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        changed = {name: getattr(self, name) for name, usual in defaults.items() if getattr(self, name) != usual}
        return text + "".join(f", {name}={value}" for name, value in changed.items()) + f", dtype={self.dtype}"


_WEIGHTS = ((0, "weight_ih"), (1, "weight_hh"))
_BIASES = ((0, "bias_ih"), (1, "bias_hh"))


class LSTM(Recurrent):
    """Long short-term memory on float sequences; shapes, arguments and packed sequences as nn.LSTM.

    Raises ArgumentError for other shapes, UnsupportedError for `proj_size`. Arithmetic: docs/numerics.md, "lstm".
    """

    computes = "lstm"
    gates = 4
    states = 2

    def operator(self) -> ops.LSTM:
        """The operator with this module's weights."""
        cells = tuple(cell.cell() for cell in self.cells)
        return ops.LSTM(cells, self.reduce_range, self.bidirectional, per_row=self.per_row)

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """(time, batch, input_size), and (h, c) or None for zeros -> output, (h, c)."""
        if hx is not None:
            check_type(self._label(), (tuple, list), hx=hx)
        output, (h, c) = self._run(input, None if hx is None else list(hx))
        return output, (h, c)


class GRU(Recurrent):
    """Gated recurrent units on float sequences; shapes, arguments and packed sequences as nn.GRU.

    Raises ArgumentError for other shapes. Arithmetic: docs/numerics.md, "gru".
    """

    computes = "gru"
    gates = 3

    def operator(self) -> ops.GRU:
        """The operator with this module's weights."""
        cells = tuple(cell.cell() for cell in self.cells)
        return ops.GRU(cells, self.reduce_range, self.bidirectional, per_row=self.per_row)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """(time, batch, input_size), and h or None for zeros -> output, h."""
        output, (h,) = self._run(input, None if hx is None else [hx])
        return output, h
