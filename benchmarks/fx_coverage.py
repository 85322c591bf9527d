"""What graph mode makes of whole nets on each backend: python -m benchmarks.fx_coverage [--nets NAME ...] [--size 224]

For each net and backend: how many calls are quantized, how many only move elements, how many are left float and why;
the signal to noise of the results against the float net, and whether they are the reference backend's, bit for bit.
Prepared by each backend's default, or for every call static (`--static`), calibrated on two batches, converted. MiniLM
has its trained weights; those of the others are drawn.
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
def converted(model: nn.Module, batches: list[tuple[Any, ...]], backend: str, static: bool) -> tuple[Any, Tensor]:
    """The report of a net on a backend, and its results on the last batch."""
    mapping = get_default_qconfig(backend) if static else None
    prepared = qcore.prepare_fx(model, mapping, batches[0], backend=backend)
    for batch in batches[:-1]:
        prepared(*batch)
    quantized = qcore.convert_fx(prepared)
    return qcore.report(quantized), quantized(*batches[-1])


def main() -> None:
    """Print a row for each net and backend, and the reasons for what is left float."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--static", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = sorted((each.name for each in registry.statuses() if each.usable), key=lambda name: name != "reference")
    print(f"{'net':20} {'backend':14} quantized  moved  float  by another      dB  as reference")
    for net in options.nets:
        model, batches = text() if net == "minilm" else vision(net, options.size)
        with torch.no_grad():
            exact = model(*batches[-1])
        first: Tensor | None = None
        for name in names:
            report, found = converted(model, batches, name, options.static)
            first = found if first is None else first
            moved = sum(row.outcome == "passed through" for row in report)
            print(
                f"{net:20} {name:14} {len(report.quantized_rows):9}  {moved:5}  {len(report.float_rows):5}  "
                f"{len(report.fallback_rows):10}  {noise(found, exact):6.1f}  {torch.equal(found, first)}",
                flush=True,
            )
        reasons = collections.Counter((row.float_type, row.reason) for row in report.float_rows)
        for (kind, reason), count in reasons.most_common():
            print(f"    {count} x {kind}: {reason}", flush=True)


if __name__ == "__main__":
    main()
