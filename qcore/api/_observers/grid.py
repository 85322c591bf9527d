"""A histogram on a grid that does not depend on the data's order: bins of width 2**e, with edges at whole multiples
of it.

The exponent e is the smallest with which [min, max] of all data fits into BINS bins; it can only grow, and then
neighbours in pairs become one bin. So no count is ever split, and two histograms merge exactly: the result is that of
all the data at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

BINS = 4096
_CHUNK = 1 << 18
_LOWEST, _HIGHEST = -126, 127
_MANTISSA = 24


def exponent_for(low: float, high: float) -> int:
    """The exponent of the bin width for data in [low, high], finite float32 numbers."""
    largest = max(abs(low), abs(high))
    # no finer than float32 itself, so that dividing by the width and rounding down are exact
    finest = max(math.frexp(largest)[1] - _MANTISSA, _LOWEST) if largest else _LOWEST
    span = high - low
    exponent = max(finest, math.frexp(span / BINS)[1] - 2 if span else finest)
    while index_of(high, exponent) - index_of(low, exponent) >= BINS:
        exponent += 1
    return exponent


def index_of(value: float, exponent: int) -> int:
    """The bin that holds a value."""
    return math.floor(math.ldexp(value, -exponent))


def holds(exponent: int, first: int, low: float, high: float) -> bool:
    """Whether [low, high] lies in the bins from `first` on; it does not where one is NaN."""
    return low <= high and first <= index_of(low, exponent) and index_of(high, exponent) < first + BINS


def count(x: Tensor, low: float, high: float, exponent: int) -> tuple[Tensor, int]:
    """Counts (int64, BINS) of the float32 values of x in [low, high] in bins of width 2**exponent, and the first
    bin's index."""
    first = index_of(low, exponent)
    return _bincount(x, lambda part: torch.mul(part, 2.0**-exponent).floor_().sub_(first), BINS), first


def rescale(counts: Tensor, first: int, exponent: int, low: float, wider: int) -> tuple[Tensor, int]:
    """The same counts in bins of width 2**wider, wider >= exponent, starting with the bin of `low`, which must hold
    or precede all."""
    begin = index_of(low, wider)
    if wider == exponent and begin == first:
        return counts, first
    used = counts.nonzero().flatten()
    moved = ((used + first) >> min(wider - exponent, 62)) - begin
    return torch.zeros_like(counts).index_add_(0, moved, counts[used]), begin


@lru_cache(maxsize=128)
def places_of_middles(exponent: int, first: int, low: float, high: float, bins: int) -> Tensor:
    """For the middle of each of BINS bins, the one of `bins` equal bins over [low, high] that it is in, or next to."""
    middles = (torch.arange(first, first + BINS, dtype=torch.float64, device="cpu") + 0.5) * 2.0**exponent
    return ((middles - low) * (bins / (high - low))).clamp(0, bins - 1).long()


def linear_histogram(x: Tensor, bins: int, low: Tensor, high: Tensor) -> Tensor:
    """Counts (int64) of x in `bins` equal bins over [low, high], 0-dimensional float32 tensors: what torch.histc
    counts."""
    if bool(low == high):
        counts = torch.zeros(bins, dtype=torch.int64, device=x.device)
        counts[bins // 2] = x.numel()
        return counts
    span = high - low
    return _bincount(x, lambda part: torch.sub(part, low).mul_(bins).div_(span).clamp_(max=bins - 1), bins)


def _bincount(x: Tensor, to_index: Callable[[Tensor], Tensor], bins: int) -> Tensor:
    """Counts of the indices that `to_index` makes of x, by parts, so that memory stays small."""
    narrow = torch.int16 if bins <= 2**15 else torch.int32
    total = torch.zeros(bins, dtype=torch.int64, device=x.device)
    for part in torch.split(x.reshape(-1), _CHUNK):
        total += torch.bincount(to_index(part).to(narrow), minlength=bins)
    return total
