"""What graph mode makes of whole nets on each backend: python -m benchmarks.fx_coverage [--nets NAME ...] [--size 224]

For each net and backend (`--backends`, else all that can run here): how many calls are quantized, how many are passed
through and how many left float, both with the reasons and their counts; the signal to noise of the results against the
float net, and whether they are those of the first backend, bit for bit. Prepared by each backend's default, or for
every call static (`--static`), calibrated on two batches, converted. MiniLM has its trained weights; those of the
others are drawn.
"""

from __future__ import annotations

import argparse
import collections
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

import qcore
from qcore.api.qconfig import get_default_qconfig
from qcore.registry import registry
from qcore.report import Report

NETS = (
    "minilm", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "googlenet", "shufflenet_v2_x1_0",
    "vit_b_16",
)  # fmt: skip
Net = tuple[nn.Module, list[tuple[Any, ...]]]


def vision(name: str, size: int) -> Net:
    """A net of torchvision's, with settled batch norms, and three batches."""
    from tests.vision_models import torchvision_models

    torch.manual_seed(0)
    options: dict[str, Any] = {"init_weights": True} if name == "googlenet" else {}
    options |= {"image_size": size} if name.startswith("vit") else {}
    model = getattr(torchvision_models(), name)(**options)
    if name.startswith("vit"):
        nn.init.normal_(model.heads.head.weight, std=0.02)  # torchvision starts it at zero
    images = [nn.functional.interpolate(torch.randn(2, 3, size // 8, size // 8), size, mode="bilinear") for _ in "123"]
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        with torch.no_grad():
            model.train()(torch.cat([torch.cat(images)] * 2))
    return model.eval(), [(each,) for each in images]


def text() -> Net:
    """MiniLM-L6 and three batches of sentences."""
    from examples.text import SentenceEncoder, batches

    return SentenceEncoder().eval(), [tuple(each.values()) for each in list(batches(24, 8))]


def noise(found: Tensor, exact: Tensor) -> float:
    """Signal to noise, in decibels."""
    return 10 * math.log10(float(exact.square().sum() / (found - exact).square().sum().clamp(min=1e-30)))


@torch.no_grad()
def converted(model: nn.Module, batches: list[tuple[Any, ...]], backend: str, static: bool) -> tuple[Report, Tensor]:
    """The report of a net on a backend, and its results on the last batch."""
    mapping = get_default_qconfig(backend) if static else None
    prepared = qcore.prepare_fx(model, mapping, batches[0], backend=backend)
    for batch in batches[:-1]:
        prepared(*batch)
    quantized = qcore.convert_fx(prepared)
    return qcore.report(quantized), quantized(*batches[-1])


def reasons(report: Report) -> collections.Counter[tuple[str, str, str]]:
    """How many calls of a kind are not quantized, for each outcome and reason."""
    rows = [row for row in report if row.outcome == "float" or (row.outcome == "passed through" and row.reason)]
    return collections.Counter((row.outcome, row.float_type, row.reason) for row in rows)


def print_reasons(report: Report) -> None:
    """Print them, the commonest first."""
    for (outcome, kind, reason), count in reasons(report).most_common():
        print(f"    {outcome}: {count} x {kind}: {reason}", flush=True)


def main() -> None:
    """Print a row for each net and backend, and the reasons for what is left float."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--backends", nargs="+")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--static", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    usable = (each.name for each in registry.statuses() if each.usable)
    names = options.backends or sorted(usable, key=lambda name: name != "reference")
    print(f"{'net':20} {'backend':14} quantized  passed through  float  by another      dB  as {names[0]}")
    for net in options.nets:
        model, batches = text() if net == "minilm" else vision(net, options.size)
        with torch.no_grad():
            exact = model(*batches[-1])
        first: Tensor | None = None
        before: Report | None = None
        for name in names:
            report, found = converted(model, batches, name, options.static)
            first = found if first is None else first
            passed = sum(row.outcome == "passed through" for row in report)
            print(
                f"{net:20} {name:14} {len(report.quantized_rows):9}  {passed:14}  {len(report.float_rows):5}  "
                f"{len(report.fallback_rows):10}  {noise(found, exact):6.1f}  {torch.equal(found, first)}",
                flush=True,
            )
            if before is None or reasons(report) != reasons(before):
                print_reasons(report)
            before = report


if __name__ == "__main__":
    main()
