"""The range that loses least: shrink a histogram's range from both ends while the squared error of quantizing it falls.

Source: the search for the range of least L2 norm in "Post-training 4-bit quantization" style calibration, as torch.ao's
HistogramObserver does it, which the results equal bit for bit; here the error of many candidate ranges is computed at
once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, islice, repeat

import torch
from torch import Tensor

_STEP = 1e-5
_BATCH = 16


def best_range(histogram: Tensor, low: Tensor, bin_width: Tensor, levels: int) -> tuple[int, int]:
    """First and last bin of the range that is best divided into `levels` integers.

    `histogram`: float32 counts (bins,); `low` and `bin_width`: 0-dimensional.
    """
    best, least = (0, histogram.numel() - 1), float("inf")
    candidates = _candidates(histogram)
    while batch := list(islice(candidates, _BATCH)):
        errors = quantization_errors(histogram, bin_width, batch, levels)
        for candidate, error in zip(batch, errors.tolist(), strict=True):
            if error > least:
                return best
            best, least = candidate, error
    return best


def quantization_errors(histogram: Tensor, bin_width: Tensor, ranges: list[tuple[int, int]], levels: int) -> Tensor:
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


def _candidates(histogram: Tensor) -> Iterator[tuple[int, int]]:
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
