"""How far 8 bits may take a model from its float results: rounding injected at each step of the float model.

An independent estimate, written in plain torch. A run of the float model under a dispatch mode rounds the result of
each operation, but those that only move elements, to 256 levels of the range that this operation's results had over
all calibration data; weights are rounded to 8 bits for each output channel before. For dynamic quantization the
inputs of products with weights are rounded instead, to 256 levels of their own range. Where the levels lie is drawn
anew in each of several runs; the estimate is the least signal-to-noise ratio among them. qcore computes several of
these steps in one (a layer with its activation), keeps what it does not quantize in float, and so should be better,
not worse. It may be worse by MARGIN: one run of a small model is one draw of its rounding errors, and observers cut
ranges.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

RUNS = 5
MARGIN = 10.0
"""Decibels below the estimate that a result may be."""
LARGE = 1e6
"""A value beyond stands for infinity (a mask), and is no number to round."""
MOVES = {
    "clone", "copy_", "_to_copy", "index_select", "slice", "select", "roll", "flip", "repeat", "gather",
    "embedding", "detach", "view", "_unsafe_view", "expand", "permute", "transpose", "t", "unsqueeze",
    "squeeze", "as_strided", "lift_fresh", "index", "masked_fill", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "zeros_like", "new_zeros", "zeros", "fill_", "zero_", "relu", "relu_",
    "pixel_shuffle", "reflection_pad1d", "reflection_pad2d", "sort", "topk", "where", "split", "unbind",
}  # fmt: skip
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
        noisy = any(getattr(each, "is_noisy", False) for each in given)
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
                self._round((name, self.place, number), (name, number), each)
        return result

    def _rounded_input(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not getattr(value, "is_noisy", False) or not value.is_floating_point():
            return value
        found = value.clone()
        self.levels(found, float(value.min()), float(value.max()))
        return found

    def _round(self, key: Any, kind: Any, value: Tensor) -> None:
        if not value.numel() or not bool((value.abs() < LARGE).all()):
            return
        if self.observes:
            for each in (key, kind):
                low, high = self.ranges.get(each, (0.0, 0.0))
                self.ranges[each] = min(low, float(value.min())), max(high, float(value.max()))
            return
        self.levels(value, *self.ranges.get(key, self.ranges.get(kind, (float(value.min()), float(value.max())))))

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


def rounded_weights(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if weight.ndim < 2 or isinstance(module, nn.Embedding | nn.EmbeddingBag):
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
    rounded = rounded_weights(model)
    ranges: dict[Any, tuple[float, float]] = {}
    for call in calls if not dynamic else []:
        with Rounding(ranges, True, False, 0):
            model(*marked(copy.deepcopy(call)))
    found = [[200.0] * len(each) for each in right]
    for run in range(RUNS):
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
