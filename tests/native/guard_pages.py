"""Every case of the conformance kit on kernels whose tensors, and what they allocate, lie at forbidden pages.

python -m tests.native.guard_pages BACKEND [--drawn 20] [--graphs 60] [--quick] [--isa NAME ...]

It runs in processes of its own: a crash is told with the operator, its combination, the recipe (seed included), the
instruction set and the place.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import HealthCheck, Phase, given, settings

from qcore.conformance import graphs
from qcore.conformance.case import Facet, facets
from qcore.conformance.check import same_results
from qcore.conformance.families import FAMILIES
from qcore.conformance.suite import _written
from qcore.native.backend import NativeBackend
from qcore.registry import registry
from tests.native.guarded import ENDS, guarded, with_fence, with_kernels

Task = tuple[str, str, Callable[[], Callable[[str], None]]]
"""Operator, case, and what prepares it: a function that runs it with tensors at one place."""

_GRAPH = "graph"  # in the place of an operator


@dataclass
class Found:
    """What a run found."""

    cases: int = 0
    refused: int = 0
    operators: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)


def tasks(name: str, isa: str, *, drawn: int, plans: int, quick: bool) -> Iterator[Task]:
    """Written, large, drawn cases of each operator, and graphs. `quick`: written ones are spread over combinations."""
    backend = registry.get(name)
    assert isinstance(backend, NativeBackend)
    others = {at: guarded(backend, isa, at) for at in ENDS}

    def case_of(facet: Facet, recipe: object, threads: int = 1) -> Callable[[str], None]:
        case = FAMILIES[facet.spec.operator].make(facet, recipe)
        if not backend.supports(case.operator, facet.activations):
            raise _Refused
        torch.set_num_threads(threads)
        expected = case.build(with_kernels(backend, backend.kernels(isa)), case.operator)(*case.args)

        def run(at: str) -> None:
            if not same_results(expected, case.build(others[at], case.operator)(*case.args)):
                raise AssertionError("the result depends on where the tensors lie")

        return run

    for title, (facet, recipe) in _written(name, quick):
        yield facet.spec.operator.name, f"{title} {recipe}", partial(case_of, facet, recipe)
    for spec in backend.capability().ops:
        family, seen = FAMILIES[spec.operator], set()
        for facet in facets(spec, mixed=family.requantizes):
            group = facet.spatial, facet.options, facet.function, facet.fused
            if not quick or group not in seen:
                large = family.large(facet)
                yield spec.operator.name, f"{facet} {large}", partial(case_of, facet, large, 2)
            seen.add(group)
            for recipe in recipes(facet, drawn):
                yield spec.operator.name, f"{facet} {recipe}", partial(case_of, facet, recipe)
    for seed in range(plans):
        graph = graphs.Drawing(backend.capability(), seed).graph()
        yield _GRAPH, f"seed {seed}", lambda g=graph: lambda at: graphs.check_graph(others[at], g) and None


def recipes(facet: Facet, count: int) -> list[object]:
    """Recipes that hypothesis draws, the same ones each time."""
    found: list[object] = []
    if count:

        @settings(
            max_examples=count,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(recipe=FAMILIES[facet.spec.operator].drawn(facet))
        def take(recipe: object) -> None:
            found.append(recipe)

        take()
    return found[:count]


class _Refused(Exception):
    """The backend says that it does not take a case."""


def _child(given: argparse.Namespace) -> None:
    """Runs the cases from number `start` on: a line with each before it runs, and one with what became of it."""
    faulthandler.enable()
    every = tasks(given.backend, given.child, drawn=given.drawn, plans=given.graphs, quick=given.quick)
    for number, (operator, title, prepare) in enumerate(every):
        if number < given.start or number % given.of != given.turn:
            continue
        for at in ENDS:
            print(number, operator, f"at the {at}: {title}".replace("\n", " "), sep="\t", flush=True)
            try:
                if at == ENDS[0]:
                    run = prepare()
                run(at)
                print("ok", flush=True)
            except _Refused:
                print("refused", flush=True)
                break
            except Exception as error:
                print(f"failed\t{type(error).__name__}: {error}".replace("\n", " "), flush=True)


def python(*arguments: str, fenced: bool = True) -> subprocess.CompletedProcess[str]:
    """A process of its own, in the folder that holds tests."""
    command, root = [sys.executable, *arguments], Path(__file__).resolve().parents[2]
    with TemporaryDirectory() as folder:
        env = with_fence(Path(folder)) if fenced else None
        return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def explore(backend: str, isa: str, options: list[str]) -> Found:
    """All cases on one instruction set; behind one that crashed its process another one goes on."""
    command = ["-m", "tests.native.guard_pages", backend, "--child", isa, *options]
    found, start = Found(), 0
    while True:
        child = python(*command, "--start", str(start))
        operator, title, running = "", "", False
        for line in child.stdout.splitlines():
            outcome, *rest = line.split("\t")
            if outcome.isdigit():
                start, operator, title, running = int(outcome) + 1, rest[0], rest[1], True
                found.operators |= {operator} - {_GRAPH}
                continue
            running = False
            found.cases += outcome != "refused"
            found.refused += outcome == "refused"
            if outcome == "failed":
                found.findings.append(f"{isa}: {operator}: {title}: {rest[0]}")
        if child.returncode == 0:
            return found
        told = child.stderr.partition("\nExtension modules")[0][-3000:]
        if not running:
            raise RuntimeError(f"the process ended with {child.returncode} outside of any case:\n{told}")
        found.cases += 1
        found.findings.append(f"{isa}: {operator}: {title}: crashed (exit {child.returncode})\n{told}")


def main(arguments: list[str] | None = None) -> int:
    """Runs it; the number of findings is the exit status, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("--isa", nargs="*", help="instruction sets (all that this CPU has)")
    parser.add_argument("--drawn", type=int, default=20, help="cases drawn for each combination")
    parser.add_argument("--graphs", type=int, default=60, help="graphs whose plans are run")
    parser.add_argument("--quick", action="store_true", help="combinations of an operator share its written cases")
    parser.add_argument("--share", action="store_true", help="each case on one of the instruction sets, by turns")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    for name, default in (("--start", 0), ("--turn", 0), ("--of", 1)):
        parser.add_argument(name, type=int, default=default, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        _child(given)
        return 0
    backend = registry.get(given.backend)
    assert isinstance(backend, NativeBackend)
    isas = given.isa or backend.supported_isas()
    options = ["--drawn", str(given.drawn), "--graphs", str(given.graphs), *["--quick"] * given.quick]
    total = Found()
    for turn, isa in enumerate(isas):
        turns = ["--turn", str(turn), "--of", str(len(isas))] if given.share else []
        found = explore(given.backend, isa, [*options, *turns])
        print(*found.findings, _summary(given.backend, [isa], found), sep="\n", flush=True)
        total.cases, total.refused = total.cases + found.cases, total.refused + found.refused
        total.operators |= found.operators
        total.findings += found.findings
    if len(isas) > 1:
        print(_summary(given.backend, isas, total))
    return bool(total.findings)


def _summary(backend: str, isas: list[str], found: Found) -> str:
    kinds = Counter(each.split(": ")[1] for each in found.findings)
    told = f"{len(found.findings)} findings {dict(kinds) or ''}".rstrip()
    return (
        f"pages: {backend} on {', '.join(isas)}: {found.cases} calls of {len(found.operators)} operators and of plans, "
        f"tensors at the end and at the start of pages, {found.refused} cases refused: {told}"
    )


if __name__ == "__main__":
    sys.exit(main())
