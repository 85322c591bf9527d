"""Timing by turns: systems take short blocks in rotation, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

Call = Callable[[], Any]


def pin(threads: int) -> None:
    """Keep this process on its last `threads` cores, and torch on as many threads."""
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def best_time(call: Call, seconds: float) -> float:
    """Seconds of the fastest of the calls that fit into a block; one at least."""
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best


def rotate(calls: Mapping[str, Call], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Best seconds of each block of each system, after two calls to warm up."""
    for call in calls.values():
        call()
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(best_time(call, seconds))
    return times


def ratio(times: Mapping[str, list[float]], of: str, to: str) -> float:
    """Median over the rounds of how many times longer `of` took than `to`."""
    return statistics.median(a / b for a, b in zip(times[of], times[to], strict=True))


def signal_to_noise(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Decibels of the expected values over what differs from them."""
    noise = (expected - found).double().norm()
    return float(20 * torch.log10(expected.double().norm() / noise)) if noise else float("inf")
