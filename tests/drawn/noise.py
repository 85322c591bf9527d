"""How far 8 bits may take a model from its float results: rounding injected at each step of the float model.

An independent estimate, written in plain torch. A run of the float model under a dispatch mode rounds the result of
each operation, but those that only move elements, to 256 levels of the range that this operation's results had over
all calibration data; weights, and tables of embeddings, are rounded to 8 bits for each output channel or row before.
What is rounded is what depends on a float input or on a table: a model of tokens has its first rounding behind the
table. For dynamic quantization, which leaves tables as they are, the inputs of products with weights are rounded
instead, to 256 levels of their own range. Errors go through the rest of the model as they do in qcore: a product of
many factors adds up their relative errors, a difference of near values keeps their absolute ones.

Where the levels lie is drawn anew in each of several runs; the estimate is the least signal-to-noise ratio among them.
The energy of the noise of n values varies from one rounding to the next by a factor of about 1 + sqrt(2 / n) for most
draws; of few values the worst of RUNS may well be a lucky one, so that there are as many runs as give VALUES errors.
One more draw beyond 3.16 times (10 dB) the worst of 20 of a single value is then rarer than one in 10^5.

qcore computes several of these steps in one (a layer with its activation), keeps what it does not quantize in float,
and so should be better, not worse. It may be worse by MARGIN: its one rounding is one draw, and observers cut ranges.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

RUNS, MOST_RUNS = 5, 20
VALUES = 64
"""Errors that are drawn, of each result, but for MOST_RUNS."""
MARGIN = 10.0
"""Decibels below the estimate that a result may be."""
ONE_STEP = 10.8
"""Decibels between errors of one step in each value and those of rounding, which are a step over sqrt(12): as far
apart are two roundings of values that all lie halfway, such as means of integers, to this side and to that."""
LARGE = 1e6
"""A value beyond stands for infinity (a mask), and is no number to round."""
MOVES = {
    "clone", "copy_", "_to_copy", "index_select", "slice", "select", "roll", "flip", "repeat", "gather",
    "detach", "view", "_unsafe_view", "expand", "permute", "transpose", "t", "unsqueeze",
    "squeeze", "as_strided", "lift_fresh", "index", "masked_fill", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "zeros_like", "new_zeros", "zeros", "fill_", "zero_", "relu", "relu_",
    "pixel_shuffle", "reflection_pad1d", "reflection_pad2d", "sort", "topk", "where", "split", "unbind",
}  # fmt: skip
TABLES = {"embedding", "_embedding_bag", "_embedding_bag_forward_only"}
"""Operations that take rows of a table, rounded where the model is static."""
SHARING = {
    "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
}  # fmt: skip
"""Averages, which are rounded to the levels of what they average, as in torch's quantized form."""
PRODUCTS = {"addmm", "mm", "bmm", "mkldnn_rnn_layer", "baddbmm", "_addmm_activation", "linear", "mv", "addmv", "dot"}


def flat(result: Any) -> list[Tensor]:
    """The tensors of a result, in order."""
    return [each for each in tree_iter(result) if isinstance(each, Tensor)]


def decibels(right: Tensor, found: Tensor) -> float:
    right, found = right.detach().double(), found.detach().double()
    noise = float((right - found).square().sum())
    return 200.0 if noise == 0 else float(10 * torch.log10(right.square().sum() / noise + 1e-20))


class Rounding(TorchDispatchMode):
    """Rounds results (or inputs of products) of all operations within; `ranges`: of each operation, by its place."""

    def __init__(self, ranges: dict[Any, tuple[float, float]], observes: bool, dynamic: bool, seed: int) -> None:
        super().__init__()
        self.ranges, self.observes, self.dynamic = ranges, observes, dynamic
        self.generator = torch.Generator().manual_seed(seed)
        self.place = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        given = [each for each in tree_iter((args, kwargs)) if isinstance(each, Tensor)]
        noisy = any(getattr(each, "is_noisy", False) for each in given) or (not self.dynamic and name in TABLES)
        if (
            self.dynamic
            and noisy
            and name in PRODUCTS
            and not all(getattr(e, "is_noisy", False) for e in given if e.ndim)
        ):
            args = torch.utils._pytree.tree_map(self._rounded_input, args)
        result = func(*args, **(kwargs or {}))
        self.place += 1
        if not noisy:
            return result
        for number, each in enumerate(part for part in tree_iter(result) if isinstance(part, Tensor)):
            each.is_noisy = True
            if not self.dynamic and name not in MOVES and each.is_floating_point():
                of = [each, given[0]] if name in SHARING and given[0].numel() else [each]
                self._round((name, self.place, number), (name, number), each, of)
        return result

    def _rounded_input(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not getattr(value, "is_noisy", False) or not value.is_floating_point():
            return value
        found = value.clone()
        self.levels(found, float(value.min()), float(value.max()))
        return found

    def _round(self, key: Any, kind: Any, value: Tensor, of: list[Tensor]) -> None:
        """Round a value, in place, to the levels of the range that tensors had at this place; or note that."""
        if not value.numel() or not all(bool((each.abs() < LARGE).all()) for each in of):
            return
        lowest, highest = min(float(each.min()) for each in of), max(float(each.max()) for each in of)
        if self.observes:
            for each in (key, kind):
                low, high = self.ranges.get(each, (0.0, 0.0))
                self.ranges[each] = min(low, lowest), max(high, highest)
            return
        self.levels(value, *self.ranges.get(key, self.ranges.get(kind, (lowest, highest))))

    def levels(self, value: Tensor, low: float, high: float) -> None:
        """Round to 256 levels of a range that holds 0, clamped to it; in place."""
        shift, wider = torch.rand(2, generator=self.generator).tolist()
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) * (1 + 0.1 * wider) / 255
        if step > 1e-12:
            value.copy_(((value.clamp(low, high) / step + shift).round() - shift) * step)


def marked(inputs: Any) -> Any:
    for each in inputs:
        if isinstance(each, Tensor) and each.is_floating_point():
            each.is_noisy = True
    return inputs


def rounded_weights(model: nn.Module, tables: bool) -> nn.Module:
    model = copy.deepcopy(model)
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if weight.ndim < 2 or (isinstance(module, nn.Embedding | nn.EmbeddingBag) and not tables):
                continue
            dim = 1 if "ConvTranspose" in type(module).__name__ else 0
            largest = weight.abs().amax([d for d in range(weight.ndim) if d != dim], keepdim=True)
            step = (largest / 127).clamp(min=1e-12)
            weight.data.copy_((weight / step).round() * step)
    return model


@torch.no_grad()
def estimate(model: nn.Module, calls: list[tuple[Any, ...]], dynamic: bool) -> list[list[float]]:
    """For each call, for each tensor of the result, the decibels that 8 bits leave."""
    right = [flat(model(*copy.deepcopy(call))) for call in calls]
    rounded = rounded_weights(model, tables=not dynamic)
    ranges: dict[Any, tuple[float, float]] = {}
    for call in calls if not dynamic else []:
        with Rounding(ranges, True, False, 0):
            model(*marked(copy.deepcopy(call)))
    found = [[200.0] * len(each) for each in right]
    fewest = min((each.numel() for results in right for each in results if each.is_floating_point()), default=VALUES)
    for run in range(max(RUNS, min(MOST_RUNS, VALUES // max(1, fewest)))):
        for number, call in enumerate(calls):
            mode = Rounding(ranges, False, dynamic, run)
            given = marked(copy.deepcopy(call))
            if not dynamic:
                for each in given:
                    if isinstance(each, Tensor) and each.is_floating_point():
                        mode.levels(each, float(each.min()), float(each.max()))
            with mode:
                result = rounded(*given)
            for place, (a, b) in enumerate(zip(right[number], flat(result), strict=True)):
                found[number][place] = min(found[number][place], decibels(a, b) if a.shape == b.shape else -99.0)
    return found
