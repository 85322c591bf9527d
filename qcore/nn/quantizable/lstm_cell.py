"""An LSTM cell of Linear layers, additions and products that are quantized one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.float_functional import FloatFunctional
from qcore.nn.quantizable.base import Quantizable
from qcore.tensor.arguments import OF_ARGUMENTS, check_type
from qcore.tensor.functions import quantize_per_tensor
from qcore.tensor.qtensor import QTensor

State = tuple[Tensor, Tensor]
GATES = ("input", "forget", "cell", "output")


class LSTMCell(Quantizable):
    """One step of an LSTM: x (batch, input_dim), state of two (batch, hidden_dim) -> the next state.

    Float tensors before convert, quantized ones after it. `split_gates`: a Linear of its own for each gate, with a
    scale of its own. Source of the equations: torch.nn.LSTMCell.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        split_gates: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_dim
        self.hidden_size = hidden_dim
        self.bias = bias
        self.split_gates = split_gates
        self.igates: Any
        self.hgates: Any
        self.gates: Any
        if split_gates:
            self.igates = nn.ModuleDict({gate: nn.Linear(input_dim, hidden_dim, bias, device, dtype) for gate in GATES})
            self.hgates = nn.ModuleDict(
                {gate: nn.Linear(hidden_dim, hidden_dim, bias, device, dtype) for gate in GATES}
            )
            self.gates = nn.ModuleDict({gate: FloatFunctional() for gate in GATES})
        else:
            self.igates = nn.Linear(input_dim, 4 * hidden_dim, bias, device, dtype)
            self.hgates = nn.Linear(hidden_dim, 4 * hidden_dim, bias, device, dtype)
            self.gates = FloatFunctional()
        self.input_gate = nn.Sigmoid()
        self.forget_gate = nn.Sigmoid()
        self.cell_gate = nn.Tanh()
        self.output_gate = nn.Sigmoid()
        self.fgate_cx = FloatFunctional()
        self.igate_cgate = FloatFunctional()
        self.fgate_cx_igate_cgate = FloatFunctional()
        self.ogate_cy = FloatFunctional()

    def forward(self, x: Tensor, hidden: State | None = None) -> State:
        """The state after x; it starts with zeros."""
        try:
            return self._step(x, hidden)
        except OF_ARGUMENTS:
            self._check(x, hidden)  # only here, as an LSTM takes many steps
            raise

    def _step(self, x: Tensor, hidden: State | None) -> State:
        if hidden is None:
            zeros = zero_state(x, x.shape[0], self.hidden_size)
            hidden = zeros, zeros
        h, c = hidden
        entering, forgetting, new, leaving = self._gate_inputs(x, h)
        kept = self.fgate_cx.mul(self.forget_gate(forgetting), c)
        added = self.igate_cgate.mul(self.input_gate(entering), self.cell_gate(new))
        c = self.fgate_cx_igate_cgate.add(kept, added)
        return self.ogate_cy.mul(self.output_gate(leaving), torch.tanh(c)), c

    def _check(self, x: Any, hidden: Any) -> None:
        """ArgumentTypeError, or ArgumentError for the shape, of what is no input and state."""
        check_type(self._label(), Tensor, x=x)
        states = () if hidden is None else hidden
        check_type(self._label(), (tuple, list), hidden=states)
        if len(states) not in (0, 2) or not all(isinstance(state, Tensor) for state in states):
            raise ArgumentTypeError(f"{self._label()}: hidden must be two tensors, h and c, or None")
        for name, each in zip(("x", "h", "c"), (x, *states), strict=False):
            if not isinstance(each, QTensor) and not each.is_floating_point():
                raise ArgumentTypeError(f"{self._label()}: {name} must hold floats, not {each.dtype}; call .float()")
        if x.dim() != 2 or x.shape[1] != self.input_size:
            raise ArgumentError(f"{self._label()} takes (batch, {self.input_size}); got shape {tuple(x.shape)}")
        shape = x.shape[0], self.hidden_size
        for name, state in zip("hc", states, strict=False):
            if tuple(state.shape) != shape:
                raise ArgumentError(f"{self._label()}: {name} must have shape {shape}; got {tuple(state.shape)}")

    def _gate_inputs(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        if self.split_gates:
            return tuple(self.gates[gate].add(self.igates[gate](x), self.hgates[gate](h)) for gate in GATES)
        return tuple(self.gates.add(self.igates(x), self.hgates(h)).chunk(4, 1))

    @classmethod
    def from_float(cls, other: Any, split_gates: bool = False) -> LSTMCell:
        """The cell in parts, for an nn.LSTMCell; ArgumentTypeError for anything else."""
        if not isinstance(other, nn.LSTMCell):
            raise ArgumentTypeError(f"{cls.__name__}.from_float takes an nn.LSTMCell; got a {type(other).__name__}")
        return cls.from_params(other.weight_ih, other.weight_hh, other.bias_ih, other.bias_hh, split_gates)

    @classmethod
    def from_params(
        cls, wi: Tensor, wh: Tensor, bi: Tensor | None = None, bh: Tensor | None = None, split_gates: bool = False
    ) -> LSTMCell:
        """The cell with copies of weights (4 * hidden, input), (4 * hidden, hidden) and biases (4 * hidden,), or None.

        Raises ArgumentError if there is only one bias.
        """
        if (bi is None) != (bh is None):
            raise ArgumentError("bi and bh: give both biases, or none")
        made = cls(wi.shape[1], wh.shape[1], bi is not None, wi.device, wi.dtype, split_gates=split_gates)
        with torch.no_grad():
            for layers, weight, bias in ((made.igates, wi, bi), (made.hgates, wh, bh)):
                for layer, part in _parts(layers, weight):
                    layer.weight.copy_(part)
                for layer, part in _parts(layers, bias) if bias is not None else ():
                    layer.bias.copy_(part)
        return made

    def _get_name(self) -> str:
        return "QuantizableLSTMCell"


def _parts(layers: Any, values: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Each Linear with what it takes of the values of all gates."""
    if isinstance(layers, nn.ModuleDict):
        return zip(layers.values(), values.chunk(4, 0), strict=True)
    return iter([(layers, values)])


def zero_state(x: Tensor, *shape: int) -> Tensor:
    """Zeros of the kind of x: float, or quantized with scale 1."""
    if isinstance(x, QTensor):
        return quantize_per_tensor(torch.zeros(shape, dtype=torch.float32, device=x.device), 1.0, 0, x.qparams.dtype)
    return x.new_zeros(shape)
