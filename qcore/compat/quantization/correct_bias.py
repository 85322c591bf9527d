"""Bias correction: take the mean error that quantized weights cause out of each layer's bias.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from qcore.compat.ns.eager import Logger, Shadow, prepare_model_with_stubs
from qcore.errors import QuantizationError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.weighted import Weighted

__all__ = ["MeanShadowLogger", "bias_correction", "get_module", "get_param", "parent_child_names"]


class MeanShadowLogger(Logger):
    """Keeps the running mean over the batch of the outputs of a float layer and of its quantized form."""

    def __init__(self) -> None:
        super().__init__()
        self.stats.update(float=None, quantized=None)
        self.count = 0

    def forward(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]
        """Take one output of each."""
        x, y = (each.dequantize() if each.is_quantized else each for each in (x, y))
        self.count += 1
        for name, value in (("quantized", x), ("float", y)):
            former = self.stats[name]
            mean = value.mean(0, keepdim=True)
            self.stats[name] = mean if former is None else former + (mean - former) / self.count

    def clear(self) -> None:
        """Forget everything."""
        self.stats.update(float=None, quantized=None)
        self.count = 0


def bias_correction(
    float_model: nn.Module,
    quantized_model: nn.Module,
    img_data: Iterable[Any],
    target_modules: set[type[nn.Module]] | None = None,
    neval_batches: int | None = None,
) -> None:
    """Correct the biases of a quantized model's layers in place, layer by layer, from (input, target) batches.

    Raises QuantizationError for a layer without a bias to correct.
    """
    paths = [
        path
        for path, module in quantized_model.named_modules()
        if isinstance(module, Weighted) and (target_modules is None or type(module) in target_modules)
    ]
    batches = list(img_data)[: None if neval_batches is None else neval_batches + 1]
    kinds = {type(float_model.get_submodule(path)) for path in paths}
    for path in paths:
        layer: Any = get_module(quantized_model, path)
        if layer.bias() is None:
            raise QuantizationError(f"bias_correction: module {path!r} has no bias; give it one before quantization")
        prepare_model_with_stubs(float_model, quantized_model, kinds, MeanShadowLogger)
        with torch.no_grad():
            for batch in batches:
                quantized_model(batch[0])
        shadow: Any = get_module(quantized_model, path)
        stats = shadow.logger.stats
        error = (stats["quantized"] - stats["float"]).transpose(0, 1).flatten(1).mean(1)
        _remove_shadows(quantized_model)
        layer.set_weight_bias(layer.weight(), layer.bias() - error)


def _remove_shadows(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, Shadow):
                parent._modules[name] = child.orig_module


def get_module(model: nn.Module, name: str) -> nn.Module:
    """The module at a path."""
    return model.get_submodule(name)


def parent_child_names(name: str) -> tuple[str, str]:
    """The path of the module that a dotted name lies in, and the name there."""
    parent, _, child = name.rpartition(".")
    return parent, child


def get_param(module: Any, attr: str) -> Any:
    """A weight or bias, of a float or a quantized module."""
    value = getattr(module, attr, None)
    return value() if isinstance(module, QuantizedModule) and callable(value) else value
