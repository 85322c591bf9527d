"""Two threads: what they gain, and what is left when another process keeps a core busy: `python -m benchmarks.threads`.

qcore beside torch on the same two cores; medians and the slowest of ten of single calls.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gemm import conv, linear
from benchmarks.rounds import best_time

SPIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
PAUSE = 0.05
"""Seconds; a thread of OpenMP keeps its core busy for a while after the last call."""


@contextlib.contextmanager
def neighbour(core: int) -> Iterator[None]:
    """Another process that keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", SPIN, str(core)])
    try:
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


def measure(calls: dict[str, Callable[[], Any]], threads: int, seconds: float) -> dict[str, list[float]]:
    """Times of single calls, systems by turns, each when the threads of the other no longer wait for work."""
    torch.set_num_threads(threads)
    times: dict[str, list[float]] = {system: [] for system in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for system, call in calls.items():
            time.sleep(PAUSE)
            times[system] += [best_time(call, 0.0) for _ in range(100)]
    return times


def main() -> None:
    """Print a line for each shape, system and condition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each condition")
    parser.add_argument("--isa", help="instruction set (default: the best that the CPU has)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*deprecat.*")
    torch.backends.quantized.engine = "fbgemm"
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, set(cores))
    shapes = {"linear 128x768x768": linear(128, 768, 768), "conv 64x56^2 3x3": conv(64, 56, 64)}
    print(f"{'shape':22}{'condition':26}{'system':14}{'median us':>10}{'slow us':>10}")
    for shape, (_, calls) in shapes.items():
        chosen = {system: calls[system] for system in (options.isa or next(iter(calls)), "torch")}
        for threads, busy in [(1, False), (2, False), (2, True)]:
            condition = f"{threads} threads" + (", one core taken" if busy else "")
            with neighbour(cores[1]) if busy else contextlib.nullcontext():
                found = measure(chosen, threads, options.seconds)
            for system, times in found.items():
                slow = statistics.quantiles(times, n=10)[-1]
                print(f"{shape:22}{condition:26}{system:14}{statistics.median(times) * 1e6:10.0f}{slow * 1e6:10.0f}")


if __name__ == "__main__":
    main()
