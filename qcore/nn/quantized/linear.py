"""Quantized Linear."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.nn.quantized.static import StaticOutput
from qcore.nn.quantized.weighted import Weighted
from qcore.tensor.arguments import check_whole
from qcore.tensor.dtypes import DTypeLike, as_qdtype, qint8
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor


class LinearWeight(Weighted):
    """The sizes and the state of a Linear, static or dynamic, in torch's key layout."""

    _version = 3

    def __init__(self, in_features: int, out_features: int, bias_: bool = True, dtype: DTypeLike = qint8) -> None:
        super().__init__()
        if as_qdtype(dtype) != qint8:
            raise ArgumentError(f"dtype={dtype!r}: the weight of a quantized Linear is {qint8!r}")
        check_whole(0, in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self._init_weight((out_features, in_features), out_features, bias_)

    @classmethod
    def _like(cls, layer: Any) -> Any:
        return cls(layer.in_features, layer.out_features, layer.bias is not None)

    def _values(self) -> dict[str, Any]:
        return {
            **super()._values(),
            "_packed_params.dtype": self._qweight.dtype,
            "_packed_params._packed_params": self._weight_bias(),
        }

    def _set_values(self, values: dict[str, Any]) -> None:
        self.set_weight_bias(*values["_packed_params._packed_params"])
        super()._set_values(values)


class Linear(StaticOutput, LinearWeight):
    """x @ weight.T + bias on a quantized x (..., in_features) -> quantized (..., out_features).

    int8 weight, float32 bias, output of fixed `scale` and `zero_point`. Raises QuantizationError for a float input.
    Arithmetic: docs/numerics.md, "linear".
    """

    computes = "linear"

    def __init__(self, in_features: int, out_features: int, bias_: bool = True, dtype: DTypeLike = qint8) -> None:
        super().__init__(in_features, out_features, bias_, dtype)
        self._init_output()

    def forward(self, input: Tensor) -> Tensor:
        """Quantized (..., in_features) -> quantized (..., out_features)."""
        if not isinstance(input, QTensor):
            self._refuse_input(input)
        shape = input.raw.shape
        if not shape or shape[-1] != self.in_features:
            raise ArgumentError(f"{self._label()} takes an input (..., {self.in_features}); got shape {tuple(shape)}")
        return self._run(input)

    def operator(self) -> ops.Linear:
        """The operator with this module's weight."""
        return ops.Linear(self._raw, self._qweight, self._bias, self.relu)

    @classmethod
    def from_reference(cls, ref_qlinear: Any, output_scale: float, output_zero_point: int) -> Linear:
        """The module for a reference one: float weights with their quantization parameters beside."""
        quantized: Linear = cls._like(ref_qlinear)
        quantized.set_weight_bias(ref_qlinear.get_quantized_weight(), ref_qlinear.bias)
        quantized._out = per_tensor(output_scale, output_zero_point, quantized._out.dtype)
        return quantized

    def extra_repr(self) -> str:
        """Sizes, scale, zero point and the weight's scheme."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, scale={self.scale}, "
            f"zero_point={self.zero_point}, qscheme={self._qweight.scheme}"
        )
