"""Shared by quantized modules whose output has a fixed scale and zero point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.observed import no_static_activation, output_qparams
from qcore.tensor.dtypes import QDType, as_qdtype, quint8
from qcore.tensor.qparams import QParams, per_tensor
from qcore.tensor.qtensor import QTensor, wrapped


class StaticOutput(QuantizedModule):
    """A module of one operator whose kernel is called with the input, its parameters and those of the output."""

    observes_output = True

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """Activations must have a fixed scale and zero point, found by an observer."""
        return no_static_activation(qconfig) or super().reason_against(qconfig)

    def _init_output(self, scale: float = 1.0, zero_point: int = 0, dtype: QDType = quint8) -> None:
        self._out = per_tensor(scale, zero_point, dtype)

    @property
    def scale(self) -> float:
        """Scale of the output."""
        assert isinstance(self._out.scale, float)
        return self._out.scale

    @scale.setter
    def scale(self, value: float) -> None:
        self._out = per_tensor(value, self.zero_point, self._out.dtype)

    @property
    def zero_point(self) -> int:
        """Zero point of the output."""
        assert isinstance(self._out.zero_point, int)
        return self._out.zero_point

    @zero_point.setter
    def zero_point(self, value: int) -> None:
        self._out = per_tensor(self.scale, value, self._out.dtype)

    @property
    def output_qparams(self) -> QParams:
        """Scale, zero point and dtype of the output."""
        return self._out

    def activation_dtypes(self, input: QDType) -> tuple[QDType, ...]:
        """Dtypes of input and output."""
        return (input, self._out.dtype)

    def _take_activation(self, mod: nn.Module) -> None:
        self._out = output_qparams(mod)

    def _plan(self, mod: nn.Module, qconfig: Any) -> None:
        super()._plan(mod, qconfig)
        self._out = QParams(as_qdtype(qconfig.activation().dtype), 1.0, 0)

    def _values(self) -> dict[str, Any]:
        return {
            "scale": torch.tensor(self.scale, dtype=torch.float32),
            "zero_point": torch.tensor(self.zero_point, dtype=torch.int64),
            **super()._values(),
        }

    def _set_values(self, values: dict[str, Any]) -> None:
        out = per_tensor(values["scale"], values["zero_point"], self._out.dtype)
        super()._set_values(values)
        self._out = out

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "dtype": self._out.dtype.name}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        if "dtype" in options:
            self._out = QParams(as_qdtype(options["dtype"]), self._out.scale, self._out.zero_point)

    def forward(self, input: Tensor) -> Tensor:
        """The operator on a quantized tensor; raises QuantizationError, naming the module, for a float one."""
        if not isinstance(input, QTensor):
            self._refuse_input(input)
        return self._run(input)

    def _run(self, input: QTensor) -> QTensor:
        own = self.__dict__
        qparams = input._held[0]
        if qparams is not own["_seen"]:
            if qparams.axis is not None:
                raise ArgumentError(f"{self._label()} takes a tensor quantized per tensor; this one is per channel")
            self._note("forward", input)
        out = own["_out"]
        kernel = self._ready(qparams.dtype)
        try:
            raw = kernel(input.raw, qparams, out)
        except (ArgumentError, ArgumentTypeError) as error:
            raise type(error)(f"{self._label()}: {error}") from None
        return wrapped(raw, out, own["_backend"])
