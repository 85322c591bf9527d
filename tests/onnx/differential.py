"""Converted models beside their ONNX files in ONNX Runtime, at another batch size than they were exported with.

python -m tests.onnx.differential [MODEL ...]: for each, the share of outputs that are equal, one step of the last
quantization away, and further, and how strong the model's outputs are beside the differences, in decibels; then that
for a file with int8 weights, whose kernels saturate on x86 CPUs without VNNI; then how far the converted model and its
file are from the float model. Models whose last layer gives floats (dynamic quantization) have no such step.
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


Case = tuple[nn.Module, nn.Module, tuple[Tensor, ...], tuple[Tensor, ...]]
"""The float model, the converted one, and inputs to export and to run it with."""


def converted(model: Model) -> nn.Module:
    """Static on the graph for images, dynamic for the rest."""
    if model.kind != "vision":
        return qcore.quantize_dynamic(copy.deepcopy(model.module))
    prepared = qcore.prepare(model.module, example_inputs=model.inputs(EXPORTED, 0))
    for batch in model.calibration():
        prepared(*batch)
    return qcore.convert(prepared)


def digit_net() -> Case:
    """The digits net in eager mode."""
    images, labels, test_images, _ = digits.digits()
    trained = digits.train(images, labels, epochs=4)
    return trained, digits.quantize(trained, images[:512], "auto"), (test_images[:2],), (test_images,)


def benchmark(make: Callable[[], Model]) -> Case:
    """One of the benchmarks' models."""
    model = make()
    return model.module, converted(model), model.inputs(EXPORTED, 0), model.inputs(RUN, 7)


def vision_transformer() -> Model:
    """torchvision's, whose last layer begins with zeros, which would hide all differences."""
    model = vision("vit_b_16")
    head: Any = model.module.heads
    nn.init.normal_(head.head.weight, std=0.02)
    return model


OTHERS = ("mobilenet_v3_large", "googlenet", "shufflenet_v2_x1_0")
ALL: dict[str, Callable[[], Case]] = {
    "digits": digit_net,
    **{name: lambda make=make: benchmark(make) for name, make in MODELS.items()},
    **{name: lambda name=name: benchmark(lambda: vision(name)) for name in OTHERS},
    "vit_b_16": lambda: benchmark(vision_transformer),
}


def in_runtime(model: nn.Module, example: tuple[Tensor, ...], inputs: tuple[Tensor, ...], unsigned: bool) -> Tensor:
    """All outputs of the model's file, flat; sizes in which the examples differ from the inputs are free in it."""
    axis = next(dim for dim, size in enumerate(example[0].shape) if size != inputs[0].shape[dim])
    shapes = tuple({axis: torch.export.Dim.DYNAMIC} for _ in example)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        qcore.export_onnx(model, path, example, shapes, unsigned_weights=unsigned)
        return flattened(run(path, inputs))


def flattened(result: Any) -> Tensor:
    """All tensors of a result, as one."""
    return torch.cat([each.flatten() for each in flat(result)])


def decibels(expected: Tensor, found: Tensor) -> str:
    """How strong `expected` is beside the difference."""
    noise = (found - expected).square().sum().clamp(min=1e-30)
    return f"{float(10 * torch.log10(expected.square().sum() / noise)):.1f}"


def shares(expected: Tensor, found: Tensor) -> list[str]:
    """Percents that are equal, one step away, further; empty where the outputs are no integers."""
    levels = expected.unique()
    if len(levels) > 256:
        return ["", "", ""]
    steps = ((found - expected) / levels.diff().min()).abs().round()
    return [f"{100 * float(share.float().mean()):.2f}" for share in (steps == 0, steps == 1, steps > 1)]


HEADER = ("model", "outputs", "equal %", "1 step %", "further %", "dB", "dB int8", "model to fp32", "file to fp32")


def row(name: str) -> list[str]:
    """One line of the table."""
    original, model, example, inputs = ALL[name]()
    with torch.no_grad():
        floats, expected = flattened(original(*inputs)), flattened(model(*inputs))
    found, signed = (in_runtime(model, example, inputs, unsigned) for unsigned in (True, False))
    against = [(expected, found), (expected, signed), (floats, expected), (floats, found)]
    return [name, f"{expected.numel():,}", *shares(expected, found), *(decibels(*pair) for pair in against)]


def main() -> None:
    """The table, in Markdown."""
    for cells in (HEADER, ["---"] * len(HEADER)):
        print(f"| {' | '.join(cells)} |", flush=True)
    for name in sys.argv[1:] or ALL:
        print(f"| {' | '.join(row(name))} |", flush=True)


if __name__ == "__main__":
    main()
