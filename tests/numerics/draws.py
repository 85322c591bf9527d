"""Random tensors and parameters for the differential tests: ordinary ones, and some out of the ordinary."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from torch import Tensor

from qcore.tensor.dtypes import QDType, qint8, quint8
from qcore.tensor.qparams import QParams, per_channel, per_tensor
from tests import oracle

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Draw:
    """One source of all random choices, so that a seed repeats a run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def one_of(self, *items: Any) -> Any:
        return self.random.choice(items)

    def likely(self, probability: float) -> bool:
        return self.random.random() < probability

    def integers(self, rank: int, low: int, high: int) -> tuple[int, ...]:
        return tuple(self.integer(low, high) for _ in range(rank))

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.random.uniform(math.log(low), math.log(high)))

    def scale(self) -> float:
        """Mostly 3e-4 to 3; sometimes a power of two, where ties are common, or 1e-8."""
        kind = self.random.random()
        if kind < 0.05:
            return 1e-8
        return 2.0 ** self.integer(-8, 2) if kind < 0.25 else self.log_uniform(3e-4, 3)

    def zero_point(self, dtype: QDType) -> int:
        """Anywhere in dtype's range, at its ends more often than by chance."""
        return self.one_of(dtype.qmin, dtype.qmax, *self.integers(4, dtype.qmin, dtype.qmax))

    def dtype(self) -> QDType:
        return self.one_of(quint8, qint8)

    def params(self, dtype: QDType, scale: float | None = None) -> QParams:
        return per_tensor(self.scale() if scale is None else scale, self.zero_point(dtype), dtype)

    def channel_params(self, dtype: QDType, channels: int, axis: int, symmetric: bool = False) -> QParams:
        scales = torch.tensor([self.scale() for _ in range(channels)], dtype=torch.float64)
        zero_points = torch.tensor([0 if symmetric else self.zero_point(dtype) for _ in range(channels)])
        return per_channel(scales, zero_points, axis, dtype)

    def raw(self, shape: tuple[int, ...], dtype: QDType, low: int | None = None, high: int | None = None) -> Tensor:
        """Integers of dtype; one time in eight only its ends, or one of them."""
        low, high = dtype.qmin if low is None else low, dtype.qmax if high is None else high
        if self.likely(0.125):
            low_share = self.one_of(0.0, 0.5, 1.0)
            at_low = torch.rand(shape, generator=self.generator) < low_share
            return torch.where(at_low, low, high).to(dtype.storage)
        return torch.randint(low, high + 1, shape, generator=self.generator).to(dtype.storage)

    def image(self, rank: int, dtype: QDType, channels: int, low: int, high: int) -> Tensor:
        """(batch, channels, *spatial), half of them channels_last where there are two spatial dimensions or more."""
        x = self.raw((self.integer(1, 2), channels, *self.integers(rank, low, high)), dtype)
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if rank > 1 and self.likely(0.5) else x

    def weight(self, shape: tuple[int, ...], depthwise: bool = False) -> tuple[Tensor, QParams]:
        """int8 weights, per tensor with any zero point or per channel, in the range that torch adds exactly here.

        Its depthwise kernels add pairs of products in saturating int16 on every CPU: 2 * 255 * 64 still fits.
        """
        raw = self.raw(shape, qint8, -64, 64) if depthwise or oracle.saturates() else self.raw(shape, qint8)
        per_channel_weights = self.likely(0.5)
        return raw, self.channel_params(qint8, shape[0], 0, True) if per_channel_weights else self.params(qint8)

    def bias(self, features: int, spread: float) -> Tensor | None:
        return torch.randn(features, generator=self.generator) * spread if self.likely(0.7) else None

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator)
