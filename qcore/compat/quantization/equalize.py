"""Cross-layer equalization: scale channels between pairs of layers so that both weights use their range.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError, QuantizationError

__all__ = ["channel_range", "converged", "cross_layer_equalization", "equalize", "max_over_ndim", "min_over_ndim"]


def equalize(
    model: nn.Module, paired_modules_list: list[list[str]], threshold: float = 1e-4, inplace: bool = True
) -> nn.Module:
    """Equalize pairs of layers (paths; convolutions and Linears, the second right after the first, with nothing but
    relu between) in turn, until no weight moves more than `threshold`.

    Raises QuantizationError for a path without a weight, ArgumentError for channels that do not fit.
    """
    if not inplace:
        model = copy.deepcopy(model)
    pairs = [(first, second) for chain in paired_modules_list for first, second in pairwise(chain)]
    layers = {name: _layer(model, name) for pair in pairs for name in pair}
    former = {name: torch.full_like(layer.weight, torch.inf) for name, layer in layers.items()}
    while not converged({name: layer.weight for name, layer in layers.items()}, former, threshold):
        former = {name: layer.weight.detach().clone() for name, layer in layers.items()}
        for first, second in pairs:
            cross_layer_equalization(layers[first], layers[second])
    return model


def cross_layer_equalization(module1: nn.Module, module2: nn.Module, output_axis: int = 0, input_axis: int = 1) -> None:
    """Divide each output channel of the first layer by s, and multiply the input channel of the second by it, in place:
    s = sqrt(range1 / range2), which makes both ranges equal. ArgumentError where the channels do not fit.
    """
    first: Any = module1
    second: Any = module2
    out, into = first.weight.shape[output_axis], second.weight.shape[input_axis]
    if out != into:
        raise ArgumentError(f"the first layer has {out} output channels, the second {into} input channels")
    ranges = channel_range(first.weight, output_axis), channel_range(second.weight, input_axis)
    scale = torch.sqrt(ranges[0] / ranges[1])
    scale = torch.where(scale.isfinite() & (scale > 0), scale, torch.ones_like(scale))
    with torch.no_grad():
        first.weight.div_(_along(scale, first.weight, output_axis))
        if first.bias is not None:
            first.bias.div_(scale)
        second.weight.mul_(_along(scale, second.weight, input_axis))


def channel_range(input: Tensor, axis: int = 0) -> Tensor:
    """Maximum minus minimum of each slice along an axis."""
    others = [dim for dim in range(input.ndim) if dim != axis]
    return max_over_ndim(input, others) - min_over_ndim(input, others)


def max_over_ndim(input: Tensor, axis_list: list[int], keepdim: bool = False) -> Tensor:
    """The maximum over some dimensions."""
    return input.amax(axis_list, keepdim)


def min_over_ndim(input: Tensor, axis_list: list[int], keepdim: bool = False) -> Tensor:
    """The minimum over some dimensions."""
    return input.amin(axis_list, keepdim)


def converged(curr_modules: dict[str, Any], prev_modules: dict[str, Any], threshold: float = 1e-4) -> bool:
    """Whether the weights of two dicts (of tensors, or modules) differ by no more than `threshold`, in 2-norm."""
    if curr_modules.keys() != prev_modules.keys():
        raise ArgumentError("both dicts must have the same keys")
    moved = torch.zeros(())
    for name, current in curr_modules.items():
        moved = moved + torch.linalg.vector_norm(_weight(current) - _weight(prev_modules[name]))
    return bool(moved <= threshold)


def _weight(value: Any) -> Tensor:
    found: Tensor = value if isinstance(value, Tensor) else value.weight
    return found.detach()


def _along(scale: Tensor, weight: Tensor, axis: int) -> Tensor:
    return scale.reshape([-1 if dim == axis else 1 for dim in range(weight.ndim)])


def _layer(model: nn.Module, path: str) -> Any:
    layer: Any = model.get_submodule(path)
    layer = layer[0] if isinstance(layer, nn.Sequential) else layer
    if not isinstance(getattr(layer, "weight", None), Tensor):
        raise QuantizationError(f"equalize: module {path!r} ({type(layer).__name__}) has no weight")
    return layer
