"""Fake-quantize modules: they observe like observers, and round their input to what integers can hold, so that
training sees it.

Where they differ from torch's of the same name: NaN stays NaN instead of becoming the lowest value,
FusedMovingAvgObsFakeQuantize takes any channel axis, and arguments that make no sense are refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qcore.api._fake_quantize_function import MOST_INTEGER, fake_quantize, straight_through
from qcore.api._observers.buffers import hold, make_room
from qcore.api._observers.kernels import kernels_for
from qcore.api._observers.partial import TakesPartialArgs
from qcore.api.observer import (
    FixedQParamsObserver,
    HistogramObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
)
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.tensor.arguments import check_callable, check_flag
from qcore.tensor.dtypes import (
    QDType,
    QScheme,
    per_channel_affine_float_qparams,
    per_channel_symmetric,
    per_tensor_affine,
    per_tensor_symmetric,
    qint8,
    quint4x2,
    quint8,
)
from qcore.tensor.entering import check_seen, own_buffers
from qcore.tensor.qparams import choose_qparams_native, middle_of
from qcore.training_operators import FakeQuantizeBackward, ObserveFakeQuantize

__all__ = [
    "FakeQuantize",
    "FakeQuantizeBase",
    "FixedQParamsFakeQuantize",
    "FusedMovingAvgObsFakeQuantize",
    "default_affine_fixed_qparams_fake_quant",
    "default_dynamic_fake_quant",
    "default_embedding_fake_quant",
    "default_embedding_fake_quant_4bit",
    "default_fake_quant",
    "default_fixed_qparams_range_0to1_fake_quant",
    "default_fixed_qparams_range_neg1to1_fake_quant",
    "default_fused_act_fake_quant",
    "default_fused_per_channel_wt_fake_quant",
    "default_fused_wt_fake_quant",
    "default_histogram_fake_quant",
    "default_per_channel_weight_fake_quant",
    "default_symmetric_fixed_qparams_fake_quant",
    "default_weight_fake_quant",
    "disable_fake_quant",
    "disable_observer",
    "enable_fake_quant",
    "enable_observer",
    "fused_per_channel_wt_fake_quant_range_neg_127_to_127",
    "fused_wt_fake_quant_range_neg_127_to_127",
]

_AVERAGING = MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver


class FakeQuantizeBase(ABC, TakesPartialArgs, nn.Module):
    """Base of the fake-quantize modules: two switches, kept as buffers of shape (1,) so that they are saved with the
    model. Errors as of their observers."""

    fake_quant_enabled: Tensor
    observer_enabled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fake_quant_enabled", torch.tensor([1], dtype=self._SWITCH))
        self.register_buffer("observer_enabled", torch.tensor([1], dtype=self._SWITCH))

    _SWITCH = torch.uint8

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Observe and fake-quantize x of any shape, as far as each is enabled."""

    @abstractmethod
    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point for the converted model."""

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Switch rounding on or off."""
        check_flag(enabled=enabled)
        self.fake_quant_enabled[0] = 1 if enabled else 0

    def disable_fake_quant(self) -> None:
        """Switch rounding off."""
        self.enable_fake_quant(False)

    def enable_observer(self, enabled: bool = True) -> None:
        """Switch observation on or off."""
        check_flag(enabled=enabled)
        self.observer_enabled[0] = 1 if enabled else 0

    def disable_observer(self) -> None:
        """Switch observation off: scale and zero point stay as they are."""
        self.enable_observer(False)


class FakeQuantize(FakeQuantizeBase):
    """Observes with an observer of its own, `activation_post_process`, and rounds with the scale and zero point that
    it gives.

    out = (clamp(round(x / scale) + zero_point, quant_min, quant_max) - zero_point) * scale, with the gradient passed
    straight through where the integer is within the range. `observer` and `observer_kwargs` make the observer;
    quant_min and quant_max go to it too.
    Buffers: scale (float32) and zero_point (int32, or float32 for float_qparams), of shape (1,) or (channels,).
    """

    activation_post_process: Any
    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        observer: Callable[..., nn.Module] = MovingAverageMinMaxObserver,
        quant_min: int | None = None,
        quant_max: int | None = None,
        is_dynamic: bool = False,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__()
        if quant_min is not None or quant_max is not None:
            observer_kwargs.update(quant_min=quant_min, quant_max=quant_max)
        check_callable(observer=observer)
        made: Any = observer(**observer_kwargs)
        self.activation_post_process = made
        if not isinstance(getattr(made, "dtype", None), QDType) or not hasattr(made, "quant_min"):
            raise ArgumentTypeError(
                f"observer={observer!r} makes no observer of a quantized dtype; give one with statistics"
            )
        self.is_dynamic = is_dynamic
        self.quant_min: int = made.quant_min
        self.quant_max: int = made.quant_max
        floating = made.qscheme == per_channel_affine_float_qparams
        self.register_buffer("scale", torch.ones(1, dtype=torch.float32))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.float32 if floating else torch.int32))

    @property
    def dtype(self) -> QDType:
        """The quantized dtype."""
        dtype: QDType = self.activation_post_process.dtype
        return dtype

    @property
    def qscheme(self) -> QScheme:
        """The scheme."""
        qscheme: QScheme = self.activation_post_process.qscheme
        return qscheme

    @property
    def ch_axis(self) -> int:
        """Where the channels lie, as the observer has it; -1 where it has none."""
        axis: int = getattr(self.activation_post_process, "ch_axis", -1)
        return axis

    @ch_axis.setter
    def ch_axis(self, axis: int) -> None:
        self.activation_post_process.ch_axis = axis

    @property
    def is_per_channel(self) -> bool:
        """Whether each slice along ch_axis has a scale of its own."""
        return self.qscheme.per_channel

    @property
    def qcore_path(self) -> str:
        """Where in the model it stands, for messages; set by prepare."""
        path: str = self.activation_post_process.qcore_path
        return path

    @qcore_path.setter
    def qcore_path(self, path: str) -> None:
        self.activation_post_process.qcore_path = path

    @property
    def qcore_backend(self) -> str | None:
        """Name of the backend that the model was prepared for; None: the automatic choice."""
        backend: str | None = self.activation_post_process.qcore_backend
        return backend

    @qcore_backend.setter
    def qcore_backend(self, backend: str | None) -> None:
        self.activation_post_process.qcore_backend = backend

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point of the observer; QuantizationError if it has seen nothing."""
        scale, zero_point = self.activation_post_process.calculate_qparams()
        return scale, zero_point

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            given = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentTypeError(f"{self.activation_post_process._where()} takes float tensors; got {given}")
        check_seen(x, self.activation_post_process._where())
        if not torch.compiler.is_compiling():
            own_buffers(self, self.scale)
            x = x.resolve_neg() if x.is_neg() else x
        if not x.numel():
            return x
        observes, rounds = bool(self.observer_enabled.item()), bool(self.fake_quant_enabled.item())
        rounded = self._in_one_step(x) if observes and rounds else None
        if rounded is not None:
            return rounded
        if observes:
            self._observe(x.detach())
        if rounds:
            axis = self.ch_axis if self.is_per_channel else None
            x = fake_quantize(x, self.scale, self.zero_point, axis, self.quant_min, self.quant_max, self.qcore_backend)
        return x

    def _in_one_step(self, x: Tensor) -> Tensor | None:
        """x observed and rounded by one kernel of the backend; None, and nothing changed, where that cannot be."""
        observer = self.activation_post_process
        operator = self._one_step() if type(observer) in _AVERAGING else None
        if operator is None or observer.min_val.dtype != torch.float32:
            return None
        axis = observer.ch_axis if observer.qscheme.per_channel else None
        channels = 1 if axis is None else x.shape[axis] if -x.ndim <= axis < x.ndim else 0
        state = observer.min_val, observer.max_val, self.scale, self.zero_point
        if any(value.numel() != channels for value in state) or max(-self.quant_min, self.quant_max) > MOST_INTEGER:
            return None  # the first input, which says how many channels there are, or one to complain of
        kernels = kernels_for(x, observer.qcore_backend, operator, FakeQuantizeBackward())
        if kernels is None:
            return None
        found = kernels[0](x.detach(), *state, axis if axis is None else axis % x.ndim)
        return None if found is None else straight_through(x, lambda data: found, kernels[1])

    def _one_step(self) -> ObserveFakeQuantize | None:
        """What `_observe` and the rounding after it do with an averaging observer, as an operator; None: it is none."""
        observer, kind = self.activation_post_process, type(self)
        own = kind._observe is FakeQuantize._observe and kind.calculate_qparams is FakeQuantize.calculate_qparams
        integers = self.quant_min, self.quant_max
        eps = observer.eps.item()
        if not own or observer.qscheme == per_channel_affine_float_qparams or eps <= 0:
            return None
        if integers != (observer.quant_min, observer.quant_max):
            return None
        middle = middle_of(observer.dtype, *integers, observer.has_customized_qrange)
        return ObserveFakeQuantize(*integers, observer.qscheme.symmetric, observer.averaging_constant, eps, middle)

    def _observe(self, x: Tensor) -> None:
        self.activation_post_process(x)
        self._set_qparams(*self.calculate_qparams())

    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        hold(self, scale=scale, zero_point=zero_point)

    def extra_repr(self) -> str:
        return (
            f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled={self.observer_enabled}, "
            f"quant_min={self.quant_min}, quant_max={self.quant_max}, dtype={self.dtype}, qscheme={self.qscheme}, "
            f"ch_axis={self.ch_axis}, scale={self.scale}, zero_point={self.zero_point}"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("scale", "zero_point"):
            if prefix + name in state_dict:
                make_room(self, name, state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *args)


class FixedQParamsFakeQuantize(FakeQuantize):
    """Rounds with the fixed scale and zero point of a FixedQParamsObserver, which `observer` makes; there is nothing
    to observe.

    Raises ArgumentTypeError for another kind of observer.
    """

    def __init__(self, observer: Callable[..., nn.Module]) -> None:
        super().__init__(observer=observer)
        if not isinstance(self.activation_post_process, FixedQParamsObserver):
            kind = type(self.activation_post_process).__name__
            raise ArgumentTypeError(f"observer makes a {kind}; FixedQParamsFakeQuantize needs a FixedQParamsObserver")
        self._set_qparams(*self.activation_post_process.calculate_qparams())

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """The fixed scale and zero point."""
        return self.scale, self.zero_point


class FusedMovingAvgObsFakeQuantize(FakeQuantize):
    """FakeQuantize with a moving-average observer, in one step where a backend has a kernel for it.

    While it observes, it rounds with parameters by the rule of torch's native kernels (docs/numerics.md, "Dynamic
    quantization"), rounded to float32, as torch's fused operator does; `calculate_qparams`, for the converted model,
    follows the observer's rule.
    Raises ArgumentTypeError for an observer other than MovingAverageMinMaxObserver and
    MovingAveragePerChannelMinMaxObserver.
    """

    _SWITCH = torch.int64

    def __init__(
        self,
        observer: Callable[..., nn.Module] = MovingAverageMinMaxObserver,
        quant_min: int = 0,
        quant_max: int = 255,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__(observer, quant_min, quant_max, **observer_kwargs)
        if not isinstance(
            self.activation_post_process, MovingAverageMinMaxObserver | MovingAveragePerChannelMinMaxObserver
        ):
            kind = type(self.activation_post_process).__name__
            raise ArgumentTypeError(
                f"observer makes a {kind}; FusedMovingAvgObsFakeQuantize needs MovingAverageMinMaxObserver or "
                "MovingAveragePerChannelMinMaxObserver; use FakeQuantize for others"
            )
        if self.qscheme == per_channel_affine_float_qparams:
            raise ArgumentError(
                "FusedMovingAvgObsFakeQuantize has no qscheme per_channel_affine_float_qparams; use FakeQuantize"
            )
        self.is_symmetric_quant = self.qscheme.symmetric

    def _one_step(self) -> ObserveFakeQuantize:
        constant = self.activation_post_process.averaging_constant
        return ObserveFakeQuantize(self.quant_min, self.quant_max, self.is_symmetric_quant, constant)

    def _observe(self, x: Tensor) -> None:
        observer = self.activation_post_process
        observer(x)
        scale, zero_point = choose_qparams_native(
            observer.min_val, observer.max_val, self.quant_min, self.quant_max, self.is_symmetric_quant
        )
        self._set_qparams(scale.reshape(-1), zero_point.reshape(-1))


default_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver,
    quant_min=0,
    quant_max=255,
    dtype=quint8,
    qscheme=per_tensor_affine,
    reduce_range=True,
)
"""Activations: moving average, 7 bits."""
default_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=qint8,
    qscheme=per_tensor_symmetric,
    reduce_range=False,
)
"""Weights: one symmetric scale for all, int8."""
default_per_channel_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=qint8,
    qscheme=per_channel_symmetric,
    reduce_range=False,
    ch_axis=0,
)
"""Weights: a symmetric scale for each output channel, int8."""
default_dynamic_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver,
    quant_min=0,
    quant_max=255,
    is_dynamic=True,
    dtype=quint8,
    averaging_constant=1,
)
"""Activations of a model for dynamic quantization: the range of each input."""
default_histogram_fake_quant = FakeQuantize.with_args(
    observer=HistogramObserver,
    quant_min=0,
    quant_max=255,
    dtype=quint8,
    qscheme=per_tensor_affine,
    reduce_range=True,
)
"""Activations: least squared error, 7 bits."""
default_embedding_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    qscheme=per_channel_affine_float_qparams,
    dtype=quint8,
    quant_min=0,
    quant_max=255,
    ch_axis=0,
    averaging_constant=1,
)
"""Embedding tables: a float scale and zero point for each row, 8 bits."""
default_embedding_fake_quant_4bit = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    qscheme=per_channel_affine_float_qparams,
    ch_axis=0,
    dtype=quint4x2,
    averaging_constant=1,
)
"""Embedding tables: a float scale and zero point for each row, 4 bits."""
default_fixed_qparams_range_neg1to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_neg1to1_observer
)
"""Results known to lie in [-1, 1), as of tanh."""
default_fixed_qparams_range_0to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_0to1_observer
)
"""Results known to lie in [0, 1), as of sigmoid."""
default_symmetric_fixed_qparams_fake_quant = default_fixed_qparams_range_neg1to1_fake_quant
"""Former name of default_fixed_qparams_range_neg1to1_fake_quant."""
default_affine_fixed_qparams_fake_quant = default_fixed_qparams_range_0to1_fake_quant
"""Former name of default_fixed_qparams_range_0to1_fake_quant."""
default_fused_act_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=quint8
)
"""Activations: moving average, 8 bits, fused."""
default_fused_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, quant_min=-128, quant_max=127, dtype=qint8, qscheme=per_tensor_symmetric
)
"""Weights: one symmetric scale for all, int8, fused."""
default_fused_per_channel_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=qint8,
    qscheme=per_channel_symmetric,
)
"""Weights: a symmetric scale for each output channel, int8, fused."""
fused_wt_fake_quant_range_neg_127_to_127 = default_fused_wt_fake_quant.with_args(
    quant_min=-127, quant_max=127, eps=2.0**-12
)
"""Weights: one symmetric scale for all, int8 without -128, fused."""
fused_per_channel_wt_fake_quant_range_neg_127_to_127 = default_fused_per_channel_wt_fake_quant.with_args(
    quant_min=-127, quant_max=127, eps=2.0**-12
)
"""Weights: a symmetric scale for each output channel, int8 without -128, fused."""


def disable_fake_quant(mod: nn.Module) -> None:
    """Switch rounding off in one fake-quantize module; for all of a model: `model.apply(disable_fake_quant)`."""
    if isinstance(mod, FakeQuantizeBase):
        mod.disable_fake_quant()


def enable_fake_quant(mod: nn.Module) -> None:
    """Switch rounding on in one fake-quantize module; for all of a model: `model.apply(enable_fake_quant)`."""
    if isinstance(mod, FakeQuantizeBase):
        mod.enable_fake_quant()


def disable_observer(mod: nn.Module) -> None:
    """Switch observation off in one fake-quantize module; for all of a model: `model.apply(disable_observer)`."""
    if isinstance(mod, FakeQuantizeBase):
        mod.disable_observer()


def enable_observer(mod: nn.Module) -> None:
    """Switch observation on in one fake-quantize module; for all of a model: `model.apply(enable_observer)`."""
    if isinstance(mod, FakeQuantizeBase):
        mod.enable_observer()
