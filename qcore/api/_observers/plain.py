"""Observers without statistics: they stand for a dtype, for fixed parameters, or record what passes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from qcore.api._observers.base import EPS, ObserverBase, integer_range
from qcore.errors import ArgumentTypeError, QuantizationError
from qcore.tensor.arguments import check_number
from qcore.tensor.dtypes import as_qdtype, as_qscheme, is_qdtype, per_tensor_affine, quint8
from qcore.tensor.qparams import per_tensor


class _WithoutQParams(ObserverBase):
    """Base of the observers that never choose parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Raises QuantizationError: this observer chooses no parameters."""
        raise QuantizationError(
            f"{self._where()} chooses no scale and zero point; use an observer with statistics, such as "
            "MinMaxObserver, where integers are wanted"
        )


class PlaceholderObserver(_WithoutQParams):
    """Says which dtype a tensor will have, without statistics: float16, or parameters chosen at inference
    (`is_dynamic`).

    `qscheme` of a dynamic one: per_tensor_affine (the default) chooses one scale and zero point for each input, and
    per_channel_affine one for each row (token) of an input flattened to (rows, features).
    `compute_dtype` is an old spelling of is_dynamic=True.
    """

    def __init__(
        self,
        dtype: Any = torch.float32,
        custom_op_name: str = "",
        compute_dtype: Any = None,
        quant_min: int | None = None,
        quant_max: int | None = None,
        qscheme: Any = None,
        eps: float | None = None,
        is_dynamic: bool = False,
    ) -> None:
        if compute_dtype is not None:
            warnings.warn("compute_dtype is an old argument of PlaceholderObserver; say is_dynamic=True", stacklevel=2)
        super().__init__(dtype, is_dynamic or compute_dtype is not None)
        self.custom_op = custom_op_name
        self.qscheme = per_tensor_affine if qscheme is None else as_qscheme(qscheme)
        if is_qdtype(dtype):
            integer_range(as_qdtype(dtype), quant_min, quant_max, False)
        self.quant_min = quant_min
        self.quant_max = quant_max
        check_number(0, eps=EPS if eps is None else eps)
        self.eps = EPS if eps is None else eps

    @property
    def per_row(self) -> bool:
        """Whether a dynamic input gets parameters for each of its rows."""
        return self.is_dynamic and self.qscheme.per_channel

    def extra_repr(self) -> str:
        return f"dtype={self.dtype}, is_dynamic={self.is_dynamic}" + (", per_row=True" if self.per_row else "")


class NoopObserver(_WithoutQParams):
    """Does nothing, and says which dtype a tensor will have."""

    def __init__(self, dtype: Any = torch.float16, custom_op_name: str = "") -> None:
        super().__init__(dtype)
        self.custom_op = custom_op_name


class ReuseInputObserver(_WithoutQParams):
    """Says that a result keeps the quantization parameters of its input, as after a reshape."""

    def __init__(self) -> None:
        super().__init__(quint8)


class RecordingObserver(_WithoutQParams):
    """Keeps a copy of every tensor it sees, for debugging: `tensor_val`, a list, also from `get_tensor_value()`."""

    def __init__(self, dtype: Any = quint8) -> None:
        super().__init__(dtype)
        self.tensor_val: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"{self._where()} records tensors; got {type(x).__name__}")
        self.tensor_val.append(x.detach().clone())
        return x

    def get_tensor_value(self) -> list[Tensor]:
        """The tensors seen so far, oldest first."""
        return self.tensor_val


class FixedQParamsObserver(ObserverBase):
    """Gives a fixed scale and zero point, for results of known range such as a sigmoid's; looks at no data.

    Buffers: scale float32 (1,), zero_point int32 (1,). Raises ArgumentError for a scale that is not positive and
    finite, a zero point outside of dtype, or a range outside of it.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        scale: float,
        zero_point: int,
        dtype: Any = quint8,
        qscheme: Any = per_tensor_affine,
        quant_min: int = 0,
        quant_max: int = 255,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(as_qdtype(dtype), is_dynamic, **kwargs)
        per_tensor(scale, zero_point, self.dtype)
        self.quant_min, self.quant_max = integer_range(self.dtype, quant_min, quant_max, False)
        self.qscheme = as_qscheme(qscheme)
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor([zero_point], dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """The fixed scale and zero point."""
        return self.scale, self.zero_point
