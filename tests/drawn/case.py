"""A drawn model with its calls and float results, what it is converted to, and how results are compared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import qcore
from tests.drawn import noise
from tests.drawn.noise import decibels, flat
from tests.drawn.program import Program, spared

Results = list[list[Tensor]]
"""Of each call."""
LEAST = 12.0
"""Estimates below are of models that 8 bits are too few for: their float results are not compared."""
MOST = 45.0
"""No more decibels are asked for than a value rounded once to 8 bits has at most."""
AMPLIFIED = 30.0
"""Decibels by which a model may make a disturbance of its inputs larger."""


class Failed(AssertionError):
    """A check does not hold."""


class Skip(Exception):
    """A check says nothing here: torch itself cannot do it, or what it needs failed before."""


class Unusable(Exception):
    """The float model is no fair test: NaN, constant, or so chaotic that 8 bits drown it."""


class Case:
    """A program made, its calls, and its float results; what is converted is kept for all checks."""

    def __init__(self, program: Program, module: Any) -> None:
        self.program, self.module = program, module
        self.model: nn.Module = module.model()
        self.calls = [module.inputs(*size) for size in program.sizes]
        self.calibration = [*self.calls, *(module.inputs(*size, seed=1) for size in program.sizes)]
        self._kept: dict[str, Any] = {}
        self.float_inputs = copy.deepcopy(self.calls)
        self.right = called(self.model, self.float_inputs)
        self._usable()

    def _usable(self) -> None:
        """Raise Unusable; the reasons are counted."""
        for results in self.right:
            for each in results:
                if each.is_floating_point() and not torch.isfinite(each).all():
                    raise Unusable("not finite")
        if all(
            not each.is_floating_point() or float(each.double().std(unbiased=False)) < 1e-6 for each in self.right[0]
        ):
            raise Unusable("constant")
        generator = torch.Generator().manual_seed(0)
        for call, right in zip(self.calls, self.right, strict=True):
            near = [
                each * (1 + 1e-3 * torch.randn(each.shape, generator=generator)).to(each.dtype)
                if isinstance(each, Tensor) and each.is_floating_point() else copy.deepcopy(each)
                for each in call
            ]  # fmt: skip
            with torch.no_grad():
                found = flat(self.model(*near))
            if any(
                a.is_floating_point() and decibels(a, b) < 60 - AMPLIFIED for a, b in zip(right, found, strict=True)
            ):
                raise Unusable("chaotic")

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once; Skip where it failed before, but for the check that is named so."""
        if name not in self._kept:
            try:
                self._kept[name] = make(), None
            except Exception as error:
                self._kept[name] = None, error
                raise
        made, error = self._kept[name]
        if error is not None:
            raise Skip(f"no {name} model") from error
        return made

    def estimate(self, dynamic: bool) -> list[list[float]]:
        name = f"estimate {dynamic}"
        return self.kept(name, lambda: noise.estimate(self.model, self.calls, dynamic))  # type: ignore[no-any-return]

    def spared_inputs(self) -> list[Any]:
        """Of each call, as the float model leaves them without its flags to work in place."""

        def make() -> list[Any]:
            model, inputs = spared(self.program).model(), copy.deepcopy(self.calls)
            called(model, inputs)
            return inputs

        return self.kept("spared", make)  # type: ignore[no-any-return]

    # conversions

    def prepared(self) -> nn.Module:
        def make() -> nn.Module:
            prepared = qcore.prepare(self.model, example_inputs=copy.deepcopy(self.calls[0]))
            with torch.no_grad():
                for call in self.calibration:
                    prepared(*copy.deepcopy(call))
            return prepared

        return self.kept("prepared", make)  # type: ignore[no-any-return]

    def static(self) -> nn.Module:
        return self.kept("static", lambda: self._run(qcore.convert(copy.deepcopy(self.prepared()))))  # type: ignore[no-any-return]

    def dynamic(self) -> nn.Module:
        return self.kept("dynamic", lambda: self._run(qcore.quantize_dynamic(self.model)))  # type: ignore[no-any-return]

    def _run(self, model: nn.Module) -> nn.Module:
        """A model that runs: what raises at a call raises where the model is made, and not in each check of it."""
        before = list(model.state_dict())
        self.results(model)
        if list(model.state_dict()) != before:
            raise Failed("a call changes what the state of the model holds")
        return model

    def compiled(self) -> nn.Module:
        def make() -> nn.Module:
            dynamic = self.dynamic()
            if not is_quantized(dynamic):
                raise Skip("nothing is quantized dynamically")
            return self._run(qcore.compile(dynamic, copy.deepcopy(self.calls[0])))

        return self.kept("compiled", make)  # type: ignore[no-any-return]

    def results(self, model: Callable[..., Any], calls: Any = None) -> Results:
        """Of each call; inputs are copies."""
        return called(model, copy.deepcopy(self.calls if calls is None else calls))


def called(model: Callable[..., Any], calls: Any) -> Results:
    with torch.no_grad():
        return [flat(model(*call)) for call in calls]


def is_quantized(model: nn.Module) -> bool:
    return any(isinstance(each, qcore.nn.quantized.base.QuantizedModule) for each in model.modules())


def is_exact(model: nn.Module) -> bool:
    """Whether all that a model computes is in integers, so that every way to run it has the same bits."""
    return not qcore.report(model).float_rows


# comparing


def near(case: Case, found: list[list[Tensor]], dynamic: bool) -> None:
    """Failed where results are further from the float model's than 8 bits allow."""
    close(case, case.right, found, case.estimate(dynamic), "float")


def close(case: Case, right: Results, found: Results, estimates: list[list[float]], what: str) -> None:
    """Failed where results differ by more than an estimate of their decibels, less MARGIN, or in their form."""
    for where, a, b, least in _pairs(case, right, found, estimates):
        if not a.is_floating_point() or least < LEAST or not torch.isfinite(a).all():
            continue
        bound, got = min(least, MOST) - noise.MARGIN, decibels(a, b)
        if not got >= bound:
            raise Failed(f"{where}: {got:.1f} dB from {what}, bound {bound:.1f}")


def _pairs(
    case: Case, one: Results, other: Results, estimates: list[list[float]]
) -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """Results of two models side by side: the place in words, both, and the estimate. Failed where they differ in
    form."""
    for size, right, mine, least in zip(case.program.sizes, one, other, estimates, strict=False):
        if len(right) != len(mine):
            raise Failed(f"size {size}: {len(mine)} results, not {len(right)}")
        for place, (a, b, bound) in enumerate(zip(right, mine, least, strict=True)):
            where = f"size {size}, result {place}"
            _same_form(a, b, where)
            yield where, a, b, bound


def _same_form(a: Tensor, b: Tensor, where: str) -> None:
    if type(b) is not Tensor and type(b) is not nn.Parameter:
        raise Failed(f"{where}: a {type(b).__name__}")
    if a.shape != b.shape or a.dtype != b.dtype:
        raise Failed(f"{where}: {b.dtype} {tuple(b.shape)}, not {a.dtype} {tuple(a.shape)}")


def alike(case: Case, one: Results, other: Results, exact: bool, dynamic: bool, less: float = 0.0) -> None:
    """Failed where two ways to run one model differ: in a bit, or, where floats are computed between integers, by more
    than all its rounding does; `less`: decibels fewer than that."""
    for where, a, b, least in _pairs(case, one, other, case.estimate(dynamic)):
        if torch.equal(a, b) or (a.is_floating_point() and torch.equal(a.nan_to_num(), b.nan_to_num())):
            continue
        if exact:
            raise Failed(f"{where}: other bits ({decibels(a, b):.1f} dB)")
        bound = min(least, MOST) - less
        if a.is_floating_point() and least >= LEAST and not decibels(a, b) >= bound:
            raise Failed(f"{where}: {decibels(a, b):.1f} dB apart, bound {bound:.1f}")


def kept_inputs(case: Case, model: Callable[..., Any]) -> None:
    """Failed where a call writes another of its arguments than the float model does, or does not write one.

    A layer with inplace=True gives the value that it has without, and saves memory: qcore may leave alone what is
    written for such a flag only, which is found by calling the float model without these flags.
    """
    for call, right, left in zip(case.calls, case.float_inputs, case.spared_inputs(), strict=True):
        given = copy.deepcopy(call)
        with torch.no_grad():
            model(*given)
        for place, (before, b, *allowed) in enumerate(zip(call, given, right, left, strict=True)):
            if not isinstance(before, Tensor):
                continue
            is_kept = torch.equal(b, before)
            if is_kept not in [torch.equal(a, before) for a in allowed]:
                raise Failed(f"argument {place} is {'not written' if is_kept else 'written'}")
