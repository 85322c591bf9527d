"""Observers and fake-quantize modules against torch.ao's: `python -m benchmarks.observers`.

One thread; ours and theirs take turns, and each number is the median over the rounds, in microseconds.
Observers see (8, 64, 56, 56) floats; fake-quantize modules run forward and backward on 1M floats.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.ao.quantization import fake_quantize as their_fake_quantize
from torch.ao.quantization import observer as their_observer

from qcore.api import fake_quantize, observer

OBSERVERS = {
    "MinMaxObserver": {},
    "MovingAverageMinMaxObserver": {},
    "PerChannelMinMaxObserver": {"ch_axis": 1},
    "MovingAveragePerChannelMinMaxObserver": {"ch_axis": 1},
    "HistogramObserver": {},
}
FAKE_QUANTIZE = (
    "default_fake_quant",
    "default_per_channel_weight_fake_quant",
    "default_fused_act_fake_quant",
    "default_fused_per_channel_wt_fake_quant",
)


def medians(functions: list[Callable[[], Any]], rounds: int, repeats: int = 1) -> list[float]:
    """Median microseconds of each, all called in turn in each round, `repeats` times, after two rounds to warm up."""
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 2):
        for function, found in zip(functions, times, strict=True):
            for _ in range(repeats):
                start = time.perf_counter()
                function()
                if number >= 2:
                    found.append((time.perf_counter() - start) * 1e6)
    return [statistics.median(found) for found in times]


def observe(module: Any, inputs: list[torch.Tensor], turn: int) -> Callable[[], Any]:
    """One more input, in turn; it was not the last one that another module saw, so that it is in no cache of a core."""

    def run() -> None:
        nonlocal turn
        module(inputs[turn % len(inputs)])
        turn += 1

    return run


def choose(module: Any, inputs: list[torch.Tensor]) -> Callable[[], Any]:
    """The qparams after all inputs."""
    for x in inputs:
        module(x)
    return module.calculate_qparams


def train(module: Any, x: torch.Tensor) -> Callable[[], Any]:
    """Forward and backward, from no gradient, as zero_grad leaves it."""
    x = x.clone().requires_grad_()
    weight = torch.ones_like(x)

    def run() -> None:
        x.grad = None
        module(x).backward(weight)

    return run


def pass_over(x: torch.Tensor) -> Callable[[], Any]:
    """What fake quantization with observation cannot do without, as torch does it: x is read for its range, then read
    to write a result; so is a gradient."""
    weight = torch.ones_like(x)

    def run() -> None:
        x.sum()
        result = x.clone()
        weight.clone()
        del result

    return run


def table(title: str, names: list[str], numbers: list[float], base: float | None = None) -> None:
    """Rows of ours and theirs in turn."""
    relative = f" {'x MinMax':>9}" if base else ""
    print(f"\n{title:42} {'ours':>9} {'torch':>9} {'ratio':>7}{relative}")
    for name, ours, theirs in zip(names, numbers[::2], numbers[1::2], strict=True):
        share = f" {ours / base:9.1f}" if base else ""
        print(f"{name:42} {ours:9.0f} {theirs:9.0f} {theirs / ours:7.1f}{share}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # ranges differ, so that histograms of both kinds have to be combined
    inputs = [torch.randn(8, 64, 56, 56) * (1 + 0.1 * (number % 4)) for number in range(4)]
    pairs = [
        (getattr(observer, name)(**arguments), getattr(their_observer, name)(**arguments))
        for name, arguments in OBSERVERS.items()
    ]
    found = medians([observe(module, inputs, turn) for turn, module in enumerate(sum(pairs, ()))], rounds)
    table("observe (8, 64, 56, 56), us", list(OBSERVERS), found, base=found[0])
    found = medians([choose(module, inputs) for pair in pairs for module in pair], rounds)
    table("calculate_qparams, us", list(OBSERVERS), found)
    x = torch.randn(1024, 1024)
    pairs = [(getattr(fake_quantize, name)(), getattr(their_fake_quantize, name)()) for name in FAKE_QUANTIZE]
    calls = [train(module, x) for pair in pairs for module in pair]
    *found, least = medians([*calls, pass_over(x)], rounds, repeats=10)
    table("fake-quantize 1M floats with backward, us", list(FAKE_QUANTIZE), found)
    print(f"{'one read and two copies of 1M floats':42} {least:9.0f}")


if __name__ == "__main__":
    main()
