"""What all observers share: the base classes, the integer range, the checks of the data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from qcore.api._observers.partial import TakesPartialArgs
from qcore.errors import ArgumentError, ArgumentTypeError, NotCalibratedError, QuantizationError, UnsupportedError
from qcore.tensor.arguments import check_number, check_whole
from qcore.tensor.dtypes import QDType, QScheme, as_qdtype, as_qscheme, is_qdtype, quint8
from qcore.tensor.dtypes import per_tensor_affine as _per_tensor_affine
from qcore.tensor.entering import check_seen, own_buffers
from qcore.tensor.qparams import choose_qparams

EPS = torch.finfo(torch.float32).eps


class ObserverBase(ABC, TakesPartialArgs, nn.Module):
    """Base of every observer: a module that returns its input unchanged and keeps statistics of it.

    Raises QuantizationError, naming the module, for qparams of statistics that hold NaN or infinity, or of none.

    `dtype`: the dtype that the observed tensor will have, quantized or float. `is_dynamic`: whether the quantization
    parameters are chosen anew for each input at inference. `qcore_path`: where in the model it stands, for messages;
    `qcore_backend`: whose kernels it uses, None for the automatic choice; both are set by prepare.
    """

    dtype: Any
    qcore_path: str = ""
    qcore_backend: str | None = None

    def __init__(self, dtype: Any, is_dynamic: bool = False) -> None:
        super().__init__()
        if not is_qdtype(dtype) and not isinstance(dtype, torch.dtype):
            raise ArgumentTypeError(f"dtype={dtype!r} must be a quantized dtype, or one of torch")
        self.dtype = as_qdtype(dtype) if is_qdtype(dtype) else dtype
        self.is_dynamic = is_dynamic

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Observe x of any shape; return it unchanged."""

    @abstractmethod
    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point for what was observed."""

    def _where(self) -> str:
        """This observer in a message."""
        kind = type(self).__name__
        return f"{kind} of module {self.qcore_path!r}" if self.qcore_path else f"{kind} (not in a prepared model)"


class UniformQuantizationObserverBase(ObserverBase):
    """Base of the observers whose qparams come from a minimum and a maximum.

    The range of integers is that of `dtype` (quint8, qint8, qint32 or quint4x2), or [quant_min, quant_max], both
    given, within dtype's range and with 0 inside; `reduce_range` halves it (for engines whose products saturate; ours
    never do).
    Scales are at least `eps`. `factory_kwargs` are device and dtype of the statistics (default float32).
    Raises ArgumentTypeError for another dtype or scheme, ArgumentError for another range or eps, UnsupportedError for
    a scheme that the observer has no meaning for.
    """

    SCHEMES: tuple[QScheme, ...] | None = None
    """Schemes that the class allows; None: all."""

    eps: Tensor
    min_val: Tensor
    max_val: Tensor

    def __init__(
        self,
        dtype: Any = quint8,
        qscheme: Any = _per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: dict[str, Any] | None = None,
        eps: float = EPS,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(as_qdtype(dtype), is_dynamic, **kwargs)
        self.qscheme = as_qscheme(qscheme)
        self.reduce_range = bool(reduce_range)
        self._check_scheme()
        check_number(0, eps=eps)
        self.register_buffer("eps", torch.tensor([eps], **_buffer_kwargs(factory_kwargs)))
        self.has_customized_qrange = quant_min is not None
        self.quant_min, self.quant_max = integer_range(self.dtype, quant_min, quant_max, self.reduce_range)

    def _check_scheme(self) -> None:
        if self.SCHEMES is not None and self.qscheme not in self.SCHEMES:
            allowed = ", ".join(map(repr, self.SCHEMES))
            raise UnsupportedError(f"{type(self).__name__} has no qscheme={self.qscheme!r}; use one of {allowed}")
        if self.reduce_range and self.qscheme.symmetric and self.dtype == quint8:
            raise UnsupportedError(
                "reduce_range=True with a symmetric qscheme and dtype=quint8 is not defined; use qint8"
            )

    def reset_min_max_vals(self) -> None:
        """Forget what was observed."""
        raise NotImplementedError

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale (float) and zero point (int32; int64 for symmetric schemes; float32 for float_qparams), one for each
        channel or one.

        Raises QuantizationError, which names the module, if nothing was observed yet.
        """
        self._check_calibrated()
        return self._calculate_qparams(self.min_val, self.max_val)

    def _calculate_qparams(self, min_val: Tensor, max_val: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point for a range, or for a range of each channel."""
        return choose_qparams(
            min_val,
            max_val,
            self.dtype,
            self.qscheme,
            self.quant_min,
            self.quant_max,
            self.eps,
            self.has_customized_qrange,
        )

    def _is_taken(self, x: Tensor) -> bool:
        """Whether x has elements to observe; ArgumentTypeError for what is no tensor of real numbers."""
        if not isinstance(x, Tensor) or x.is_complex():
            given = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentTypeError(f"{self._where()} observes tensors of real numbers; got {given}")
        check_seen(x, self._where())
        if not torch.compiler.is_compiling():
            own_buffers(self, self.min_val)
        return x.numel() > 0

    def _is_calibrated(self) -> bool:
        return self.min_val.numel() > 0 and not self.min_val.is_meta and _all_finite(self.min_val)

    def _check_calibrated(self) -> None:
        if not self._is_calibrated():
            raise NotCalibratedError(
                f"{self._where()} was never calibrated: run the prepared model on representative inputs "
                "before converting it"
            )

    def _check_finite(self, *extremes: Tensor) -> None:
        """Refuse NaN and infinity, before any statistics change; minima and maxima carry both on."""
        if not all(map(_all_finite, extremes)):
            raise QuantizationError(
                f"{self._where()} was given data with NaN or infinity, from which no scale can be chosen: "
                "look for the layer before it that produces them, or remove them from the input"
            )

    def _check_mergeable(self, other: ObserverBase) -> None:
        if not isinstance(other, ObserverBase):
            raise ArgumentTypeError(f"{self._where()} can merge only with an observer; got {type(other).__name__}")
        mine, theirs = self._merge_key(), other._merge_key() if type(other) is type(self) else ()
        if mine != theirs:
            raise ArgumentError(
                f"{self._where()} can merge only with an observer of the same class and arguments; got {other._where()}"
                + (f" with {theirs} instead of {mine}" if theirs else "")
            )

    def _merge_key(self) -> tuple[Any, ...]:
        return self.dtype, self.qscheme, self.quant_min, self.quant_max, float(self.eps)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


def _all_finite(value: Tensor) -> bool:
    # a single number is read as such: this runs several times in each training step
    return math.isfinite(value.item()) if value.numel() == 1 else bool(torch.isfinite(value).all())


def integer_range(dtype: QDType, quant_min: int | None, quant_max: int | None, reduce_range: bool) -> tuple[int, int]:
    """The integers to use: those given, else all of dtype; halved (rounding down) with reduce_range, except 4 and 32
    bit."""
    if quant_min is None or quant_max is None:
        if quant_min is not None or quant_max is not None:
            raise ArgumentError(f"quant_min={quant_min!r} and quant_max={quant_max!r}: give both, or neither")
        low, high = dtype.qmin, dtype.qmax
        reduce_range = reduce_range and high - low == 255
    else:
        low, high = quant_min, quant_max
        check_whole(quant_min=low, quant_max=high)
        if not (dtype.qmin <= low <= 0 <= high <= dtype.qmax and low < high):
            raise ArgumentError(
                f"quant_min={low} and quant_max={high} must enclose 0 and lie within {dtype!r}: "
                f"[{dtype.qmin}, {dtype.qmax}]"
            )
    return (low // 2, high // 2) if reduce_range else (low, high)


def _buffer_kwargs(factory_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Device and dtype of new buffers."""
    given = dict(factory_kwargs or {})
    unknown = given.keys() - {"device", "dtype"}
    if unknown:
        raise ArgumentError(f"factory_kwargs={given!r} may hold device and dtype, not {', '.join(sorted(unknown))}")
    dtype = given.setdefault("dtype", torch.float32)
    if not dtype.is_floating_point:
        raise ArgumentError(f"factory_kwargs: dtype={dtype} must be a floating point dtype")
    return given
