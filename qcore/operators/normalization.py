"""Normalization layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from qcore.operators.base import UNARY, Operator


@dataclass(frozen=True, eq=False)
class BatchNorm(Operator):
    """Normalization by fixed statistics, one per channel of axis 1; float32 constants. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "batch_norm"
    call: ClassVar = UNARY
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    eps: float = 1e-5
    relu: bool = False


@dataclass(frozen=True, eq=False)
class LayerNorm(Operator):
    """Normalization over the last len(normalized_shape) dimensions. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "layer_norm"
    call: ClassVar = UNARY
    normalized_shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float = 1e-5


@dataclass(frozen=True, eq=False)
class GroupNorm(Operator):
    """Normalization over each of `num_groups` groups of channels of axis 1. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "group_norm"
    call: ClassVar = UNARY
    num_groups: int
    weight: Tensor | None
    bias: Tensor | None
    eps: float = 1e-5


@dataclass(frozen=True, eq=False)
class InstanceNorm(Operator):
    """Normalization of each sample's channels by their own statistics. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "instance_norm"
    call: ClassVar = UNARY
    weight: Tensor | None
    bias: Tensor | None
    eps: float = 1e-5
