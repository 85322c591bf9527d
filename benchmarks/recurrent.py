"""Dynamic LSTM and GRU of fbgemm_x86, beside torch's dynamic and float ones: `python -m benchmarks.recurrent`.

Two layers of 512, 64 steps, one pinned thread; systems take turns in short blocks. Milliseconds are medians of the best
times of blocks, ratios medians of the ratios of rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import torch
from qcore_fbgemm_x86.backend import FbgemmX86
from torch import nn

from benchmarks.rounds import best_time
from qcore.api.qconfig import float16_dynamic_qconfig, per_channel_dynamic_qconfig
from qcore.nn.quantized import dynamic

SIZE, LAYERS, STEPS = 512, 2, 64
CASES = [(nn.LSTM, 1), (nn.LSTM, 8), (nn.GRU, 1), (nn.GRU, 8)]
"""network, batch"""
QCONFIGS = {"int8": per_channel_dynamic_qconfig, "float16": float16_dynamic_qconfig}


def systems(network: type[nn.RNNBase], batch: int) -> dict[str, Callable[[], Any]]:
    """The call of each system on one input, from a state of zeros."""
    torch.manual_seed(0)
    model = network(SIZE, SIZE, LAYERS).eval()
    x = torch.randn(STEPS, batch, SIZE)
    states = [torch.zeros(LAYERS, batch, SIZE) for _ in range(2 if network is nn.LSTM else 1)]
    calls: dict[str, Callable[[], Any]] = {"torch float32": lambda: model(x)}
    for dtype in (torch.qint8, torch.float16):
        theirs = torch.ao.quantization.quantize_dynamic(nn.Sequential(model), {network}, dtype)[0]
        name = "int8" if dtype == torch.qint8 else "float16"
        calls[f"torch {name}"] = lambda theirs=theirs: theirs(x)
    for name, qconfig in QCONFIGS.items():
        model.qconfig = qconfig
        operator = getattr(dynamic, network.__name__).from_float(model).operator()
        for isa in FbgemmX86().supported_isas():
            if isa != "scalar":
                kernel = FbgemmX86().build(operator, isa=isa)
                calls[f"{name} {isa}"] = lambda kernel=kernel: kernel(x, *states, None)
    return calls


def main() -> None:
    """Print a line for each network, batch and system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=float, default=0.2, help="seconds of a block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.filterwarnings("ignore", message=".*deprecat.*")
    torch.backends.quantized.engine = "fbgemm"
    print(f"{'network':16}{'system':24}{'milliseconds':>13}{'x torch int8':>14}{'x float32':>11}")
    for network, batch in CASES:
        with torch.inference_mode():
            calls = systems(network, batch)
            times: dict[str, list[float]] = {system: [] for system in calls}
            for call in calls.values():
                call()
            for _ in range(options.rounds):
                for system, call in calls.items():
                    times[system].append(best_time(call, options.block))
        for system, elapsed in times.items():
            ratios = [
                statistics.median(theirs / ours for theirs, ours in zip(times[other], elapsed, strict=True))
                for other in ("torch int8", "torch float32")
            ]
            print(
                f"{f'{network.__name__} batch {batch}':16}{system:24}{statistics.median(elapsed) * 1e3:13.2f}"
                f"{ratios[0]:14.2f}{ratios[1]:11.2f}"
            )


if __name__ == "__main__":
    main()
