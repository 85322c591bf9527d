"""A training step of MobileNetV2, float, with qcore's fake-quantize modules, all, those of weights, and none of them
switched on, and with torch.ao's: `python -m benchmarks.qat_step`.

Forward, backward and optimizer on images of 224 x 224, one pinned thread, by turns; medians of ratios to float.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import qcore
from benchmarks.models import MODELS, smooth_images
from benchmarks.rounds import best_time, pin, ratio
from qcore.api.fake_quantize import FakeQuantizeBase


def step(module: nn.Module, images: torch.Tensor) -> Callable[[], Any]:
    """One step of SGD on a batch."""
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    labels = torch.arange(len(images))

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run


def ours(model: nn.Module, inputs: tuple[torch.Tensor, ...], kept: str) -> nn.Module:
    """Prepared by qcore; only fake-quantize modules whose path ends in `kept` are switched on."""
    prepared = qcore.prepare_qat_fx(deepcopy(model), example_inputs=inputs)
    for path, module in prepared.named_modules():
        if isinstance(module, FakeQuantizeBase) and not path.endswith(kept):
            module.disable_fake_quant()
            module.disable_observer()
    return prepared


def theirs(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    """Prepared by torch.ao in graph mode."""
    from torch.ao.quantization import get_default_qat_qconfig_mapping, quantize_fx

    prepared: nn.Module = quantize_fx.prepare_qat_fx(deepcopy(model), get_default_qat_qconfig_mapping("x86"), inputs)
    return prepared


def main() -> None:
    """Print a line for each system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pin(1)
    warnings.simplefilter("ignore")
    model = MODELS["mobilenet_v2"]().module.train()
    inputs = smooth_images(options.batch, 0)
    systems = {
        "float": deepcopy(model),
        "qcore, none": ours(model, inputs, "none"),
        "qcore, weights": ours(model, inputs, "weight_fake_quant"),
        "qcore QAT": ours(model, inputs, ""),
        "torch.ao QAT": theirs(model, inputs),
    }
    calls = {name: step(module, *inputs) for name, module in systems.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(options.rounds + 1):
        for name, call in calls.items():
            elapsed = best_time(call, 0.5)
            if number:
                times[name].append(elapsed)
    for name, found in times.items():
        print(f"{name:<14}{statistics.median(found) * 1e3:8.1f} ms {ratio(times, name, 'float'):6.2f} x float")


if __name__ == "__main__":
    main()
