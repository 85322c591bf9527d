"""A layer without a quantized kernel, between quantized ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qcore import operators as ops
from qcore.errors import QuantizationError
from qcore.nn.quantized.observed import output_qparams
from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.dtypes import DTypeLike, as_qdtype, quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor


class InFloat(StaticOutput):
    """The float layer in `layer`, with a dequantize before it and a quantize after it; floats pass through it as ever.

    Shapes and errors are those of the layer. Without `quantizes`, as where its results were not seen in calibration,
    or are no single tensor of finite floats, it gives floats.
    """

    computes = "quantize"
    observes_output = False
    layer: nn.Module

    def __init__(
        self, scale: float = 1.0, zero_point: int = 0, dtype: DTypeLike = quint8, quantizes: bool = True
    ) -> None:
        super().__init__()
        self.quantizes = quantizes
        self._init_output(scale, zero_point, as_qdtype(dtype))
        self.layer = nn.Identity()

    @property
    def dtype(self) -> Any:
        """Dtype of the output."""
        return self._out.dtype

    @classmethod
    def around(cls, layer: nn.Module, observed: nn.Module) -> InFloat:
        """The layer, with the range that an observer of `observed` has found."""
        made = cls()
        made.layer = layer
        try:
            made._out = output_qparams(observed)
        except QuantizationError:
            made.quantizes = False
        made._backend = getattr(observed, "qcore_backend", None)
        made.qcore_path = getattr(observed, "qcore_path", "")
        return made.train(layer.training)

    def operator(self) -> ops.Operator:
        """What it does in integers."""
        return ops.Quantize()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As of the layer: quantized for quantized, float for float."""
        quantized = [x for x in (*args, *kwargs.values()) if isinstance(x, QTensor)]
        if not quantized:
            return self.layer(*args, **kwargs)
        self._note("forward", *quantized)
        floats = [_real(x) for x in args]
        result = self.layer(*floats, **{name: _real(x) for name, x in kwargs.items()})
        if not self.quantizes or not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        return quantize(result, self._out, self._backend)

    def _values(self) -> dict[str, Any]:
        return {}  # the keys of a model are those that it has without

    def _set_values(self, values: dict[str, Any]) -> None:
        """There are none."""

    def _options(self) -> dict[str, Any]:
        own = {"scale": self.scale, "zero_point": self.zero_point, "quantizes": self.quantizes}
        return {**super()._options(), **own}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        if "scale" in options and "zero_point" in options:
            self._out = per_tensor(options["scale"], options["zero_point"], self._out.dtype)
        self.quantizes = bool(options.get("quantizes", self.quantizes))

    def _get_name(self) -> str:
        return "InFloat"

    def extra_repr(self) -> str:
        """Scale and zero point of the result."""
        return super().extra_repr() if not self.quantizes else f"scale={self.scale}, zero_point={self.zero_point}"


def _real(x: Any) -> Any:
    return x.dequantize() if isinstance(x, QTensor) else x
