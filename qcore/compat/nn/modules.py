"""Modules of torch.ao.nn.quantized whose work needs no module of its own in qcore."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.dtypes import quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor

__all__ = ["Dropout", "PReLU", "Softmax", "WeightedQuantizedModule"]

WeightedQuantizedModule = QuantizedModule


class Dropout(QuantizedModule):
    """Hands its input on: dropout is for training, and integers are not trained."""

    computes = "nothing"

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """The input."""
        return input

    @classmethod
    def from_float(cls, mod: Any, use_precomputed_fake_quant: bool = False) -> Dropout:
        """From nn.Dropout."""
        return cls(mod.p, mod.inplace)

    @classmethod
    def from_reference(cls, mod: Any, scale: float, zero_point: int) -> Dropout:
        """From nn.Dropout; scale and zero point have no meaning here."""
        return cls(mod.p, mod.inplace)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}, inplace={self.inplace}"


class Softmax(StaticOutput):
    """exp(x) over its sum along `dim`: quantized -> quantized, by default over the whole of [0, 1)."""

    computes = "softmax"

    def __init__(self, dim: int | None = None, scale: float = 1.0 / 256.0, zero_point: int = 0) -> None:
        super().__init__()
        if dim is None:
            raise ArgumentError("Softmax: dim=None: say along which dimension")
        self.dim = dim
        self._init_output(scale, zero_point)

    def operator(self) -> ops.Softmax:
        """The operator."""
        return ops.Softmax(self.dim)

    @classmethod
    def _like(cls, layer: Any) -> Softmax:
        return cls(layer.dim)

    @classmethod
    def from_reference(cls, mod: Any, scale: float, zero_point: int) -> Softmax:
        """From nn.Softmax, for an output with these parameters."""
        return cls(mod.dim, float(scale), int(zero_point))


class PReLU(StaticOutput):
    """x, or weight * x below zero; the weight, of one element or one for each channel, is quantized to 8 bits."""

    computes = "prelu"

    def __init__(self, output_scale: float, output_zero_point: int, num_parameters: int = 1) -> None:
        super().__init__()
        import torch

        self.num_parameters = num_parameters
        self._init_output(output_scale, output_zero_point)
        self.weight = quantize(torch.ones(num_parameters) * 0.25, per_tensor(1.0, 0, quint8))

    def operator(self) -> ops.PReLU:
        """The operator with this module's weight."""
        return ops.PReLU(self.weight.raw, self.weight.qparams)

    def set_weight(self, w: Tensor) -> None:
        """Take a weight, float or quantized, (1,) or (channels,)."""
        if w.shape != (self.num_parameters,):
            raise ArgumentError(f"PReLU: the weight must have shape ({self.num_parameters},), not {tuple(w.shape)}")
        if isinstance(w, QTensor):
            self.weight = w
        else:
            top = max(float(w.detach().clamp(min=0).max()), 2.0**-20)
            low = min(float(w.detach().min()), 0.0)
            scale = (top - low) / 255
            self.weight = quantize(w.detach().float(), per_tensor(scale, round(-low / scale), quint8))
        self._forget_kernel()

    def set_quantized_weight(self, w: Tensor) -> None:
        """Take a quantized weight."""
        self.set_weight(w)

    def _values(self) -> dict[str, Any]:
        return {"weight": self.weight, **super()._values()}

    def _set_values(self, values: dict[str, Any]) -> None:
        self.set_weight(values["weight"])
        super()._set_values(values)

    @classmethod
    def from_reference(cls, mod: Any, scale: float, zero_point: int) -> PReLU:
        """From a float nn.PReLU, for an output with these parameters."""
        quantized = cls(float(scale), int(zero_point), mod.num_parameters)
        quantized.set_weight(mod.weight)
        return quantized
