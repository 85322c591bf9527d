"""Modules of torch.ao.nn.quantized whose work needs no module of its own in qcore."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.prelu import PReLU
from qcore.nn.quantized.static import StaticOutput

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
