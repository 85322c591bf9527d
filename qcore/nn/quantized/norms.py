"""Quantized normalization: batch, layer, group and instance norms, with float weights."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError, UnsupportedError
from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.arguments import check_number, check_whole
from qcore.tensor.qtensor import QTensor


class BatchNormBase(StaticOutput):
    """Batch norm by its running statistics; `spatial` is the number of dimensions after batch and channels."""

    computes = "batch_norm"
    spatial: ClassVar[int] = 0
    relu: ClassVar[bool] = False

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        check_whole(0, num_features=num_features)
        check_number(0, eps=eps)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.register_buffer("weight", torch.ones(num_features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(num_features, dtype=torch.float32))
        self.register_buffer("running_mean", torch.zeros(num_features, dtype=torch.float32))
        self.register_buffer("running_var", torch.ones(num_features, dtype=torch.float32))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self._init_output()

    def operator(self) -> ops.BatchNorm:
        """The operator with this module's statistics."""
        return ops.BatchNorm(self.weight, self.bias, self.running_mean, self.running_var, self.eps, self.relu)

    def forward(self, input: Tensor) -> Tensor:
        """Quantized (batch, channels, *spatial) -> quantized of the same shape."""
        if not isinstance(input, QTensor):
            self._refuse_input(input)
        shape = input.raw.shape
        if len(shape) != self.spatial + 2 or shape[1] != self.num_features:
            raise ArgumentError(
                f"{self._label()} takes an input shaped (batch, {self.num_features}{', size' * self.spatial}); "
                f"got shape {tuple(shape)}"
            )
        return self._run(input)

    @classmethod
    def reason_against_layer(cls, layer: Any) -> str:
        """A quantized batch norm scales by statistics that it has."""
        if layer.running_mean is None:
            return "a batch norm without running statistics (track_running_stats=False) stays float"
        return super().reason_against_layer(layer)

    @classmethod
    def _like(cls, layer: Any) -> Any:
        if layer.running_mean is None:
            raise UnsupportedError(cls.reason_against_layer(layer))
        return cls(layer.num_features, layer.eps, layer.momentum)

    def _take_constants(self, layer: Any, mod: Any) -> None:
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            value = getattr(layer, name)
            if value is None:
                continue
            own: Tensor = getattr(self, name)
            if value.shape != own.shape:
                raise QuantizationError(
                    f"{self._label()}: {name} of the float layer has shape {tuple(value.shape)}, and num_features="
                    f"{self.num_features} wants {tuple(own.shape)}"
                )
            own.copy_(value.detach())

    def extra_repr(self) -> str:
        """Sizes, scale and zero point."""
        return f"{self.num_features}, eps={self.eps}, scale={self.scale}, zero_point={self.zero_point}"


class BatchNorm2d(BatchNormBase):
    """Batch norm on quantized (batch, channels, height, width) -> quantized of the same shape, by running statistics.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "batch_norm".
    """

    spatial = 2


class BatchNorm3d(BatchNormBase):
    """Batch norm on quantized (batch, channels, depth, height, width) -> the same shape, by running statistics.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "batch_norm".
    """

    spatial = 3


class AffineNorm(StaticOutput):
    """Norms by each sample's own statistics, with a float weight and bias, or without."""

    weight: Tensor | None
    bias: Tensor | None

    def _init_affine(self, shape: tuple[int, ...], eps: float, weight: Any, bias: Any) -> None:
        """Weight and bias, both of this shape or None, and what divides by zero otherwise."""
        check_number(0, eps=eps)
        self.eps = eps
        for name, value in (("weight", weight), ("bias", bias)):
            if value is not None and not isinstance(value, Tensor):
                raise ArgumentTypeError(f"{name} must be a float tensor or None, not {type(value).__name__}")
            if value is not None and tuple(value.shape) != shape:
                raise ArgumentError(f"{name} must have shape {shape}, not {tuple(value.shape)}")
            self.register_buffer(name, None if value is None else value.detach().float().clone())

    @classmethod
    def from_reference(cls, mod: Any, scale: float, zero_point: int) -> Any:
        """The module for a float one whose output has these parameters."""
        quantized = cls._like(mod)
        quantized._init_output(scale, zero_point)
        return quantized


class LayerNorm(AffineNorm):
    """Layer norm over the last dimensions: quantized -> quantized of the same shape; arguments as nn.LayerNorm.

    Raises QuantizationError for a float input. Arithmetic: docs/numerics.md, "layer_norm".
    """

    computes = "layer_norm"

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        weight: Tensor | None,
        bias: Tensor | None,
        scale: float,
        zero_point: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        for size in self.normalized_shape:
            check_whole(0, normalized_shape=size)
        self.elementwise_affine = elementwise_affine
        self._init_affine(self.normalized_shape, eps, weight, bias)
        self._init_output(scale, zero_point)

    @classmethod
    def _like(cls, layer: Any) -> LayerNorm:
        return cls(layer.normalized_shape, layer.weight, layer.bias, 1.0, 0, layer.eps, layer.elementwise_affine)

    def operator(self) -> ops.LayerNorm:
        """The operator with this module's weight."""
        return ops.LayerNorm(self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes, scale and zero point."""
        return f"{self.normalized_shape}, eps={self.eps}, scale={self.scale}, zero_point={self.zero_point}"


class GroupNorm(AffineNorm):
    """Group norm on quantized (batch, channels, ...) -> quantized of the same shape; arguments as nn.GroupNorm.

    Raises QuantizationError for a float input. Arithmetic: docs/numerics.md, "group_norm".
    """

    computes = "group_norm"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        weight: Tensor | None,
        bias: Tensor | None,
        scale: float,
        zero_point: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_whole(0, num_channels=num_channels)
        check_whole(1, num_groups=num_groups)
        if num_channels % num_groups:
            raise ArgumentError(f"num_groups={num_groups!r} must divide num_channels={num_channels!r}")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.affine = affine
        self._init_affine((num_channels,), eps, weight, bias)
        self._init_output(scale, zero_point)

    def forward(self, input: Tensor) -> Tensor:
        """Quantized (batch, channels, ...) -> quantized of the same shape."""
        if not isinstance(input, QTensor):
            self._refuse_input(input)
        shape = input.raw.shape
        if len(shape) < 2 or shape[1] != self.num_channels:
            raise ArgumentError(
                f"{self._label()} takes an input shaped (batch, {self.num_channels}, ...); got shape {tuple(shape)}"
            )
        return self._run(input)

    @classmethod
    def _like(cls, layer: Any) -> GroupNorm:
        sizes = layer.num_groups, layer.num_channels
        return cls(*sizes, layer.weight, layer.bias, 1.0, 0, layer.eps, layer.affine)

    def operator(self) -> ops.GroupNorm:
        """The operator with this module's weight."""
        return ops.GroupNorm(self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes, scale and zero point."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, scale={self.scale}, zero_point={self.zero_point}"
        )


class InstanceNormBase(AffineNorm):
    """What instance norms share; `spatial` is the number of dimensions after batch and channels."""

    computes = "instance_norm"
    spatial: ClassVar[int] = 0

    def __init__(
        self,
        num_features: int,
        weight: Tensor | None,
        bias: Tensor | None,
        scale: float,
        zero_point: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_whole(0, num_features=num_features)
        self.num_features = num_features
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._init_affine((num_features,), eps, weight, bias)
        self._init_output(scale, zero_point)

    @classmethod
    def reason_against_layer(cls, layer: Any) -> str:
        """A quantized instance norm scales by the statistics of its input."""
        if layer.track_running_stats:
            return "an instance norm by running statistics (track_running_stats=True) stays float"
        return super().reason_against_layer(layer)

    @classmethod
    def _like(cls, layer: Any) -> Any:
        if layer.track_running_stats:
            raise UnsupportedError(cls.reason_against_layer(layer))
        return cls(layer.num_features, layer.weight, layer.bias, 1.0, 0, layer.eps, layer.momentum, layer.affine)

    def operator(self) -> ops.InstanceNorm:
        """The operator with this module's weight."""
        return ops.InstanceNorm(self.weight, self.bias, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        """Quantized (batch, channels, *spatial) -> quantized of the same shape."""
        if not isinstance(input, QTensor):
            self._refuse_input(input)
        shape = input.raw.shape
        channels = shape[1] if len(shape) == self.spatial + 2 else 0
        if not channels or (self.weight is not None and channels != self.num_features):
            raise ArgumentError(
                f"{self._label()} takes an input shaped (batch, {self.num_features}{', size' * self.spatial}); "
                f"got shape {tuple(shape)}"
            )
        return self._run(input)

    def extra_repr(self) -> str:
        """Sizes, scale and zero point."""
        return f"{self.num_features}, eps={self.eps}, scale={self.scale}, zero_point={self.zero_point}"


class InstanceNorm1d(InstanceNormBase):
    """Instance norm on quantized (batch, channels, length) -> the same shape; arguments as nn.InstanceNorm1d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "instance_norm".
    """

    spatial = 1


class InstanceNorm2d(InstanceNormBase):
    """Instance norm on quantized (batch, channels, height, width) -> the same shape; arguments as nn.InstanceNorm2d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "instance_norm".
    """

    spatial = 2


class InstanceNorm3d(InstanceNormBase):
    """Instance norm on quantized (batch, channels, depth, height, width) -> the same shape; as nn.InstanceNorm3d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "instance_norm".
    """

    spatial = 3
