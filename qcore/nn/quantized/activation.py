"""Quantized activation functions: a bound of the integers, or a table of all of them."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from qcore import operators as ops
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.qtensor import QTensor
from qcore.tensor.windows import numbers


class ReLU6(QuantizedModule):
    """Quantized of any shape, clamped to [0, 6]; scale and zero point stay. Raises QuantizationError for a float input.

    Arithmetic: docs/numerics.md, "clamp".
    """

    computes = "clamp"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    @classmethod
    def _like(cls, layer: Any) -> ReLU6:
        return cls(layer.inplace)

    def operator(self) -> ops.Clamp:
        """The operator."""
        return ops.Clamp(0.0, 6.0)

    def forward(self, input: Tensor) -> Tensor:
        """Quantized -> quantized, of the same shape and parameters."""
        if not isinstance(input, QTensor):
            self._refuse_input(input)
        if input.qparams is not self._seen:
            self._note("forward", input)
        return F.relu6(input, self.inplace)


class Table(StaticOutput):
    """A function of one variable, by a table of the results for all integers; `arguments` are its attributes."""

    function: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, scale: float, zero_point: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self._init_output(scale, zero_point)

    def operator(self) -> ops.Lookup:
        """The operator with this module's arguments."""
        return ops.Lookup(self.function, tuple(float(getattr(self, name)) for name in self.arguments))

    @classmethod
    def _like(cls, layer: Any) -> Any:
        return cls(1.0, 0, **{name: getattr(layer, name) for name in cls.arguments})

    @classmethod
    def from_reference(cls, mod: Any, scale: float, zero_point: int) -> Any:
        """The module for a float one whose output has these parameters."""
        return cls(scale, zero_point, **{name: getattr(mod, name) for name in cls.arguments})

    def extra_repr(self) -> str:
        """Arguments, scale and zero point."""
        shown = (*self.arguments, "scale", "zero_point")
        return ", ".join(f"{name}={getattr(self, name)}" for name in shown)


class Hardswish(Table):
    """x * relu6(x + 3) / 6 on a quantized x of any shape -> quantized with fixed `scale` and `zero_point`.

    Raises QuantizationError for a float input. Arithmetic: docs/numerics.md, "Lookup tables".
    """

    computes = "lookup hardswish"
    function = "hardswish"


class Sigmoid(Table):
    """1 / (1 + exp(-x)) on a quantized x of any shape -> quantized with fixed scale and zero point.

    Raises QuantizationError for a float input. Arithmetic: docs/numerics.md, "Lookup tables".
    """

    computes = "lookup sigmoid"
    function = "sigmoid"

    def __init__(self, output_scale: float, output_zero_point: int) -> None:
        super().__init__(output_scale, output_zero_point)


class ELU(Table):
    """x, or alpha * (exp(x) - 1) below zero: quantized of any shape -> quantized, with fixed scale and zero point.

    Raises QuantizationError for a float input. Arithmetic: docs/numerics.md, "Lookup tables".
    """

    computes = "lookup elu"
    function = "elu"
    arguments = ("alpha",)

    def __init__(self, scale: float, zero_point: int, alpha: float = 1.0) -> None:
        super().__init__(scale, zero_point)
        numbers("ELU", alpha=alpha)
        self.alpha = alpha


class LeakyReLU(Table):
    """x, or negative_slope * x below zero, on a quantized x of any shape -> quantized with fixed scale and zero point.

    Raises QuantizationError for a float input. Arithmetic: docs/numerics.md, "Lookup tables".
    """

    computes = "lookup leaky_relu"
    function = "leaky_relu"
    arguments = ("negative_slope",)

    def __init__(
        self,
        scale: float,
        zero_point: int,
        negative_slope: float = 0.01,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(scale, zero_point)
        numbers("LeakyReLU", negative_slope=negative_slope)
        self.negative_slope = negative_slope
        self.inplace = inplace
