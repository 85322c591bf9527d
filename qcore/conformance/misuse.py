"""Bad arguments, each of which must raise. They run in another process, so that a crash is a finding, not an end.

`python -m qcore.conformance.misuse NAME START` prints, for each check from number START on, its title and its outcome.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import lru_cache, partial
from importlib.metadata import entry_points
from typing import Any, TypeAlias

import torch
from torch import Tensor

from qcore.backend import Backend
from qcore.conformance.case import Case, facets
from qcore.conformance.families import FAMILIES, take
from qcore.hookspec import ENTRY_POINT_GROUP
from qcore.operators import (
    AdaptiveAvgPool,
    AvgPool,
    Conv,
    ConvTranspose,
    Dequantize,
    Interpolate,
    Linear,
    LinearDynamic,
    MaxPool,
    Mean,
    Operator,
    Quantize,
)
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams

Check: TypeAlias = "tuple[str, Callable[[], Any]]"

_NAN = float("nan")


def titles(name: str) -> list[str]:
    """What is checked for a backend; nothing where it can't be loaded."""
    backend = registry.status(name).backend if name in registry.names() else None
    return [title for title, _ in _checks(backend)] if backend is not None else []


def contained(name: str) -> bool:
    """Whether another process finds this backend."""
    return name in entry_points(group=ENTRY_POINT_GROUP).names


@lru_cache(maxsize=8)
def outcomes(name: str) -> dict[str, str]:
    """What became of each check: "raised ...", "gave a result", or "crashed ..."."""
    found: dict[str, str] = {}
    expected = titles(name)
    while len(found) < len(expected):
        command = [sys.executable, "-m", "qcore.conformance.misuse", name, str(len(found))]
        child = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        lines = [line.split("\t") for line in child.stdout.splitlines() if "\t" in line]
        found |= {title: outcome for title, outcome in lines if outcome}
        if child.returncode == 0:
            break
        if len(found) < len(expected):
            found[expected[len(found)]] = f"crashed the process (exit {child.returncode}) {child.stderr[-500:]}".strip()
    return found


def _checks(backend: Backend) -> Iterator[Check]:
    take(backend.name)
    for spec in backend.capability().ops:
        family = FAMILIES.get(spec.operator)
        if family is None:
            continue
        case = family.plain(next(facets(spec, mixed=False)))
        for what, args in _bad_calls(case):
            yield f"{spec.operator.name}-{what}", partial(_run, backend, case, case.operator, args)
        for what, operator in _bad_operators(case.operator):
            yield f"{spec.operator.name}-{what}", partial(_run, backend, case, operator, case.args)
        for what, operator, args in family.bad(case):
            yield f"{spec.operator.name}-{what}", partial(_run, backend, case, operator, args)


def _run(backend: Backend, case: Case, operator: Operator, args: tuple[Any, ...]) -> Any:
    return case.build(backend, operator)(*args)


def _bad_calls(case: Case) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for index, arg in enumerate(case.args):
        for what, bad in _bad_values(arg, case.operator):
            yield f"argument_{index}_{what}", (*case.args[:index], bad, *case.args[index + 1 :])
    yield "no_arguments", ()


def _bad_values(arg: Any, operator: Operator) -> Iterator[tuple[str, Any]]:
    if isinstance(arg, Tensor):
        yield "none", None
        if arg.ndim:
            yield "list", arg.tolist()
        yield "int16", arg.to(torch.int16)
        yield "float64", arg.to(torch.float64)
        yield "meta", arg.to("meta")
        if operator.spatial or isinstance(operator, Linear | LinearDynamic):
            yield "rank_0", arg.flatten()[0]
        if isinstance(operator, Linear | LinearDynamic):
            yield "features_less", arg[..., :-1]
        if isinstance(operator, Conv | ConvTranspose):
            yield "channels_less", arg[:, :-1]
            yield "rank_less", arg[0, 0]
            yield "rank_more", arg[None]
            yield "spatial_0", arg[..., :0]
    elif isinstance(arg, QParams) and isinstance(operator, MaxPool | Interpolate):
        return  # the result doesn't depend on them; nearest is the plain case of interpolate
    elif isinstance(arg, QParams):
        yield "none", None
        if not isinstance(operator, AvgPool | AdaptiveAvgPool | Mean):  # nor that of these on the scale
            for value in (0.0, -1.0, _NAN, float("inf")):
                yield f"scale_{value}", replace(arg, scale=value)
        yield "zero_point_below", replace(arg, zero_point=arg.dtype.qmin - 1)
        yield "zero_point_above", replace(arg, zero_point=arg.dtype.qmax + 1)
        if not isinstance(operator, Quantize | Dequantize):
            ones = torch.ones(2, dtype=torch.float64)
            yield "per_channel", QParams(arg.dtype, ones, torch.zeros(2, dtype=torch.int64), 0)
        else:
            ones = torch.ones(3, dtype=torch.float64)
            yield "axis_99", QParams(arg.dtype, ones, torch.zeros(3, dtype=torch.int64), 99)
            yield "channels_other", QParams(arg.dtype, torch.ones(1001).double(), torch.zeros(1001).long(), 0)
    elif isinstance(arg, list):
        yield "none", None
        yield "empty", []
        yield "shorter", arg[:-1]
        for what, bad in _bad_values(arg[-1], operator):
            yield f"last_{what}", [*arg[:-1], bad]


def _bad_operators(operator: Operator) -> Iterator[tuple[str, Operator]]:
    named = {field.name: getattr(operator, field.name) for field in fields(operator)}
    if "qweight" in named and "bias" in named:
        weight = named["weight"]
        axis = int(isinstance(operator, ConvTranspose))
        more, other = torch.ones(weight.shape[axis] + 1), torch.ones(weight.shape[1 - axis])
        yield "weight_float", _with(operator, weight=weight.float())
        yield "weight_rank_1", _with(operator, weight=weight.flatten())
        yield "weight_meta", _with(operator, weight=weight.to("meta"))
        yield "bias_longer", _with(operator, bias=more)
        yield "weight_scales_more", _with(operator, qweight=QParams(qint8, more.double(), more.long() * 0, axis))
        yield (
            "weight_axis_other",
            _with(operator, qweight=QParams(qint8, other.double(), other.long() * 0, 1 - axis)),
        )
        yield "weight_scale_nan", _with(operator, qweight=QParams(qint8, _NAN, 0))
        yield "weight_scale_0", _with(operator, qweight=QParams(qint8, 0.0, 0))
        yield "weight_zero_point_above", _with(operator, qweight=QParams(qint8, 0.1, 128))
        yield "weight_quint8", _with(operator, qweight=QParams(quint8, 0.1, 0))
    for attribute, low in (("stride", 0), ("dilation", 0), ("padding", -1), ("kernel_size", 0), ("output_size", -1)):
        if named.get(attribute):
            value = named[attribute]
            yield f"{attribute}_{low}", _with(operator, **{attribute: (low,) * len(value)})
            if attribute not in ("kernel_size", "output_size"):  # longer ones pool over more dimensions
                yield f"{attribute}_longer", _with(operator, **{attribute: (*value, *value)})
    for attribute, bad in (("dim", 99), ("dims", (99,))):
        if attribute in named:
            yield f"{attribute}_99", _with(operator, **{attribute: bad})
    if "groups" in named:
        yield "groups_0", _with(operator, groups=0)
        yield "groups_uneven", _with(operator, groups=named["weight"].shape[0] + 1)


def _with(operator: Operator, **attributes: Any) -> Operator:
    return replace(operator, **attributes)


def _main(name: str, start: int) -> None:
    for title, run in list(_checks(registry.get(name)))[start:]:
        print(title, end="\t", flush=True)
        try:
            run()
            outcome = "gave a result"
        except Exception as error:
            outcome = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
        print(outcome, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
