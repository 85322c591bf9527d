"""Every case of the conformance kit on kernels whose tensors lie at forbidden pages, in processes of their own.

python -m tests.native.guard_pages BACKEND [--drawn 20] [--graphs 60] [--quick] [--isa NAME ...]

A crash is told with the operator, its combination, the recipe (seed included), the instruction set and where tensors lay.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, Phase, given, settings

from qcore.conformance import graphs
from qcore.conformance.case import Facet, facets
from qcore.conformance.check import same_results
from qcore.conformance.families import FAMILIES
from qcore.conformance.suite import _written
from qcore.native.backend import NativeBackend
from qcore.registry import registry
from tests.native.guarded import ENDS, guarded

Task = tuple[str, str, Callable[[], None]]
"""Operator, case, and what runs it."""


@dataclass
class Found:
    """What a run found."""

    cases: int = 0
    refused: int = 0
    operators: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)


def tasks(name: str, isa: str, at: str, *, drawn: int, plans: int, quick: bool) -> Iterator[Task]:
    """Written, large, drawn cases of each operator, and graphs. `quick`: written ones are spread over combinations."""
    backend = registry.get(name)
    assert isinstance(backend, NativeBackend)
    other = guarded(backend, isa, at)

    def run(facet: Facet, recipe: object, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        case = FAMILIES[facet.spec.operator].make(facet, recipe)
        if not backend.supports(case.operator, facet.activations):
            raise _Refused
        expected = case.build(_plain(backend, isa), case.operator)(*case.args)
        if not same_results(expected, case.build(other, case.operator)(*case.args)):
            raise AssertionError("the result depends on where the tensors lie")

    for title, (facet, recipe) in _written(name, quick):
        yield facet.spec.operator.name, f"{title} {recipe}", lambda f=facet, r=recipe: run(f, r)
    seen = set()
    for spec in backend.capability().ops:
        family = FAMILIES[spec.operator]
        for facet in facets(spec, mixed=family.requantizes):
            group = facet.spatial, facet.options, facet.function, facet.fused
            if not quick or group not in seen:
                large = family.large(facet)
                yield spec.operator.name, f"{facet} {large}", lambda f=facet, r=large: run(f, r, 2)
            seen.add(group)
            for recipe in recipes(facet, drawn):
                yield spec.operator.name, f"{facet} {recipe}", lambda f=facet, r=recipe: run(f, r)
        seen.clear()
    for seed in range(plans):
        graph = graphs.Drawing(backend.capability(), seed).graph()
        yield "graph", f"seed {seed}", lambda g=graph: graphs.check_graph(other, g) and None


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


def _plain(backend: NativeBackend, isa: str) -> NativeBackend:
    class OneIsa(type(backend)):  # type: ignore[misc]
        def kernels(self, isa: str | None = isa) -> object:
            return backend.kernels(isa)

    return OneIsa()


def _child(arguments: argparse.Namespace) -> None:
    """Runs the cases from number `start` on: a line with each before it runs, and one with what became of it."""
    faulthandler.enable()
    options = {"drawn": arguments.drawn, "plans": arguments.graphs, "quick": arguments.quick}
    for number, (operator, title, run) in enumerate(tasks(arguments.backend, *arguments.child, **options)):
        if number < arguments.start:
            continue
        print(number, operator, title.replace("\n", " "), sep="\t", flush=True)
        try:
            run()
            print("ok", flush=True)
        except _Refused:
            print("refused", flush=True)
        except Exception as error:
            print(f"failed\t{type(error).__name__}: {error}".replace("\n", " "), flush=True)


def explore(backend: str, isa: str, at: str, options: list[str], found: Found) -> None:
    """All cases with tensors at one place, in as many processes as it takes."""
    command = [sys.executable, "-m", "tests.native.guard_pages", backend, "--child", isa, at, *options]
    start = 0
    while start >= 0:
        child = subprocess.run([*command, "--start", str(start)], capture_output=True, text=True, check=False)
        operator, title, running = "", "", False
        for line in child.stdout.splitlines():
            outcome, *rest = line.split("\t")
            if outcome.isdigit():
                start, operator, title, running = int(outcome) + 1, rest[0], rest[1], True
                found.operators.add(operator)
                continue
            running = False
            found.cases += outcome != "refused"
            found.refused += outcome == "refused"
            if outcome == "failed":
                found.findings.append(f"{isa}, {at}: {operator}: {title}: {rest[0]}")
        if child.returncode == 0:
            return
        told = child.stderr[-3000:]
        if not running:
            raise RuntimeError(f"the process ended with {child.returncode} outside of any case:\n{told}")
        found.cases += 1
        found.findings.append(f"{isa}, {at}: {operator}: {title}: crashed (exit {child.returncode})\n{told}")


def main(arguments: list[str] | None = None) -> int:
    """Runs it; the number of findings is the exit status, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("--isa", nargs="*", help="instruction sets (all that this CPU has)")
    parser.add_argument("--drawn", type=int, default=20, help="cases drawn for each combination")
    parser.add_argument("--graphs", type=int, default=60, help="graphs whose plans are run")
    parser.add_argument("--quick", action="store_true", help="combinations of an operator share its written cases")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        _child(given)
        return 0
    backend = registry.get(given.backend)
    assert isinstance(backend, NativeBackend)
    isas = given.isa or backend.supported_isas()
    options = ["--drawn", str(given.drawn), "--graphs", str(given.graphs), *["--quick"] * given.quick]
    found = Found()
    for isa in isas:
        for at in ENDS:
            explore(given.backend, isa, at, options, found)
    print(*found.findings, sep="\n")
    kinds = Counter(each.partition(": ")[2].partition(":")[0] for each in found.findings)
    print(
        f"guard pages: {given.backend} on {', '.join(isas)}: {found.cases} cases of {len(found.operators)} operators "
        f"(and {found.refused} refused), tensors at the end and at the start of pages: {len(found.findings)} findings "
        f"{dict(kinds) or ''}".rstrip()
    )
    return bool(found.findings)


if __name__ == "__main__":
    sys.exit(main())
