"""The range that loses least: shrink a histogram's range from both ends while the squared error of quantizing it falls.

Source: the minimization of the L2 norm that torch's HistogramObserver documents, whose results these equal bit for
bit; here the errors of many candidate ranges are computed at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate, chain, islice, repeat
from typing import TypeAlias

import torch
from torch import Tensor

_STEP = 1e-5
_BATCH = 16


Range: TypeAlias = tuple[int, int]
"""First and last bin."""


def best_range(histogram: Tensor, errors: Callable[[list[Range]], Tensor], thorough: bool) -> Range:
    """The range of bins of least error; `errors` gives those of some ranges, `histogram` is float32 counts (bins,).

    The search goes inwards and ends where the error rises; that may be too early, and the whole range is never
    considered: so torch does it. `thorough` considers it, and goes on to twice the least error.
    """
    whole = (0, histogram.numel() - 1)
    best, least, patience = whole, float("inf"), 2 if thorough else 1
    candidates = chain([whole] if thorough else [], _candidates(histogram))
    while batch := list(islice(candidates, _BATCH)):
        for candidate, error in zip(batch, errors(batch).tolist(), strict=True):
            if error > patience * least:
                return best
            if error <= least:
                best, least = candidate, error
    return best


def even_step_errors(histogram: Tensor, bin_width: Tensor, levels: int, ranges: list[Range]) -> Tensor:
    """Squared error, for each range of bins, of rounding all data to the middles of `levels` equal steps across that
    range.

    Data are taken as spread evenly inside their bins; what lies outside of the range goes to its first or last step.
    """
    first, last = torch.tensor(ranges, device=histogram.device).unsqueeze(-1).unbind(1)
    step = bin_width * (last - first + 1) / levels
    begin = (torch.arange(histogram.numel(), device=histogram.device) - first) * bin_width
    end = begin + bin_width
    begin_step = torch.clamp(torch.div(begin, step, rounding_mode="floor"), 0, levels - 1)
    end_step = torch.clamp(torch.div(end, step, rounding_mode="floor"), 0, levels - 1)
    density = histogram / bin_width
    half = step / 2
    error = _squared(begin - (begin_step + 0.5) * step, half, density)
    error += (end_step - begin_step - 1) * _squared(-half, half, density)
    error += _squared(-half, end - (end_step + 0.5) * step, density)
    return torch.where(step.squeeze(1) == 0, 0.0, error.sum(1))


def _squared(begin: Tensor, end: Tensor, density: Tensor) -> Tensor:
    """Integral of density * t**2 for t from begin to end."""
    return density * ((end * end * end - begin * begin * begin) / 3)


def _candidates(histogram: Tensor) -> Iterator[Range]:
    """The ranges to try, each inside of the one before.

    Quantiles move inwards from 0 and 1 in steps of _STEP; of the two ends, that one moves which would skip more bins.
    """
    last_bin = histogram.numel() - 1
    total = float(histogram.sum())
    cumulated = torch.cumsum(histogram, 0)
    lower, upper, lower_steps, upper_steps = _quantiles()
    below, above = (lower_steps * total).to(histogram), (upper_steps * total).to(histogram)
    # steps after which the lower quantile has passed a bin, and until which the upper one has not
    passed = torch.searchsorted(below, cumulated, right=True).tolist()
    left = (above.numel() - torch.searchsorted(above.flip(0).contiguous(), cumulated)).tolist()
    left_from_end = left[::-1]
    start, end, ups, downs = 0, last_bin, 0, 0
    while start < end and lower[ups] < upper[downs]:
        to_start = min(bisect_right(passed, ups, lo=start), end)
        from_end = bisect_right(left_from_end, downs, lo=last_bin - end)
        to_end = max(last_bin - from_end, start)
        if to_start - start > end - to_end:
            start, ups = to_start, ups + 1
            yield start, end
        elif to_end < end:
            end, downs = to_end, downs + 1
            yield start, end
        else:
            downs = max(downs + 1, left[end])


@lru_cache(maxsize=1)
def _quantiles() -> tuple[list[float], list[float], Tensor, Tensor]:
    """Lower and upper quantile after each number of steps, rounded as repeated addition rounds; then those after a
    first step."""
    steps = round(1 / _STEP) + 2
    lower = list(accumulate(repeat(_STEP, steps), initial=0.0))
    upper = list(accumulate(repeat(-_STEP, steps), initial=1.0))
    return lower, upper, torch.tensor(lower[1:], dtype=torch.float64), torch.tensor(upper[1:], dtype=torch.float64)
