"""Quantized PReLU: a line through zero with another slope, for all channels or for each, below it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError
from qcore.nn.quantized.observed import path_of
from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.dtypes import quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor


class PReLU(StaticOutput):
    """x, or weight * x below zero: quantized -> quantized, of the same shape; channels are on axis 1.

    `weight`, (num_parameters,), is quantized to 8 bits over its own range, whatever the qconfig. Raises
    QuantizationError for a float input, ArgumentError for a weight of another shape. Arithmetic: docs/numerics.md,
    "prelu".
    """

    computes = "prelu"

    def __init__(self, output_scale: float, output_zero_point: int, num_parameters: int = 1) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self._init_output(output_scale, output_zero_point)
        self.set_weight(torch.full((num_parameters,), 0.25, dtype=torch.float32))

    @classmethod
    def _like(cls, layer: Any) -> PReLU:
        return cls(1.0, 0, layer.num_parameters)

    def _take_constants(self, layer: Any, mod: Any) -> None:
        if not bool(torch.isfinite(layer.weight).all()):
            raise QuantizationError(f"{path_of(mod)}: its weight holds NaN or infinity")
        self.set_weight(layer.weight)

    def operator(self) -> ops.PReLU:
        """The operator with this module's weight; ArgumentTypeError where that was set to what is not quantized."""
        if not isinstance(self.weight, QTensor):
            given = type(self.weight).__name__
            raise ArgumentTypeError(f"PReLU: its weight must be a QTensor, not {given}; use set_weight(...)")
        return ops.PReLU(self.weight.raw, self.weight.qparams)

    def set_weight(self, w: Tensor) -> None:
        """Take a weight, float or quantized, (num_parameters,)."""
        if w.shape != (self.num_parameters,):
            raise ArgumentError(f"PReLU: the weight must have shape ({self.num_parameters},), not {tuple(w.shape)}")
        if isinstance(w, QTensor):
            self.weight = w
        else:
            top = max(float(w.detach().clamp(min=0).max()), 2.0**-20)
            low = min(float(w.detach().min()), 0.0)
            scale = torch.tensor((top - low) / 255, dtype=torch.float32)  # in float32, as observers have it
            self.weight = quantize(w.detach().float(), per_tensor(scale, round(-low / float(scale)), quint8))
        self._forget_kernel()

    def set_quantized_weight(self, w: Tensor) -> None:
        """Take a quantized weight."""
        self.set_weight(w)

    def _values(self) -> dict[str, Any]:
        return {"weight": self.weight, **super()._values()}

    def _set_values(self, values: dict[str, Any]) -> None:
        super()._set_values(values)
        self.set_weight(values["weight"])

    @classmethod
    def from_reference(cls, mod: Any, scale: float, zero_point: int) -> PReLU:
        """The module for a float one whose output has these parameters."""
        quantized = cls(float(scale), int(zero_point), mod.num_parameters)
        quantized.set_weight(mod.weight)
        return quantized
