"""Embedding bags of fbgemm_x86, 8 and 4 bit, beside torch's quantized and float ones: `python -m benchmarks.embedding`.

One pinned thread; systems take turns in short blocks. A call sums the next of many batches of bags with random indices,
so that rows of a large table come from memory. Nanoseconds for each row are medians of the best times of blocks, ratios
medians of the ratios of rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import torch
from qcore_fbgemm_x86.backend import FbgemmX86
from torch import Tensor
from torch.nn import functional

from benchmarks.rounds import best_time
from qcore import operators as ops
from qcore.tensor.dtypes import quint4x2, quint8
from qcore.tensor.qparams import per_channel

CASES = [(10_000, 64, 20, False), (1_000_000, 64, 20, False), (1_000_000, 64, 20, True), (1_000_000, 128, 1, False)]
"""rows, dim, length of bags, with per-sample weights"""
BAGS, BATCHES = 512, 64

Lookup = Callable[[Tensor, Tensor, Any], Tensor]
"""From indices, offsets and per-sample weights to the sums."""


def torch_lookup(table: Tensor, bits: int) -> Lookup:
    """torch's quantized bags."""
    names = ("byte", "byte_rowwise") if bits == 8 else ("4bit", "4bit_rowwise")
    packed = getattr(torch.ops.quantized, f"embedding_bag_{names[0]}_prepack")(table)
    bags = getattr(torch.ops.quantized, f"embedding_bag_{names[1]}_offsets")
    return lambda indices, offsets, weights: bags(packed, indices, offsets, per_sample_weights=weights)


def lookups(rows: int, dim: int) -> dict[str, Lookup]:
    """Each system with a table of this size; those of qcore hold random integers."""
    table = torch.randn(rows, dim)
    found: dict[str, Lookup] = {
        "torch float32": lambda indices, offsets, weights: functional.embedding_bag(
            indices, table, offsets, mode="sum", per_sample_weights=weights
        )
    }
    for bits, dtype in ((8, quint8), (4, quint4x2)):
        found[f"torch {bits} bits"] = torch_lookup(table, bits)
        weight = torch.randint(0, 2**bits, (rows, dim), dtype=torch.uint8)
        operator = ops.EmbeddingBag(weight, per_channel(torch.full((rows,), 0.1), torch.full((rows,), 7.0), 0, dtype))
        for isa in FbgemmX86().supported_isas():
            found[f"{bits} bits {isa}"] = FbgemmX86().build(operator, isa=isa)
    return found


def take_turn(lookup: Lookup, offsets: Tensor, batches: Iterator[tuple[Tensor, Any]]) -> None:
    """Sum the next batch."""
    indices, weights = next(batches)
    lookup(indices, offsets, weights)


def main() -> None:
    """Print a line for each table and system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=float, default=0.05, help="seconds of a block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.manual_seed(0)
    print(f"{'rows, dim, length, weights':34}{'system':22}{'ns a row':>9}{'x torch, same bits':>20}{'x float32':>11}")
    for rows, dim, length, weighted in CASES:
        n = BAGS * length
        offsets = torch.arange(0, n, length)
        batches = [(torch.randint(0, rows, (n,)), torch.rand(n) if weighted else None) for _ in range(BATCHES)]
        calls = {}
        for system, lookup in lookups(rows, dim).items():
            calls[system] = partial(take_turn, lookup, offsets, cycle(batches))
        times: dict[str, list[float]] = {system: [] for system in calls}
        for _ in range(options.rounds):
            for system, call in calls.items():
                times[system].append(best_time(call, options.block))
        for system, elapsed in times.items():
            others = "torch 4 bits" if "4 bits" in system else "torch 8 bits", "torch float32"
            ratios = [
                statistics.median(theirs / ours for theirs, ours in zip(times[other], elapsed, strict=True))
                for other in others
            ]
            case = f"{rows}, {dim}, {length}, {'with' if weighted else 'without'}"
            print(f"{case:34}{system:22}{statistics.median(elapsed) / n * 1e9:9.2f}{ratios[0]:20.2f}{ratios[1]:11.2f}")


if __name__ == "__main__":
    main()
