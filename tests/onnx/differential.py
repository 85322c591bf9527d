"""Converted models beside their ONNX files in ONNX Runtime, at another batch size than they were exported with.

python -m tests.onnx.differential [MODEL ...]: for each, the share of outputs that are equal, one step of the last
quantization away, and further, and how strong the model's outputs are beside the differences, in decibels. Models
whose last layer gives floats (dynamic quantization) have no such step: only the last column.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import qcore
from benchmarks.models import MODELS, Model, vision
from examples import vision as digits
from tests.onnx.running import flat, run

EXPORTED, RUN = 2, 3
"""Batch sizes."""


def converted(model: Model) -> nn.Module:
    """Static on the graph for images, dynamic for the rest."""
    if model.kind != "vision":
        return qcore.quantize_dynamic(copy.deepcopy(model.module))
    prepared = qcore.prepare(model.module, example_inputs=model.inputs(EXPORTED, 0))
    for batch in model.calibration():
        prepared(*batch)
    return qcore.convert(prepared)


def digit_net() -> tuple[nn.Module, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The digits net in eager mode, and images to export and to run it with."""
    images, labels, test_images, _ = digits.digits()
    quantized = digits.quantize(digits.train(images, labels, epochs=4), images[:512], "auto")
    return quantized, (test_images[:2],), (test_images,)


def benchmark(make: Callable[[], Model]) -> tuple[nn.Module, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """One of the benchmarks' models, and inputs to export and to run it with."""
    model = make()
    return converted(model), model.inputs(EXPORTED, 0), model.inputs(RUN, 7)


OTHERS = ("mobilenet_v3_large", "googlenet", "shufflenet_v2_x1_0", "vit_b_16")
ALL: dict[str, Callable[[], Any]] = {
    "digits": digit_net,
    **{name: lambda make=make: benchmark(make) for name, make in MODELS.items()},
    **{name: lambda name=name: benchmark(lambda: vision(name)) for name in OTHERS},
}


def compare(model: nn.Module, example: tuple[Tensor, ...], inputs: tuple[Tensor, ...], path: Path) -> str:
    """One line of the table."""
    free = torch.export.Dim.DYNAMIC
    axis = next(dim for dim, size in enumerate(example[0].shape) if size != inputs[0].shape[dim])
    qcore.export_onnx(model, path, example, tuple({axis: free} for _ in example), unsigned_weights=True)
    with torch.no_grad():
        expected = torch.cat([each.flatten() for each in flat(model(*inputs))])
    found = torch.cat([each.flatten() for each in run(path, inputs)])
    off = found - expected
    decibels = 10 * torch.log10(expected.square().sum() / off.square().sum().clamp(min=1e-30))
    count = f"{expected.numel():>9,}"
    levels = expected.unique()
    if len(levels) > 256:
        return f"{count} {'':>27} {decibels:>8.1f}"
    steps = (off / levels.diff().min()).abs().round()
    shares = [float(share.float().mean()) for share in (steps == 0, steps == 1, steps > 1)]
    return f"{count} {'':>3}{' '.join(f'{100 * share:>7.2f}' for share in shares)} {decibels:>8.1f}"


def main() -> None:
    """The table."""
    print(f"{'model':<20} {'outputs':>9} {'':>3}{'equal %':>7} {'1 step':>7} {'further':>7} {'dB':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or ALL:
            print(f"{name:<20} {compare(*ALL[name](), Path(folder) / 'model.onnx')}", flush=True)


if __name__ == "__main__":
    main()
