"""Seconds that the passes of graph mode take, beside torch's own: python -m benchmarks.fx_passes [--net resnet50]

In one process, in turns, medians: prepare and convert of torchvision's definition of a net (random weights).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

import qcore


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it gives."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def torchs() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """prepare and convert of torch, with its default mapping for fbgemm."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = "fbgemm"
    mapping = get_default_qconfig_mapping("fbgemm")
    return lambda model, inputs: prepare_fx(model, mapping, inputs), convert_fx


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="resnet50")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from tests.vision_models import torchvision_models

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = getattr(torchvision_models(), options.net)().eval()
    inputs = (torch.randn(1, 3, 64, 64),)
    flows = {
        "qcore": (lambda model, inputs: qcore.prepare_fx(model, None, inputs), qcore.convert_fx),
        "torch": torchs(),
    }
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for name, (prepare, convert) in flows.items():
            spent, prepared = seconds(lambda: prepare(model, inputs))  # noqa: B023
            times.setdefault((name, "prepare"), []).append(spent)
            with torch.no_grad():
                prepared(*inputs)
            times.setdefault((name, "convert"), []).append(seconds(lambda: convert(prepared))[0])  # noqa: B023
    print(f"{options.net}, median of {options.rounds}, seconds")
    for step in ("prepare", "convert"):
        ours, theirs = (statistics.median(times[(name, step)]) for name in flows)
        print(f"{step:8}  qcore {ours:.3f}  torch {theirs:.3f}  ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
