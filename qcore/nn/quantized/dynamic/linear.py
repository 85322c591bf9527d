"""Linear on floats whose activations are quantized on the way in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.errors import QuantizationError
from qcore.nn.quantized.linear import LinearWeight
from qcore.nn.quantized.observed import dynamic_options
from qcore.tensor.dtypes import DTypeLike, qint8, quint8
from qcore.tensor.qtensor import QTensor


class Linear(LinearWeight):
    """x @ weight.T + bias on a float x (..., in_features) -> float32 (..., out_features), in integers in between.

    x is quantized to uint8 by its own range, that of each row with `per_row`; `reduce_range` (torch's way, the default
    here) keeps to 7 bits. Raises QuantizationError for a quantized input. Arithmetic: docs/numerics.md,
    "linear_dynamic".
    """

    _version = 4

    def __init__(self, in_features: int, out_features: int, bias_: bool = True, dtype: DTypeLike = qint8) -> None:
        super().__init__(in_features, out_features, bias_, dtype)
        self.reduce_range = True
        self.per_row = False

    def operator(self) -> ops.LinearDynamic:
        """The operator with this module's weight."""
        return ops.LinearDynamic(self._raw, self._qweight, self._bias, self.relu, self.reduce_range, self.per_row)

    def forward(self, x: Tensor) -> Tensor:
        """Float (..., in_features) -> float32 (..., out_features)."""
        kernel = self._kernel or self._bind(quint8)
        if type(x) is QTensor:
            raise QuantizationError(
                f"{self._label()} is dynamic: it takes a float tensor and quantizes that itself; put a "
                "DeQuantStub before it"
            )
        result: Tensor = kernel(x if x.dtype is torch.float32 else x.float())
        return result

    def _take_activation(self, mod: Any) -> None:
        self.per_row, self.reduce_range = dynamic_options(mod.qconfig.activation(), mod)

    def _plan(self, mod: nn.Module, qconfig: Any) -> None:
        super()._plan(mod, qconfig)
        self.per_row, self.reduce_range = dynamic_options(qconfig.activation(), mod)

    def _values(self) -> dict[str, Any]:
        # torch's layout has a scale and a zero point here, which mean nothing
        unused = {"scale": torch.tensor(1.0), "zero_point": torch.tensor(0)}
        return {**unused, **super()._values()}

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "reduce_range": self.reduce_range, "per_row": self.per_row}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        self.reduce_range = bool(options.get("reduce_range", self.reduce_range))
        self.per_row = bool(options.get("per_row", self.per_row))

    def _get_name(self) -> str:
        return "DynamicQuantized" + type(self).__name__

    def extra_repr(self) -> str:
        """Sizes, and how weight and activations are quantized."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, dtype={self._qweight.dtype}, "
            f"qscheme={self._qweight.scheme}, activations per {'row' if self.per_row else 'tensor'}"
            + (", reduce_range=True" if self.reduce_range else "")
        )
