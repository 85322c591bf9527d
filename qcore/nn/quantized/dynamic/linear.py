"""Linear on floats: its activations are quantized on the way in, or its weight is float16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.nn.quantized.dynamic.options import dynamic_options, is_float16, reason_against_dynamic, to_float16
from qcore.nn.quantized.held import held
from qcore.nn.quantized.linear import LinearWeight
from qcore.tensor.dtypes import QDType, qint8, quint8
from qcore.tensor.qtensor import QTensor


class Linear(LinearWeight):
    """x @ weight.T + bias on a float x (..., in_features) -> floats (..., out_features), in integers in between.

    x is quantized to uint8 by its own range, that of each row with `per_row`; `reduce_range` (torch's way, the default
    here) keeps to 7 bits. With dtype=torch.float16 only the weight is rounded, to float16. Raises QuantizationError for
    a quantized input. Arithmetic: docs/numerics.md, "linear_dynamic" and "linear_fp16".
    """

    computes = "linear_dynamic"
    compiles = True
    _version = 4

    def __init__(self, in_features: int, out_features: int, bias_: bool = True, dtype: Any = qint8) -> None:
        self.float16 = dtype == torch.float16
        super().__init__(in_features, out_features, bias_, qint8 if self.float16 else dtype)
        self.reduce_range = True
        self.per_row = False
        if self.float16:
            self._raw = torch.zeros(out_features, in_features, dtype=torch.float16)

    @held
    def weight(self) -> Any:
        """The quantized weight, sharing memory with the module; a float32 tensor where it is kept in float16."""
        return self._raw.float() if self.float16 else super().weight()

    def set_weight_bias(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take a qint8 weight, or a float one for float16, and a float bias (out,) or None; errors as static Linear."""
        if not self.float16:
            super().set_weight_bias(weight, bias)
            return
        if isinstance(weight, QTensor) or weight.shape != self._raw.shape:
            raise ArgumentError(
                f"{self._label()}: weight must be a float tensor of shape {tuple(self._raw.shape)}; got "
                f"{weight.dtype} of shape {tuple(weight.shape)}"
            )
        self._raw = to_float16(weight)
        self._bias = None if bias is None else bias.detach().float()
        self._forget_kernel()

    def activation_dtypes(self, input: QDType) -> tuple[QDType, ...]:
        """Activations are quantized to quint8, or not at all."""
        return () if self.float16 else (quint8,)

    def operator(self) -> ops.Operator:
        """The operator with this module's weight."""
        if self.float16:
            return ops.LinearFp16(self._raw, self._bias, self.relu)
        return ops.LinearDynamic(self._raw, self._qweight, self._bias, self.relu, self.reduce_range, self.per_row)

    def forward(self, input: Tensor) -> Tensor:
        """Float (..., in_features) -> floats (..., out_features)."""
        is_odd = type(input) is not Tensor or input.dtype is not torch.float32
        if is_odd or (not torch.compiler.is_compiling() and input.is_neg()):
            input = self._entered(input, "floats, which it quantizes itself")
        try:
            shape = input.shape
        except RuntimeError:  # a nested tensor has none
            shape = self._entered(input, "floats, which it quantizes itself").shape
        if not shape or shape[-1] != self.in_features:
            raise ArgumentError(f"{self._label()} takes an input (..., {self.in_features}); got shape {tuple(shape)}")
        result: Tensor = self._compute(input)
        return result

    def _example(self) -> tuple[Any, ...]:
        return (torch.zeros(1, self.in_features, dtype=torch.float32),)

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """The activations must be for dynamic quantization, or the weight float16."""
        return reason_against_dynamic(qconfig)

    def _take_activation(self, mod: Any) -> None:
        self._choose(mod.qconfig, mod)

    def _take_constants(self, layer: Any, mod: nn.Module) -> None:
        if self.float16:
            self.set_weight_bias(layer.weight, layer.bias)
        else:
            super()._take_constants(layer, mod)

    def _plan(self, mod: nn.Module, qconfig: Any) -> None:
        self._choose(qconfig, mod)
        if not self.float16:
            super()._plan(mod, qconfig)

    def _choose(self, qconfig: Any, mod: nn.Module) -> None:
        self.float16 = is_float16(qconfig)
        if self.float16:
            self._raw = self._raw.half()
        else:
            self.per_row, self.reduce_range = dynamic_options(qconfig.activation(), mod)

    def _values(self) -> dict[str, Any]:
        # torch's layout has a scale and a zero point here, which mean nothing
        unused = {"scale": torch.tensor(1.0, dtype=torch.float32), "zero_point": torch.tensor(0)}
        values = {**unused, **super()._values()}
        if self.float16:
            values["_packed_params.dtype"] = torch.float16
        return values

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
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        if self.float16:
            return f"{sizes}, dtype={torch.float16}"
        return (
            f"{sizes}, dtype={self._qweight.dtype}, qscheme={self._qweight.scheme}, activations per "
            f"{'row' if self.per_row else 'tensor'}" + (", reduce_range=True" if self.reduce_range else "")
        )
