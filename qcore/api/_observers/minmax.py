"""Observers of minima and maxima: running or averaged, of the whole tensor or of each channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qcore.api._observers.base import EPS, ObserverBase, UniformQuantizationObserverBase
from qcore.api._observers.buffers import hold, make_room
from qcore.api._observers.kernels import kernel_for
from qcore.errors import ArgumentError
from qcore.tensor.arguments import check_number, check_whole
from qcore.tensor.dtypes import (
    per_channel_affine,
    per_channel_affine_float_qparams,
    per_channel_symmetric,
    per_tensor_affine,
    per_tensor_symmetric,
    quint8,
)
from qcore.training_operators import Range


class MinMaxObserver(UniformQuantizationObserverBase):
    """Keeps the minimum and maximum of all data, of any shape (formulas: docs/numerics.md).

    Buffers: min_val and max_val, 0-dimensional; infinite until data comes. Empty inputs change nothing.
    Raises QuantizationError for data with NaN or infinity.
    """

    SCHEMES = (per_tensor_affine, per_tensor_symmetric)

    def __init__(
        self,
        dtype: Any = quint8,
        qscheme: Any = per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: dict[str, Any] | None = None,
        eps: float = EPS,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic, **kwargs)
        self.register_buffer("min_val", self.eps.new_tensor(float("inf")))
        self.register_buffer("max_val", self.eps.new_tensor(float("-inf")))

    def forward(self, x: Tensor) -> Tensor:
        if self._is_taken(x):
            low, high = (value.to(self.min_val) for value in extremes(x.detach(), None, self.qcore_backend))
            self._check_finite(low, high)
            self._update(low, high)
        return x

    def _update(self, low: Tensor, high: Tensor) -> None:
        self.min_val.copy_(torch.minimum(self.min_val, low))
        self.max_val.copy_(torch.maximum(self.max_val, high))

    def merge(self, other: ObserverBase) -> None:
        """Add what `other`, made with the same arguments, observed: exactly as if this one had seen all the data."""
        self._check_mergeable(other)
        assert isinstance(other, MinMaxObserver)
        MinMaxObserver._update(self, other.min_val.to(self.min_val), other.max_val.to(self.max_val))

    def reset_min_max_vals(self) -> None:
        """Forget what was observed."""
        self.min_val.fill_(float("inf"))
        self.max_val.fill_(float("-inf"))


class MovingAverageMinMaxObserver(MinMaxObserver):
    """Keeps moving averages of each input's minimum and maximum: average += averaging_constant * (new - average)."""

    def __init__(
        self,
        averaging_constant: float = 0.01,
        dtype: Any = quint8,
        qscheme: Any = per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = EPS,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        self.averaging_constant = _checked_constant(averaging_constant)
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, eps=eps, is_dynamic=is_dynamic, **kwargs)

    def _update(self, low: Tensor, high: Tensor) -> None:
        if self._is_calibrated():
            low = self.min_val + self.averaging_constant * (low - self.min_val)
            high = self.max_val + self.averaging_constant * (high - self.max_val)
        self.min_val.copy_(low)
        self.max_val.copy_(high)

    def merge(self, other: ObserverBase) -> None:
        """Not defined: a moving average depends on the order of the inputs, which two observers do not have in common.

        Raises ArgumentError, except where one of the two has seen nothing.
        """
        _merge_average(self, other)


class PerChannelMinMaxObserver(UniformQuantizationObserverBase):
    """Keeps the minimum and maximum of each slice along axis `ch_axis`.

    Buffers: min_val and max_val of shape (channels,); empty until data comes. Raises QuantizationError for data with
    NaN or infinity, ArgumentError for an input without that axis or with another number of channels than before.
    """

    SCHEMES = (per_channel_affine, per_channel_symmetric, per_channel_affine_float_qparams)

    def __init__(
        self,
        ch_axis: int = 0,
        dtype: Any = quint8,
        qscheme: Any = per_channel_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: dict[str, Any] | None = None,
        eps: float = EPS,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic, **kwargs)
        check_whole(ch_axis=ch_axis)
        self.ch_axis = ch_axis
        self.register_buffer("min_val", self.eps.new_empty(0))
        self.register_buffer("max_val", self.eps.new_empty(0))

    def forward(self, x: Tensor) -> Tensor:
        if self._is_taken(x):
            if not -x.ndim <= self.ch_axis < x.ndim:
                raise ArgumentError(
                    f"{self._where()}: ch_axis={self.ch_axis} does not exist in an input of shape {tuple(x.shape)}"
                )
            axis = self.ch_axis % x.ndim
            low, high = (value.to(self.min_val) for value in extremes(x.detach(), axis, self.qcore_backend))
            self._check_channels(low)
            self._check_finite(low, high)
            self._update(low, high)
        return x

    def _update(self, low: Tensor, high: Tensor) -> None:
        if self._is_calibrated():
            low, high = torch.minimum(self.min_val, low), torch.maximum(self.max_val, high)
        hold(self, min_val=low, max_val=high)

    def _check_channels(self, low: Tensor) -> None:
        if self._is_calibrated() and low.shape != self.min_val.shape:
            raise ArgumentError(
                f"{self._where()} has seen {self.min_val.numel()} channels on axis {self.ch_axis}, and now "
                f"{low.numel()}; reset_min_max_vals() forgets the former"
            )

    def merge(self, other: ObserverBase) -> None:
        """Add what `other`, made with the same arguments, observed: exactly as if this one had seen all the data."""
        self._check_mergeable(other)
        assert isinstance(other, PerChannelMinMaxObserver)
        if other._is_calibrated():
            self._check_channels(other.min_val)
            PerChannelMinMaxObserver._update(self, other.min_val.to(self.min_val), other.max_val.to(self.max_val))

    def _merge_key(self) -> tuple[Any, ...]:
        return *super()._merge_key(), self.ch_axis

    def reset_min_max_vals(self) -> None:
        """Forget what was observed."""
        hold(self, min_val=self.min_val[:0], max_val=self.max_val[:0])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("min_val", "max_val"):
            # checkpoints of early torch versions say min_vals and max_vals
            if prefix + name + "s" in state_dict:
                state_dict[prefix + name] = state_dict.pop(prefix + name + "s")
            if prefix + name in state_dict:
                make_room(self, name, state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *args)


class MovingAveragePerChannelMinMaxObserver(PerChannelMinMaxObserver):
    """Keeps moving averages of the minimum and maximum of each slice along axis `ch_axis`."""

    def __init__(
        self,
        averaging_constant: float = 0.01,
        ch_axis: int = 0,
        dtype: Any = quint8,
        qscheme: Any = per_channel_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = EPS,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        self.averaging_constant = _checked_constant(averaging_constant)
        super().__init__(
            ch_axis, dtype, qscheme, reduce_range, quant_min, quant_max, eps=eps, is_dynamic=is_dynamic, **kwargs
        )

    def _update(self, low: Tensor, high: Tensor) -> None:
        if self._is_calibrated():
            low = self.min_val + self.averaging_constant * (low - self.min_val)
            high = self.max_val + self.averaging_constant * (high - self.max_val)
        hold(self, min_val=low, max_val=high)

    def merge(self, other: ObserverBase) -> None:
        """Not defined: a moving average depends on the order of the inputs, which two observers do not have in common.

        Raises ArgumentError, except where one of the two has seen nothing.
        """
        _merge_average(self, other)


def extremes(x: Tensor, axis: int | None, backend: str | None) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of all of x, of shape (), or of each slice along an axis (0 or higher), (channels,).

    They are not finite where x is not.
    """
    kernel = kernel_for(x, backend, Range())
    if kernel is not None:
        low, high = kernel(x, axis)
        return low, high
    return torch.aminmax(x) if axis is None else channel_extremes(x, axis)


def channel_extremes(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of each slice along an axis (0 or higher), each of shape (channels,); reads x in memory
    order."""
    last = x.movedim(axis, -1)
    # amin and amax, since torch.aminmax along a dimension is 20 times slower
    if last.is_contiguous():
        rows = last.reshape(-1, x.shape[axis])
        return rows.amin(0), rows.amax(0)
    if x.is_contiguous():
        slices = x.reshape(-1, x.shape[axis], x[(0,) * (axis + 1)].numel())
        return slices.amin(2).amin(0), slices.amax(2).amax(0)
    others = [dim for dim in range(x.ndim) if dim != axis]
    return x.amin(others), x.amax(others)


def _merge_average(observer: UniformQuantizationObserverBase, other: ObserverBase) -> None:
    observer._check_mergeable(other)
    assert isinstance(other, UniformQuantizationObserverBase)
    if not other._is_calibrated():
        return
    if observer._is_calibrated():
        raise ArgumentError(
            f"{observer._where()}: two moving averages cannot be merged, since the order of their inputs is not known. "
            "Observe all inputs with one observer, or use the observer of the same name without MovingAverage"
        )
    hold(observer, min_val=other.min_val, max_val=other.max_val)


def _checked_constant(averaging_constant: float) -> float:
    check_number(0, 1, averaging_constant=averaging_constant)
    return averaging_constant
