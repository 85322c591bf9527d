"""Where a model goes from float to integers, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.errors import ArgumentTypeError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.observed import no_static_activation, output_qparams
from qcore.nn.quantized.scripted import check_scripting
from qcore.tensor.dtypes import DTypeLike, QDType, as_qdtype, quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import QParams, per_tensor
from qcore.tensor.qtensor import QTensor

_CAST = (torch.bfloat16, torch.float16)


class Quantize(QuantizedModule):
    """Float32 of any shape -> quantized, per tensor; a tensor that is quantized already passes unchanged.

    Raises ArgumentError for a scale or zero point out of range, ArgumentTypeError, with its path, for an input that is
    not float32. Arithmetic: docs/numerics.md, "quantize".
    """

    computes = "quantize"
    observes_output = True

    def __init__(self, scale: Any, zero_point: Any, dtype: DTypeLike, factory_kwargs: Any = None) -> None:
        super().__init__()
        self._out = per_tensor(scale, zero_point, as_qdtype(dtype))

    @property
    def scale(self) -> Tensor:
        """Scale of the output, float32 (1,)."""
        return torch.tensor([self._out.scale], dtype=torch.float32)

    @property
    def zero_point(self) -> Tensor:
        """Zero point of the output, int64 (1,)."""
        return torch.tensor([self._out.zero_point], dtype=torch.int64)

    @property
    def dtype(self) -> Any:
        """Dtype of the output."""
        return self._out.dtype

    def operator(self) -> ops.Quantize:
        """The operator."""
        return ops.Quantize()

    def forward(self, x: Tensor) -> Tensor:
        """Float32 -> quantized, of the same shape; other floats too under autocast, which makes them."""
        if isinstance(x, QTensor):
            return x
        given = getattr(x, "dtype", None)
        if given is not torch.float32 and (
            given is self.float_dtype or (given in _CAST and torch.is_autocast_enabled("cpu"))
        ):
            x = x.float()
        try:
            return quantize(x, self._out, self._backend)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"{self._label()}: {error}") from None

    def _label(self) -> str:
        return f"the Quantize at {self.qcore_path!r}" if self.qcore_path else "this Quantize"

    def __prepare_scriptable__(self) -> Any:
        """For torch.jit.script: floats rounded to those that the integers stand for."""
        check_scripting()
        example = torch.zeros(1, dtype=torch.float32)
        return torch.jit.trace(nn.Sequential(self, DeQuantize()), example, check_trace=False)  # type: ignore[no-untyped-call]

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """Activations must have a fixed scale and zero point, found by an observer."""
        return no_static_activation(qconfig)

    @classmethod
    def _like(cls, layer: Any) -> Quantize:
        return cls(1.0, 0, quint8)

    def _take_activation(self, mod: nn.Module) -> None:
        self._out = output_qparams(mod)

    def _plan(self, mod: nn.Module, qconfig: Any) -> None:
        self._out = QParams(as_qdtype(qconfig.activation().dtype), 1.0, 0)

    def activation_dtypes(self, input: QDType) -> tuple[QDType, ...]:
        """The dtype of the output."""
        return (self._out.dtype,)

    def _values(self) -> dict[str, Any]:
        return {"scale": self.scale, "zero_point": self.zero_point}

    def _set_values(self, values: dict[str, Any]) -> None:
        self._out = per_tensor(values["scale"], values["zero_point"], self._out.dtype)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "dtype": self._out.dtype.name}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        if "dtype" in options:
            self._out = QParams(as_qdtype(options["dtype"]), self._out.scale, self._out.zero_point)

    def _get_name(self) -> str:
        return "Quantize"

    def extra_repr(self) -> str:
        """Scale, zero point and dtype."""
        return f"scale={self.scale}, zero_point={self.zero_point}, dtype={self.dtype}"


class DeQuantize(QuantizedModule):
    """Quantized of any shape -> float32; floats pass unchanged. Arithmetic: docs/numerics.md, "dequantize"."""

    computes = "dequantize"

    def operator(self) -> ops.Dequantize:
        """The operator."""
        return ops.Dequantize()

    def forward(self, x: Tensor) -> Tensor:
        """Quantized -> float32, of the same shape."""
        if not isinstance(x, QTensor):
            return x
        if x.qparams is not self._seen:
            self._note("forward", x)
        return x.dequantize() if self.float_dtype is torch.float32 else x.dequantize().to(self.float_dtype)

    def _get_name(self) -> str:
        return "DeQuantize"
