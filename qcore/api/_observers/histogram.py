"""The observer that chooses the range of least quantization error from a histogram."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from qcore.api._observers import grid
from qcore.api._observers.base import EPS, ObserverBase, UniformQuantizationObserverBase
from qcore.api._observers.error_search import Range, best_range, even_step_errors
from qcore.api._observers.kernels import kernel_for
from qcore.api._observers.minmax import extremes
from qcore.tensor.arguments import check_whole
from qcore.tensor.dtypes import per_tensor_affine, per_tensor_symmetric, quint8
from qcore.training_operators import EvenHistogram, Histogram

Counted: TypeAlias = tuple[Tensor, int, int, Tensor, Tensor]
"""Counts on the grid, index of the first bin, exponent of the width; least and greatest."""


class HistogramObserver(UniformQuantizationObserverBase):
    """Keeps a histogram of all data, of any shape, and chooses the range of least squared quantization error.

    Buffers: `histogram` float32 (bins,) over [min_val, max_val], as torch has it; `counts` int64 (grid.BINS,) on a
    grid that does not depend on the order of the data, with `grid_position`: the exponent of its bin width, the index
    of its first bin, and whether all inputs had the same minimum and maximum. Memory is bounded: 41 KB with the
    default 2048 bins.

    While all inputs have had the same minimum and maximum (so after the first), `histogram` is exact and the result
    equals torch's bit for bit. Afterwards it is drawn from `counts`, which are exact: a wider range splits no bin,
    where torch spreads old counts evenly over parts of bins. So neither order nor division of the data into inputs,
    nor `merge`, changes any result.
    Raises QuantizationError for data with NaN or infinity.
    """

    SCHEMES = (per_tensor_affine, per_tensor_symmetric)

    histogram: Tensor
    counts: Tensor
    grid_position: Tensor

    def __init__(
        self,
        bins: int = 2048,
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
        check_whole(2, bins=bins)
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic, **kwargs)
        self.bins = bins
        self.dst_nbins = 2 ** (8 * self.dtype.itemsize)
        self.register_buffer("histogram", self.eps.new_zeros(bins))
        self.register_buffer("min_val", self.eps.new_tensor(float("inf")))
        self.register_buffer("max_val", self.eps.new_tensor(float("-inf")))
        self.register_buffer("counts", self.eps.new_zeros(grid.BINS, dtype=torch.int64))
        self.register_buffer("grid_position", self.eps.new_zeros(3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self._is_taken(x):
            data = x.detach().to(torch.float32)
            counted = self._counted_in_place(data)
            if counted is not None and self._adds_nothing_new(*counted[3:]):
                self.counts.add_(counted[0].to(self.counts.device))
                self._draw_histogram()
                return x
            counts, first, exponent, low, high = counted or self._counted(data)
            same = not self._is_calibrated() or self._same_range(low, high)
            exact = self._exact_histogram(data, low, high) if same else None
            self._add(low, high, counts, first, exponent, exact)
        return x

    def _counted_in_place(self, x: Tensor) -> Counted | None:
        """x in the bins of `counts`, by one pass of a kernel; None where there is none, or x needs other bins."""
        kernel = kernel_for(x, self.qcore_backend, Histogram(grid.BINS))
        if kernel is None or not self._is_calibrated():
            return None
        exponent, first, _ = self.grid_position.tolist()
        counts, low, high = kernel(x, exponent, first)
        return (counts, first, exponent, low, high) if grid.holds(exponent, first, float(low), float(high)) else None

    def _counted(self, x: Tensor) -> Counted:
        """x in the finest bins that hold it."""
        low, high = extremes(x, None, self.qcore_backend)
        self._check_finite(low, high)
        bounds = float(low), float(high)
        exponent = grid.exponent_for(*bounds)
        kernel = kernel_for(x, self.qcore_backend, Histogram(grid.BINS))
        if kernel is None:
            return *grid.count(x, *bounds, exponent), exponent, low, high
        first = grid.index_of(bounds[0], exponent)
        return kernel(x, exponent, first)[0], first, exponent, low, high

    def _exact_histogram(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        if not torch.isfinite(high - low):  # the same bins, with a distance that float32 has
            x, low, high = x / 4, low / 4, high / 4
        kernel = kernel_for(x, self.qcore_backend, EvenHistogram(self.bins)) if low < high else None
        counts: Tensor = grid.linear_histogram(x, self.bins, low, high) if kernel is None else kernel(x, low, high)
        return counts

    def _same_range(self, low: Tensor, high: Tensor) -> bool:
        return bool(self.grid_position[2]) and float(low) == float(self.min_val) and float(high) == float(self.max_val)

    def _adds_nothing_new(self, low: Tensor, high: Tensor) -> bool:
        """Whether only `counts` change by data in [low, high]: neither range nor bins, nor what `histogram` shows."""
        return not self.grid_position[2] and float(self.min_val) <= float(low) and float(high) <= float(self.max_val)

    def _add(self, low: Tensor, high: Tensor, counts: Tensor, first: int, exponent: int, exact: Tensor | None) -> None:
        """Add counts of data in [low, high]; `exact`: their histogram in torch's bins, where that is still kept."""
        mine, my_first, _ = self.grid_position.tolist()
        known = self._is_calibrated()
        new_low = torch.minimum(self.min_val, low.to(self.min_val))
        new_high = torch.maximum(self.max_val, high.to(self.max_val))
        bounds = float(new_low), float(new_high)
        wider = grid.exponent_for(*bounds)
        total, begin = grid.rescale(counts.to(self.counts.device), first, exponent, bounds[0], wider)
        if known:
            total = total + grid.rescale(self.counts, my_first, mine, bounds[0], wider)[0]
        self.counts.copy_(total)
        self.min_val.copy_(new_low)
        self.max_val.copy_(new_high)
        self.grid_position.copy_(self.grid_position.new_tensor([wider, begin, int(exact is not None)]))
        if exact is not None:
            self.histogram.add_(exact.to(self.histogram))
        else:
            self._draw_histogram()

    def _draw_histogram(self) -> None:
        """Set `histogram` from `counts`, each bin whole into the one that its middle is in."""
        exponent, first, _ = self.grid_position.tolist()
        index = grid.places_of_middles(exponent, first, float(self.min_val), float(self.max_val), self.bins)
        counts = self.counts.to(self.histogram.dtype)
        self.histogram.zero_().index_add_(0, index.to(counts.device), counts)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point, of shape (1,), for the range of least squared error of the data seen.

        Raises QuantizationError, which names the module, if nothing was observed yet.
        """
        self._check_calibrated()
        return self._calculate_qparams(*self._best_range())

    def _best_range(self) -> tuple[Tensor, Tensor]:
        if bool(self.min_val == self.max_val):
            return self.min_val, self.max_val
        return self._range_as_torch() if self.grid_position[2] else self._range_on_grid()

    def _range_as_torch(self) -> tuple[Tensor, Tensor]:
        width = (self.max_val - self.min_val) / self.bins
        errors = partial(even_step_errors, self.histogram, width, self.dst_nbins)
        start, end = best_range(self.histogram, errors, thorough=False)
        return self.min_val + width * start, self.min_val + width * (end + 1)

    def _range_on_grid(self) -> tuple[Tensor, Tensor]:
        exponent, first, _ = self.grid_position.tolist()
        used = int(self.counts.nonzero()[-1]) + 1
        counts = self.counts[:used].to(self.histogram.dtype)
        edges = torch.arange(first, first + used + 1, device=counts.device).to(counts.dtype) * 2.0**exponent
        edges[0], edges[-1] = self.min_val, self.max_val
        middles = (edges[:-1] + edges[1:]) / 2

        def errors(ranges: list[Range]) -> Tensor:
            """Squared errors of really quantizing all data, in the middles of their bins, for each range."""
            starts, ends = torch.tensor(ranges, device=counts.device).unbind(1)
            scale, zero_point = self._calculate_qparams(edges[starts], edges[ends + 1])
            low, high = ((bound - zero_point).unsqueeze(1) for bound in (self.quant_min, self.quant_max))
            lost = middles - torch.clamp(torch.round(middles / scale.unsqueeze(1)), low, high) * scale.unsqueeze(1)
            return torch.mv(lost.square_(), counts)

        start, end = best_range(counts, errors, thorough=True)
        return edges[start], edges[end + 1]

    def merge(self, other: ObserverBase) -> None:
        """Add what `other`, made with the same arguments, observed: exactly as if this one had seen all the data."""
        self._check_mergeable(other)
        assert isinstance(other, HistogramObserver)
        if not other._is_calibrated():
            return
        exponent, first, same_range = other.grid_position.tolist()
        same = bool(same_range) and (not self._is_calibrated() or self._same_range(other.min_val, other.max_val))
        self._add(other.min_val, other.max_val, other.counts, first, exponent, other.histogram if same else None)

    def _merge_key(self) -> tuple[Any, ...]:
        return *super()._merge_key(), self.bins

    def reset_min_max_vals(self) -> None:
        """Forget what was observed."""
        self.reset_histogram()

    def reset_histogram(self) -> None:
        """Forget what was observed."""
        self.histogram.zero_()
        self.counts.zero_()
        self.grid_position.zero_()
        self.min_val.fill_(float("inf"))
        self.max_val.fill_(float("-inf"))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "histogram" in state_dict and prefix + "counts" not in state_dict:
            self._fill_grid(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _fill_grid(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Add to a checkpoint of torch's observer the buffers that it does not have, from its histogram."""
        histogram, low, high = (state_dict[prefix + name] for name in ("histogram", "min_val", "max_val"))
        counts, position = torch.zeros_like(self.counts), torch.zeros_like(self.grid_position)
        if bool(low <= high):
            exponent = grid.exponent_for(float(low), float(high))
            width = (high.double() - low.double()) / histogram.numel()
            bins = torch.arange(histogram.numel(), dtype=torch.float64, device=histogram.device)
            middles = low.double() + width * (bins + 0.5)
            first = int(torch.floor(low.double() * 2.0**-exponent))
            index = torch.floor(middles * 2.0**-exponent).long() - first
            counts.index_add_(0, index, histogram.round().to(torch.int64))
            position = self.grid_position.new_tensor([exponent, first, 1])
        state_dict[prefix + "counts"], state_dict[prefix + "grid_position"] = counts, position
