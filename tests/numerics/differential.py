"""The reference backend against torch's fbgemm engine, on drawn cases.

    python -m tests.numerics.differential --cases 500

prints, for each operator: cases, outputs compared, mismatches; and the outputs set aside because torch contradicts
itself or overflows there (docs/numerics.md lists where), with how many of those differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qcore.registry import registry
from tests import oracle
from tests.numerics import (
    activation_cases,
    conv_transpose_cases,
    elementwise_cases,
    embedding_cases,
    float_cases,
    interpolate_cases,
    normalization_cases,
    pooling_cases,
    weighted_cases,
)
from tests.numerics.draws import Draw
from tests.numerics.outcome import Outcome

CASES: dict[str, Callable[[Draw], Iterator[Outcome]]] = {
    name: case
    for module in (
        float_cases,
        weighted_cases,
        conv_transpose_cases,
        elementwise_cases,
        activation_cases,
        pooling_cases,
        interpolate_cases,
        normalization_cases,
        embedding_cases,
    )
    for name, case in module.CASES.items()
}


@dataclass
class Tally:
    """Counts for one operator."""

    cases: int = 0
    compared: int = 0
    mismatches: int = 0
    aside: int = 0
    aside_differ: int = 0
    first: str = ""

    def add(self, outcome: Outcome) -> None:
        if outcome.ours.shape != outcome.theirs.shape or outcome.ours.dtype != outcome.theirs.dtype:
            ours, theirs = ((result.shape, result.dtype) for result in (outcome.ours, outcome.theirs))
            raise AssertionError(f"{outcome.what}: {ours}, torch {theirs}")
        differ = different(outcome.ours, outcome.theirs)
        aside = torch.zeros_like(differ) if outcome.aside is None else outcome.aside.expand_as(differ)
        wrong = differ & ~aside
        self.cases += 1
        self.compared += int((~aside).sum())
        self.mismatches += int(wrong.sum())
        self.aside += int(aside.sum())
        self.aside_differ += int((differ & aside).sum())
        if wrong.any() and not self.first:
            where = tuple(wrong.nonzero()[0].tolist())
            ours, theirs = outcome.ours[where].item(), outcome.theirs[where].item()
            self.first = f"{outcome.what}: at {where} {ours}, torch {theirs}"


def different(ours: Tensor, theirs: Tensor) -> Tensor:
    """Where two tensors differ in bits, but for the sign of zero and the payload of NaN."""
    return ~((ours == theirs) | (ours.isnan() & theirs.isnan())) if ours.is_floating_point() else ours != theirs


def compare(name: str, cases: int, seed: int = 0, backend: str = "reference", engine: str = "fbgemm") -> Tally:
    """Run `cases` draws of one operator on a backend of ours and on one of torch's engines."""
    draw, tally, build = Draw(seed), Tally(), registry.get(backend).build
    with oracle.engine(engine):
        for _ in range(cases):
            for outcome in CASES[name](draw, build):
                tally.add(outcome)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=500, help="draws for each operator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="reference")
    parser.add_argument("--engine", default="fbgemm", help="torch's engine: fbgemm or x86")
    parser.add_argument("operators", nargs="*", default=list(CASES), help="default: all")
    options = parser.parse_args()
    row = "{:<28}{:>8}{:>13}{:>12}{:>12}{:>12}"
    print(row.format("operator", "cases", "compared", "mismatches", "set aside", "differing"))
    for name in options.operators:
        tally = compare(name, options.cases, options.seed, options.backend, options.engine)
        counts = (tally.cases, tally.compared, tally.mismatches, tally.aside, tally.aside_differ)
        print(row.format(name, *(f"{count:,}" for count in counts)), flush=True)
        if tally.first:
            print("  first:", tally.first)


if __name__ == "__main__":
    main()
