"""What convert(is_reference=True) makes of layers: float arithmetic with the weights and roundings of integers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qcore.fx.modules import ReferenceModule
from qcore.nn.float_functional import FloatFunctional
from qcore.nn.intrinsic.folding import float_form
from qcore.nn.quantized.stubs import DeQuantize
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import QParams


class Rounding(nn.Module):
    """Floats of any shape -> the numbers that their integers, with these parameters, stand for."""

    def __init__(self, qparams: QParams, backend: str | None) -> None:
        super().__init__()
        self.qparams = qparams
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        """Quantize and dequantize."""
        return quantize(x, self.qparams, self.backend).dequantize()

    def extra_repr(self) -> str:
        """The parameters."""
        return str(self.qparams)


class RoundedModule(ReferenceModule):
    """A layer in reference form that rounds its result as the quantized layer does."""

    def __init__(self, layer: nn.Module, quantized: Any) -> None:
        super().__init__(layer, quantized)
        self.rounding = Rounding(quantized._out, quantized.backend)

    def forward(self, *inputs: Any) -> Tensor:
        """What the float layer gives, with the weights that the integers stand for, rounded."""
        result: Tensor = self.rounding(super().forward(*inputs))
        return result


def reference_form(layer: nn.Module, quantized: Any) -> nn.Module:
    """Of a prepared layer, with what convert has made of it; floats go in, and come out."""
    if isinstance(quantized, DeQuantize):
        return nn.Identity()
    out: QParams | None = getattr(quantized, "_out", None)
    if out is None:
        return ReferenceModule(float_form(layer), quantized)
    if isinstance(layer, FloatFunctional):
        made = FloatFunctional()
        made.activation_post_process = Rounding(out, quantized.backend)
        return made
    return RoundedModule(float_form(layer), quantized)
