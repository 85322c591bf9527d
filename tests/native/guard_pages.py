"""Every case of the conformance kit on kernels whose tensors, and what they allocate, lie at forbidden pages.

python -m tests.native.guard_pages BACKEND [--drawn 20] [--graphs 60] [--quick] [--every 1] [--isa NAME ...]

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
from qcore.graph.ir import Graph
from qcore.native.backend import NativeBackend
from qcore.registry import registry
from tests.native.guarded import ENDS, guarded, unfenced, with_fence, with_kernels

Task = tuple[str, str, Callable[[str], Callable[[str], None]]]
"""Operator, case, and what prepares it on an instruction set: a function that runs it with tensors at one place."""

_GRAPH = "graph"  # in the place of an operator


@dataclass
class Found:
    """What a run found."""

    cases: int = 0
    refused: int = 0
    operators: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)
    unfenced: int | None = 0
    """Pieces of memory that native calls allocated and the fenced heap had no room for; None: that heap is off."""


def tasks(name: str, isas: list[str], *, drawn: int, plans: int, quick: bool) -> Iterator[Task]:
    """Written, large, drawn cases of each operator, and graphs. `quick`: written ones are spread over combinations."""
    backend = registry.get(name)
    assert isinstance(backend, NativeBackend)
    others = {(isa, at): guarded(backend, isa, at) for isa in isas for at in ENDS}

    def case_of(facet: Facet, recipe: object, threads: int, isa: str) -> Callable[[str], None]:
        case = FAMILIES[facet.spec.operator].make(facet, recipe)
        if not backend.supports(case.operator, facet.activations):
            raise _Refused
        torch.set_num_threads(threads)
        expected = case.build(with_kernels(backend, backend.kernels(isa)), case.operator)(*case.args)

        def run(at: str) -> None:
            if not same_results(expected, case.build(others[isa, at], case.operator)(*case.args)):
                raise AssertionError("the result depends on where the tensors lie")

        return run

    def plan_of(graph: Graph, isa: str) -> Callable[[str], None]:
        return lambda at: graphs.check_graph(others[isa, at], graph) and None

    for title, (facet, recipe) in _written(name, quick):
        yield facet.spec.operator.name, f"{title} {recipe}", partial(case_of, facet, recipe, 1)
    for spec in backend.capability().ops:
        family, seen = FAMILIES[spec.operator], set()
        for facet in facets(spec, mixed=family.requantizes):
            group = facet.spatial, facet.options, facet.function, facet.fused
            if not quick or group not in seen:
                large = family.large(facet)
                yield spec.operator.name, f"{facet} {large}", partial(case_of, facet, large, 2)
            seen.add(group)
            for recipe in recipes(facet, drawn):
                yield spec.operator.name, f"{facet} {recipe}", partial(case_of, facet, recipe, 1)
    for seed in range(plans):
        graph = graphs.Drawing(backend.capability(), seed).graph()
        yield _GRAPH, f"seed {seed}", partial(plan_of, graph)


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
    isas = given.child
    found = tasks(given.backend, isas, drawn=given.drawn, plans=given.graphs, quick=given.quick)
    seen: Counter[str] = Counter()
    for number, (operator, title, prepare) in enumerate(found):
        seen[operator] += 1
        turn, left_out = divmod(seen[operator] - 1, given.every)
        if left_out or number < given.start:
            continue
        isa = isas[turn % len(isas)]
        for at in ENDS:
            print(number, operator, f"{isa} at the {at}: {title}".replace("\n", " "), sep="\t", flush=True)
            try:
                if at == ENDS[0]:
                    run = prepare(isa)
                run(at)
                print("ok", flush=True)
            except _Refused:
                print("refused", flush=True)
                break
            except Exception as error:
                print(f"failed\t{type(error).__name__}: {error}".replace("\n", " "), flush=True)
    print("unfenced", unfenced(), sep="\t", flush=True)


def python(*arguments: str, fenced: bool = True) -> subprocess.CompletedProcess[str]:
    """A process of its own, in the folder that holds tests."""
    command, root = [sys.executable, *arguments], Path(__file__).resolve().parents[2]
    with TemporaryDirectory() as folder:
        env = with_fence(Path(folder)) if fenced else None
        return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def explore(backend: str, isas: list[str], options: list[str]) -> Found:
    """Each case on one of the instruction sets, by turns; behind one that crashed its process another one goes on."""
    command = ["-m", "tests.native.guard_pages", backend, *options, "--child", *isas]
    found, start = Found(), 0
    while True:
        child = python(*command, "--start", str(start))
        operator, title, running = "", "", False
        for line in child.stdout.splitlines():
            outcome, *rest = line.split("\t")
            if outcome == "unfenced":
                found.unfenced = None if rest[0] == "None" else int(rest[0])
                continue
            if outcome.isdigit():
                start, operator, title, running = int(outcome) + 1, rest[0], rest[1], True
                found.operators |= {operator} - {_GRAPH}
                continue
            running = False
            found.cases += outcome != "refused"
            found.refused += outcome == "refused"
            if outcome == "failed":
                found.findings.append(f"{operator}: {title}: {rest[0]}")
        if child.returncode == 0:
            return found
        told = child.stderr.partition("\nExtension modules")[0][-3000:]
        if not running:
            raise RuntimeError(f"the process ended with {child.returncode} outside of any case:\n{told}")
        found.cases += 1
        found.findings.append(f"{operator}: {title}: crashed (exit {child.returncode})\n{told}")


def main(arguments: list[str] | None = None) -> int:
    """Runs it; the number of findings is the exit status, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("--isa", nargs="*", help="instruction sets (all that this CPU has)")
    parser.add_argument("--drawn", type=int, default=20, help="cases drawn for each combination")
    parser.add_argument("--graphs", type=int, default=60, help="graphs whose plans are run")
    parser.add_argument("--quick", action="store_true", help="combinations of an operator share its written cases")
    parser.add_argument("--share", action="store_true", help="each case on one of the instruction sets, by turns")
    parser.add_argument("--every", type=int, default=1, help="one case in so many of each operator, its first too")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        _child(given)
        return 0
    backend = registry.get(given.backend)
    assert isinstance(backend, NativeBackend)
    isas = given.isa or backend.supported_isas()
    numbers = {"--drawn": given.drawn, "--graphs": given.graphs, "--every": given.every}
    options = [str(each) for option in numbers.items() for each in option] + ["--quick"] * given.quick
    groups = [isas] if given.share else [[isa] for isa in isas]
    total = Found()
    for group in groups:
        found = explore(given.backend, group, options)
        print(*found.findings, _summary(given.backend, group, found), sep="\n", flush=True)
        total.cases, total.refused = total.cases + found.cases, total.refused + found.refused
        total.operators |= found.operators
        total.findings += found.findings
        total.unfenced = None if None in (total.unfenced, found.unfenced) else total.unfenced + found.unfenced
    if len(groups) > 1:
        print(_summary(given.backend, isas, total))
    return bool(total.findings)


def _summary(backend: str, isas: list[str], found: Found) -> str:
    kinds = Counter(each.split(": ")[0] for each in found.findings)
    told = f"{len(found.findings)} findings {dict(kinds) or ''}".rstrip()
    heap = "and so what they allocate"
    if found.unfenced is None:
        heap = "the heap's fence OFF (no C compiler or no glibc here)"
    elif found.unfenced:
        heap += f" but for {found.unfenced} pieces"
    return (
        f"pages: {backend} on {', '.join(isas)}: {found.cases} calls of {len(found.operators)} operators and of plans, "
        f"tensors at the end and at the start of pages, {heap}, {found.refused} cases refused: {told}"
    )


if __name__ == "__main__":
    sys.exit(main())
