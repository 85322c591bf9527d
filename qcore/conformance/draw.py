"""Data for the cases: integers, floats, scales, zero points and strides, drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qcore.capability import WeightSpec
from qcore.conformance.case import Facet, Recipe
from qcore.tensor.dtypes import QDType
from qcore.tensor.qparams import QParams, per_channel, per_tensor


class Draw:
    """A stream of data; equal recipes give equal streams."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._generator = torch.Generator().manual_seed(recipe.seed)

    def integers(self, shape: Sequence[int], dtype: QDType, data: str | None = None) -> Tensor:
        """Integers of a dtype, in the recipe's layout: any, or all at one end."""
        data = data or self.recipe.data
        if data == "any":
            low, high = max(dtype.qmin, -(2**20)), min(dtype.qmax, 2**20)
            drawn = torch.randint(low, high + 1, tuple(shape), generator=self._generator)
        else:
            drawn = torch.full(tuple(shape), dtype.qmax if data == "highest" else dtype.qmin)
        return laid_out(drawn.to(dtype.storage), self.recipe.layout)

    def floats(self, shape: Sequence[int], magnitude: float = 1.0) -> Tensor:
        """Normally distributed float32 numbers, contiguous."""
        return torch.randn(tuple(shape), generator=self._generator) * magnitude

    def choices(self, shape: Sequence[int], values: Sequence[float]) -> Tensor:
        """Float32 numbers out of a few."""
        return torch.tensor(values)[torch.randint(len(values), tuple(shape), generator=self._generator)]

    def uniform(self, low: float, high: float, count: int = 1) -> list[float]:
        """Float64 numbers."""
        drawn = torch.rand(count, generator=self._generator, dtype=torch.float64)
        return [low + (high - low) * float(value) for value in drawn]

    def zero_point(self, dtype: QDType) -> int:
        """As the recipe says."""
        if self.recipe.zero_point == "lowest":
            return dtype.qmin
        if self.recipe.zero_point == "highest":
            return dtype.qmax
        low, high = max(dtype.qmin, -1000), min(dtype.qmax, 1000)
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def scale(self) -> float:
        """As the recipe says; not a float32 number, as a rule."""
        if self.recipe.scale == "tiny":
            return 1e-8
        low, high = (3.0, 6.0) if self.recipe.scale == "large" else (-3.0, 0.0)
        return float(10.0 ** self.uniform(low, high)[0])

    def qparams(self, dtype: QDType) -> QParams:
        """Of an input, per tensor."""
        return per_tensor(self.scale(), self.zero_point(dtype), dtype)

    def channels(self, count: int, axis: int, dtype: QDType, *, symmetric: bool = False) -> QParams:
        """Per channel, with usual scales that differ between the channels."""
        scales = 10.0 ** torch.tensor(self.uniform(-3.0, -1.0, count), dtype=torch.float64)
        zeros = torch.tensor([0 if symmetric else self.zero_point(dtype) for _ in range(count)], dtype=torch.int64)
        return per_channel(scales, zeros, axis, dtype)

    def weight_qparams(self, spec: WeightSpec, channels: int, axis: int = 0) -> QParams:
        """Of a weight of a declared kind."""
        if spec.per_channel:
            return self.channels(channels, axis, spec.dtype, symmetric=spec.symmetric)
        scale = float(10.0 ** self.uniform(-3.0, -1.0)[0])
        return per_tensor(scale, 0 if spec.symmetric else self.zero_point(spec.dtype), spec.dtype)

    def out(self, real: Tensor, dtype: QDType, unit: float) -> QParams:
        """Of a result whose real values are about these, in steps of `unit` or so, as the recipe says."""
        if self.recipe.out == "tiny":
            return per_tensor(1e-8, self.zero_point(dtype), dtype)
        if self.recipe.out == "halves":
            largest = float(real.abs().max()) if real.numel() else 0.0
            doublings = max(1, math.ceil(math.log2(max(largest, unit) / unit / 128.0)))
            return per_tensor(unit * 2.0**doublings, self.zero_point(dtype), dtype)
        low, high = (min(0.0, float(real.min())), max(0.0, float(real.max()))) if real.numel() else (-1.0, 1.0)
        scale = max((high - low) / 255.0 * self.uniform(0.7, 1.5)[0], unit / 4)
        if self.recipe.zero_point == "any":
            return per_tensor(scale, max(dtype.qmin, min(dtype.qmax, round(dtype.qmin - low / scale))), dtype)
        return per_tensor(scale, self.zero_point(dtype), dtype)


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The values of a tensor in other strides; where a layout needs more dimensions than there are, contiguous.

    "expanded" repeats the first slice along the first dimension with stride 0, so its values differ from the tensor's.
    """
    if layout == "transposed" and tensor.ndim >= 2:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "sliced" and tensor.ndim >= 1:
        wide = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), 99)
        wide[..., 1::2] = tensor
        return wide[..., 1::2]
    if layout == "expanded" and tensor.ndim >= 2 and tensor.shape[0]:
        return tensor[:1].expand(tensor.shape)
    if layout == "channels_last" and tensor.ndim in (4, 5):
        return tensor.contiguous(memory_format=channels_last(tensor.ndim))
    return tensor


def kept(x: Tensor) -> torch.memory_format | None:
    """The memory format that the result must have because x has it, if any."""
    if x.ndim not in (4, 5) or not x.numel() or x.is_contiguous():
        return None
    wanted = channels_last(x.ndim)
    return wanted if x.is_contiguous(memory_format=wanted) else None


def channels_last(ndim: int) -> torch.memory_format:
    """The memory format of this name for tensors of 4 or 5 dimensions."""
    return torch.channels_last if ndim == 4 else torch.channels_last_3d


def relu_low(facet: Facet, out: QParams) -> int | None:
    """The lower bound that a fused relu sets on the integers."""
    return int(out.zero_point) if facet.fused == "relu" else None


def weight_columns(qweight: QParams) -> tuple[Tensor, Tensor]:
    """Scales (float64) and zero points (int64) of a weight as 1-D tensors, one for each channel or one for all."""
    scales = torch.as_tensor(qweight.scale, dtype=torch.float64).reshape(-1)
    return scales, torch.as_tensor(qweight.zero_point, dtype=torch.int64).reshape(-1)
