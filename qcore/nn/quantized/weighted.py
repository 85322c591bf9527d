"""Shared by quantized modules with one weight, static and dynamic: canonical integers in, kernel out."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.held import held
from qcore.nn.quantized.observed import path_of, planned_qparams, quantize_weight, weight_observer
from qcore.tensor.dtypes import is_qdtype, qint8
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


class Weighted(QuantizedModule):
    """Holds int8 weights, their QParams and a float32 bias; the shape of the weight is fixed at construction."""

    relu: ClassVar[bool] = False
    channel_axis: ClassVar[int] = 0

    _raw: Tensor
    _bias: Tensor | None

    def _init_weight(self, shape: tuple[int, ...], channels: int, bias: bool) -> None:
        """Zero weights of a shape, until `set_weight_bias`."""
        self.register_buffer("_raw", torch.zeros(shape, dtype=torch.int8), persistent=False)
        self.register_buffer("_bias", torch.zeros(channels, dtype=torch.float32) if bias else None, persistent=False)
        self._qweight = QParams(qint8, 1.0, 0)

    @held
    def weight(self) -> QTensor:
        """The quantized weight; it shares memory with the module."""
        return QTensor(self._raw, self._qweight, self._backend)

    @held
    def bias(self) -> Tensor | None:
        """The float32 bias, None where there is none."""
        return self._bias

    def set_weight_bias(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take a qint8 weight (per tensor, or per channel on the output axis) and a float bias (out,) or None.

        Raises ArgumentTypeError for a weight that is not quantized, ArgumentError for other shapes, dtypes or axes.
        """
        if not isinstance(weight, QTensor):
            raise ArgumentTypeError(
                f"{self._label()}: weight must be a qcore.QTensor of dtype qint8; got a {type(weight).__name__}. "
                "Quantize it with qcore.quantize_per_tensor or qcore.quantize_per_channel"
            )
        if weight.qparams.dtype != qint8:
            raise ArgumentError(f"{self._label()}: weight must be of dtype {qint8!r}, not {weight.qparams.dtype!r}")
        if weight.raw.shape != self._raw.shape:
            raise ArgumentError(
                f"{self._label()}: weight must have shape {tuple(self._raw.shape)}, not {tuple(weight.raw.shape)}"
            )
        if weight.qparams.axis not in (None, self.channel_axis):
            raise ArgumentError(
                f"{self._label()}: weight must have its channels on axis {self.channel_axis}, not {weight.qparams.axis}"
            )
        channels = self._bias_length()
        if bias is not None and not (isinstance(bias, Tensor) and bias.is_floating_point()):
            kind = bias.dtype if isinstance(bias, Tensor) else type(bias).__name__
            raise ArgumentTypeError(f"{self._label()}: bias must be a float tensor or None, not {kind}")
        if bias is not None and (bias.ndim != 1 or bias.shape[0] != channels):
            raise ArgumentError(f"{self._label()}: bias must have shape ({channels},), not {tuple(bias.shape)}")
        if bias is not None and not bool(torch.isfinite(bias).all()):
            raise ArgumentError(f"{self._label()}: bias holds NaN or infinity")
        self._raw, self._qweight = weight.raw.detach(), weight.qparams
        self._bias = None if bias is None else bias.detach().float()
        self._forget_kernel()

    def _bias_length(self) -> int:
        return self._raw.shape[0]

    def _weight_bias(self) -> tuple[QTensor, Tensor | None]:
        return self.weight(), self.bias()

    def _apply(self, fn: Any, recurse: bool = True) -> Weighted:
        bias = self._bias
        super()._apply(fn, recurse)
        # .half() and .double() are for float modules; the bias of a quantized one stays float32
        if bias is not None and self._bias is not None and self._bias.dtype != bias.dtype:
            self._bias = bias.to(self._bias.device)
        return self

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """Weights must be integers."""
        observer = qconfig.weight()
        if not is_qdtype(getattr(observer, "dtype", None)):
            return f"its qconfig does not quantize weights (it gives {type(observer).__name__})"
        return super().reason_against(qconfig)

    def _take_constants(self, layer: Any, mod: nn.Module) -> None:
        weight = quantize_weight(layer.weight, weight_observer(mod), mod, self.channel_axis)
        if layer.bias is not None and not bool(torch.isfinite(layer.bias).all()):
            raise QuantizationError(f"{path_of(mod)}: its bias holds NaN or infinity")
        self.set_weight_bias(weight, layer.bias)

    def _plan(self, mod: nn.Module, qconfig: Any) -> None:
        super()._plan(mod, qconfig)
        self._qweight = planned_qparams(qconfig.weight(), self._raw.shape[self.channel_axis], self.channel_axis)
