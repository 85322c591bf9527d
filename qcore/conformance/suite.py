"""The test class that a backend's own test file subclasses; its cases come from what the backend declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from inspect import signature
from typing import Any, ClassVar
from zlib import crc32

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from qcore.backend import API_VERSION, Availability, Backend
from qcore.capability import Capability
from qcore.conformance import graphs, known, misuse
from qcore.conformance.case import Case, Facet, facets
from qcore.conformance.check import Nonconformance, check, describe, results, same_results
from qcore.conformance.families import FAMILIES, take
from qcore.nn import catalog
from qcore.operators import operators
from qcore.registry import Status, registry


class Conformance:
    """Every check of the kit for one backend. Subclass it in a test file, and set `backend` to its name:

    class TestConformance(Conformance):
        backend = "mynpu"

    What the backend doesn't declare is skipped; what it declares and gets wrong fails. `examples`: how many cases are
    drawn for each operator, besides the written ones; its combinations of dtypes, weights, fusions ... share them.
    `quick`: nothing is drawn, and the combinations of an operator share the written cases too. `known_failures`: a file
    that names checks which are known to fail, as pytest names them, one a line ("# ..." is a comment); they may fail,
    and an entry that is stale fails.
    """

    backend: ClassVar[str]
    examples: ClassVar[int] = 150
    quick: ClassVar[bool] = False
    known_failures: ClassVar[str | None] = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize the tests below by what the backend declares."""
        for argument, made in _PARAMETERS.items():
            if argument in metafunc.fixturenames:
                items = dict(made(self.backend, self.quick))
                metafunc.parametrize(argument, list(items.values()), ids=list(items))

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        """The cases are small; threads are the business of test_threads."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    @pytest.fixture(autouse=True)
    def _known(self, request: pytest.FixtureRequest) -> None:
        """A check that is known to fail has to."""
        if request.node.name in known.entries(self.known_failures):
            reason = f"it passes, so it is no known failure any more: take it out of {self.known_failures}"
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    def test_known_failures(self) -> None:
        """Each entry among the known failures is the name of a check that there is."""
        listed = known.entries(self.known_failures)
        unknown = listed - set(names(self.backend, self.quick)) if listed else ()
        if unknown:
            _fail(f"{self.known_failures} names checks that there are not: {', '.join(sorted(unknown))}")

    def test_loads(self) -> None:
        """The plugin is installed, imports, and keeps the contract so far as the registry can see."""
        if self.backend not in registry.names():
            _fail(f"backend {self.backend!r} is not installed; installed: {', '.join(registry.names())}")
        status = registry.status(self.backend)
        if status.backend is None:
            _fail(f"{status.availability.reason}\n{status.traceback}")

    def test_identity(self) -> None:
        """Name, version, API version and priority are of the right kind."""
        backend = _loaded(self.backend)
        if not (isinstance(backend.version, str) and backend.version):
            _fail(f"version is {backend.version!r}; it must be a string that is not empty")
        if not (isinstance(backend.priority, int) and isinstance(backend.fallback, bool)):
            _fail(f"priority is {backend.priority!r} and fallback {backend.fallback!r}; they must be an int and a bool")
        if not any("api_version" in vars(kind) for kind in type(backend).__mro__ if kind is not Backend):
            _fail(
                "api_version is not stated, so it would always be that of the qcore installed; state the version of "
                f"the plugin contract that the backend was written for: api_version = {API_VERSION}"
            )

    def test_probe(self) -> None:
        """The probe gives an Availability, the same each time, with a reason and a cure where it says no."""
        backend = _loaded(self.backend)
        answers = [backend.probe(), backend.probe()]
        if not all(isinstance(answer, Availability) for answer in answers) or answers[0] != answers[1]:
            _fail(f"probe() gave {answers[0]!r} and then {answers[1]!r}; it must give equal Availability objects")
        if not answers[0].ok and not (answers[0].reason and answers[0].cure):
            _fail(f"probe() says no without a reason and a cure: {answers[0]!r}")

    def test_capability(self) -> None:
        """The declaration is frozen data, the same each time, with each operator once."""
        backend = _loaded(self.backend)
        first, second = backend.capability(), backend.capability()
        if not isinstance(first, Capability) or first != second:
            _fail(f"capability() gave {first!r} and then {second!r}; it must give equal Capability objects")
        try:
            hash(first)
        except TypeError as error:
            _fail(f"capability() is not hashable ({error}); use tuples, not lists, in it")
        declared = [spec.operator for spec in first.ops]
        for spec in first.ops:
            if not isinstance(spec.steps, int) or spec.steps < 0 or (spec.steps and not spec.activations):
                _fail(f"{spec.operator.name}: steps={spec.steps!r}; give a whole number, 0 for float results")
        twice = {operator.name for operator in declared if declared.count(operator) > 1}
        if twice:
            _fail(f"declared more than once: {', '.join(sorted(twice))}; give each operator one OpSpec")

    def test_patterns(self) -> None:
        """Each pattern refers to an operator that is declared, with its fusions, and there is a module for it."""
        capability = _loaded(self.backend).capability()
        for pattern in capability.patterns:
            spec = capability.find(pattern.operator)
            if spec is None:
                _fail(f"pattern {pattern} is for {pattern.operator.name}, which is not declared")
            elif not set(pattern.fused) <= set(spec.fused):
                _fail(f"pattern {pattern} fuses {pattern.fused}, and {spec.operator.name} declares {spec.fused}")
            elif pattern.quantized is None and pattern.parts not in _known_patterns():
                _fail(
                    f"pattern {pattern} changes nothing: qcore has no module for it, and it has no `quantized` itself"
                )

    def test_operator(self, operator: str) -> None:
        """Which operators are declared, and whether the kit can judge them: a skip is one that it did not judge."""
        kind = operators()[operator]
        if _loaded(self.backend).capability().find(kind) is None:
            pytest.skip("not declared")
        if kind not in FAMILIES:
            pytest.skip("declared, but this version of the kit has no cases for it: NOT CHECKED")

    def test_supports(self, facet: Facet) -> None:
        """supports() says yes to what is declared."""
        case = FAMILIES[facet.spec.operator].plain(facet)
        verdict = _loaded(self.backend).supports(case.operator, facet.activations)
        if not verdict:
            _fail(f"{facet} is declared, and supports() says no: {verdict.reason}\n{describe(case)}")

    def test_limit(self, limit: tuple[Facet, str, int]) -> None:
        """supports() says no, with a reason, to a size over a declared limit."""
        facet, extent, high = limit
        operator = FAMILIES[facet.spec.operator].oversized(facet, extent, high + 1)
        if operator is None:
            pytest.skip(f"the kit can't make a {facet.spec.operator.name} with {extent}={high + 1}")
        verdict = _loaded(self.backend).supports(operator, facet.activations)
        if verdict or not verdict.reason:
            _fail(f"{extent}={high + 1} is over the declared limit of {high}, and supports() answers {verdict!r}")

    def test_written(self, written: tuple[Facet, Any]) -> None:
        """The kernel equals the oracle, bit for bit, on each written case; twice, with its inputs left as they were."""
        facet, recipe = written
        backend = _runnable(self.backend)

        def run() -> None:
            case = FAMILIES[facet.spec.operator].make(facet, recipe)
            _skip_refused(backend, facet, case)
            check(backend, case)

        _judge(run, facet)

    def test_drawn(self, facet: Facet) -> None:
        """The same on shapes and parameters drawn by hypothesis, the same ones each time."""
        backend = _runnable(self.backend)
        if self.quick:
            pytest.skip("no shapes are to be drawn")

        @settings(
            max_examples=max(_LEAST, self.examples // _combinations(facet)),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(recipe=FAMILIES[facet.spec.operator].drawn(facet))
        def run(recipe: Any) -> None:
            case = FAMILIES[facet.spec.operator].make(facet, recipe)
            if not _refusal(backend, facet, case):
                check(backend, case)

        _judge(run, facet)

    def test_threads(self, threaded: Facet) -> None:
        """The same bits on one thread, on two, and when several threads call the kernel at once."""
        backend, facet = _runnable(self.backend), threaded
        family = FAMILIES[facet.spec.operator]
        case = family.make(facet, family.large(facet))
        _judge(lambda: _skip_refused(backend, facet, case), facet)
        kernel = case.build(backend, case.operator)
        alone = tuple(part.clone() for part in results(kernel(*case.args)))
        torch.set_num_threads(2)
        if not same_results(alone, kernel(*case.args)):
            _fail(f"one thread and two give different results\n{describe(case)}")
        with ThreadPoolExecutor(4) as pool:
            parallel = list(pool.map(lambda _: kernel(*case.args), range(4)))
        if not all(same_results(alone, result) for result in parallel):
            _fail(f"the kernel gives other results when several threads call it at once\n{describe(case)}")

    def test_graphs(self, seed: int) -> None:
        """Plans of a graph drawn from the declaration have the bits of the kernels, for any batch, on any threads."""
        backend = _runnable(self.backend)
        problem = ""
        try:
            claimed = graphs.check_graph(backend, graphs.Drawing(backend.capability(), seed).graph())
        except Nonconformance as error:
            problem = str(error)
        if problem:
            _fail(problem)
        if not claimed:
            pytest.skip("nothing of this graph is claimed")

    def test_misuse(self, bad: str) -> None:
        """A bad argument is an exception: neither a crash nor a result. Run in a process of its own."""
        _runnable(self.backend)
        if not misuse.contained(self.backend):
            pytest.skip("registered in this process only; a crash could not be contained")
        outcome = misuse.outcomes(self.backend)[bad]
        if not outcome.startswith("raised"):
            _fail(f"{bad}: {outcome}; it must raise an exception that names the argument")


_LEAST = 4
"""Cases drawn for each combination at least; hypothesis's first is the smallest there is."""


def names(backend: str, quick: bool = False) -> Iterator[str]:
    """The names that pytest gives to the checks of a backend."""
    made = {argument: list(dict(make(backend, quick))) for argument, make in _PARAMETERS.items()}
    for name, function in vars(Conformance).items():
        if name.startswith("test_"):
            argument = next((each for each in signature(function).parameters if each in made), None)
            yield from [name] if argument is None else (f"{name}[{title}]" for title in made[argument])


def _known_patterns() -> set[tuple[Any, ...]]:
    return {*catalog.fusions(), *catalog.FOLDED, *((kind,) for kind in catalog.mapping("static"))}


def _combinations(facet: Facet) -> int:
    return sum(1 for _ in facets(facet.spec, mixed=FAMILIES[facet.spec.operator].requantizes))


def _judge(run: Callable[[], None], facet: Facet) -> None:
    problem = ""
    try:
        run()
    except Nonconformance as error:
        problem = str(error)
    if problem:
        _fail(f"{facet}: {problem}")


def _refusal(backend: Backend, facet: Facet, case: Case) -> str:
    """Why supports() says no to a case, as it may to attributes that a declaration has no words for."""
    verdict = backend.supports(case.operator, facet.activations)
    if not verdict and not verdict.reason:
        raise Nonconformance(f"supports() says no without a reason\n{describe(case)}")
    return verdict.reason


def _skip_refused(backend: Backend, facet: Facet, case: Case) -> None:
    reason = _refusal(backend, facet, case)
    if reason:
        pytest.skip(f"supports() says no: {reason}")


def _fail(message: str) -> None:
    pytest.fail(message, pytrace=False)


def _status(name: str) -> Status | None:
    if name not in registry.names():
        return None
    status = registry.status(name)
    take(name)
    return status


def _loaded(name: str) -> Backend:
    status = _status(name)
    if status is None or status.backend is None:
        pytest.skip("it could not be loaded: see test_loads")
    return status.backend


def _runnable(name: str) -> Backend:
    backend = _loaded(name)
    availability = registry.status(name).availability
    if not availability.ok:
        pytest.skip(f"it cannot run here: {availability.reason}")
    return backend


def _facets(name: str) -> Iterator[tuple[str, Facet]]:
    status = _status(name)
    if status is not None and status.backend is not None:
        for spec in status.backend.capability().ops:
            family = FAMILIES.get(spec.operator)
            if family is not None:
                for facet in facets(spec, mixed=family.requantizes):
                    yield str(facet), facet


def _threaded(name: str, quick: bool) -> Iterator[tuple[str, Facet]]:
    seen: set[Any] = set()
    for title, facet in _facets(name):
        if facet.dtype == facet.out_dtype and not (quick and _group(facet) in seen):
            yield title, facet
            seen.add(_group(facet))


def _written(name: str, quick: bool) -> Iterator[tuple[str, tuple[Facet, Any]]]:
    turns: dict[Any, int] = {}
    sizes = Counter(_group(facet) for _, facet in _facets(name))
    for title, facet in _facets(name):
        group = _group(facet)
        turn = turns[group] = turns.get(group, -1) + 1
        for number, (recipe_name, recipe) in enumerate(FAMILIES[facet.spec.operator].written(facet).items()):
            if quick and recipe_name != "plain" and number % sizes[group] != turn:
                continue
            if facet.dtype != facet.out_dtype and not recipe_name.startswith(_OF_RANGES):
                continue
            whole = f"{title}-{recipe_name}"
            yield whole, (facet, replace(recipe, seed=crc32(whole.encode())))


_OF_RANGES = ("plain", "zero_point_", "scale_", "out_", "bias_", "ties_", "extreme_", "data_", "args_")
"""Written cases that also run with an output of another dtype than the input: strides and shapes don't depend on it."""


def _group(facet: Facet) -> tuple[Any, ...]:
    """Combinations that differ in dtypes, weights and fusions only; a quick run spreads the written cases over them."""
    return facet.spec.operator, facet.spatial, facet.options, facet.function, facet.dtype == facet.out_dtype


def _operators(name: str, quick: bool) -> Iterator[tuple[str, str]]:
    _status(name)  # a plugin may have operators of its own
    return ((operator, operator) for operator in operators())


def _limits(name: str, quick: bool) -> Iterator[tuple[str, tuple[Facet, str, int]]]:
    for title, facet in _facets(name):
        for limit in facet.spec.limits:
            yield f"{title}-{limit.extent}", (facet, limit.extent, limit.high)


def _seeds(name: str, quick: bool) -> Iterator[tuple[str, int]]:
    """Numbers of the graphs to draw; none for a backend that compiles none."""
    status = _status(name)
    if status is not None and status.backend is not None and type(status.backend).claims is not Backend.claims:
        yield from ((str(seed), seed) for seed in range(10 if quick else 60))


_PARAMETERS: dict[str, Callable[[str, bool], Iterator[tuple[str, Any]]]] = {
    "operator": _operators,
    "facet": lambda name, quick: _facets(name),
    "threaded": _threaded,
    "written": _written,
    "limit": _limits,
    "seed": _seeds,
    "bad": lambda name, quick: ((title, title) for title in misuse.titles(name)),
}
