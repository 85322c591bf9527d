"""The weights of one recurrent cell, int8 or float16, and how they are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError, QuantizationError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.dynamic.options import to_float16
from qcore.nn.quantized.observed import path_of, quantize_weight
from qcore.operators import CellWeights
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


class CellHolder(QuantizedModule):
    """Weights of the input (gates * hidden, in) and of the state (gates * hidden, hidden), and a bias for each."""

    _w_ih: Tensor
    _w_hh: Tensor
    _b_ih: Tensor | None
    _b_hh: Tensor | None

    def _init_cell(self, gates: int, input_size: int, hidden_size: int, bias: bool, dtype: Any) -> None:
        if dtype not in (qint8, torch.float16):
            raise ArgumentError(f"dtype={dtype!r}: recurrent weights are {qint8!r} or torch.float16")
        storage = torch.float16 if dtype == torch.float16 else torch.int8
        rows = gates * hidden_size
        self.register_buffer("_w_ih", torch.zeros(rows, input_size, dtype=storage), persistent=False)
        self.register_buffer("_w_hh", torch.zeros(rows, hidden_size, dtype=storage), persistent=False)
        self.register_buffer("_b_ih", torch.zeros(rows, dtype=torch.float32) if bias else None, persistent=False)
        self.register_buffer("_b_hh", torch.zeros(rows, dtype=torch.float32) if bias else None, persistent=False)
        self._q_ih: QParams | None = None if storage == torch.float16 else QParams(qint8, 1.0, 0)
        self._q_hh = self._q_ih

    @property
    def float16(self) -> bool:
        """Whether the weights are float16."""
        return self._q_ih is None

    def cell(self) -> CellWeights:
        """The weights as an operator takes them."""
        return CellWeights(self._w_ih, self._q_ih, self._w_hh, self._q_hh, self._b_ih, self._b_hh)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weight of the input and of the state: quantized tensors, or float16 ones."""
        pairs = ((self._w_ih, self._q_ih), (self._w_hh, self._q_hh))
        first, second = (raw if q is None else QTensor(raw, q, self._backend) for raw, q in pairs)
        return first, second

    def set_cell(self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> None:
        """Take all weights of a cell: qint8 (per tensor, or per channel on axis 0), or float where they are float16.

        Raises ArgumentError for other dtypes, shapes or axes.
        """
        taken = []
        for name, weight, like in (("ih", w_ih, self._w_ih), ("hh", w_hh, self._w_hh)):
            fits = weight.shape == like.shape and isinstance(weight, QTensor) != self.float16
            if isinstance(weight, QTensor):
                fits = fits and weight.qparams.dtype == qint8 and weight.qparams.axis in (None, 0)
            if not fits:
                kind = "float" if self.float16 else "qint8 (per tensor, or per channel on axis 0)"
                raise ArgumentError(
                    f"{self._label()}: weight_{name} must be {kind} of shape {tuple(like.shape)}; got {weight.dtype} "
                    f"of shape {tuple(weight.shape)}"
                )
            taken.append((weight.raw, weight.qparams) if isinstance(weight, QTensor) else (to_float16(weight), None))
        for name, bias in (("ih", b_ih), ("hh", b_hh)):
            if bias is not None and bias.shape != self._w_ih.shape[:1]:
                raise ArgumentError(f"{self._label()}: bias_{name} must have shape {tuple(self._w_ih.shape[:1])}")
        (self._w_ih, self._q_ih), (self._w_hh, self._q_hh) = taken
        self._b_ih = None if b_ih is None else b_ih.detach().float()
        self._b_hh = None if b_hh is None else b_hh.detach().float()
        self._forget_kernel()

    def take(self, tensors: list[Tensor | None], mod: Any) -> None:
        """Quantize the float weights and take the biases (w_ih, w_hh, b_ih, b_hh) of a float module with a qconfig."""
        w_ih, w_hh, b_ih, b_hh = tensors
        assert w_ih is not None and w_hh is not None
        if any(bias is not None and not bool(torch.isfinite(bias).all()) for bias in (b_ih, b_hh)):
            raise QuantizationError(f"{path_of(mod)}: its bias holds NaN or infinity")
        if not self.float16:
            w_ih, w_hh = (quantize_weight(weight, mod.qconfig.weight(), mod) for weight in (w_ih, w_hh))
        self.set_cell(w_ih, w_hh, b_ih, b_hh)

    def _apply(self, fn: Any, recurse: bool = True) -> CellHolder:
        before = {name: getattr(self, name) for name in ("_w_ih", "_w_hh", "_b_ih", "_b_hh")}
        super()._apply(fn, recurse)
        # .half() and .float() are for float modules; those of a quantized one keep their dtype
        for name, tensor in before.items():
            now = getattr(self, name)
            if tensor is not None and now.dtype != tensor.dtype:
                setattr(self, name, tensor.to(now.device))
        return self


class LayerCell(CellHolder):
    """One layer and direction of a recurrent network; `param` in its state dict is (w_ih, w_hh, b_ih, b_hh)."""

    def __init__(self, gates: int, input_size: int, hidden_size: int, bias: bool, dtype: Any) -> None:
        super().__init__()
        self._init_cell(gates, input_size, hidden_size, bias, dtype)

    def _values(self) -> dict[str, Any]:
        return {"param": (*self.weights(), self._b_ih, self._b_hh)}

    def _set_values(self, values: dict[str, Any]) -> None:
        self.set_cell(*values["param"])


def float_cells(layer: nn.RNNBase) -> list[list[Tensor | None]]:
    """(w_ih, w_hh, b_ih, b_hh) of each layer and direction of a float network, forward before backward."""
    found = []
    for index in range(layer.num_layers):
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):
            names = (f"{part}_l{index}{suffix}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            found.append([getattr(layer, name, None) for name in names])
    return found
