"""Run one case on one backend and say in words what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from torch import Tensor

from qcore.backend import Backend
from qcore.conformance.case import Case, Expected
from qcore.operators import CellWeights, Operator
from qcore.tensor.qparams import QParams


class Nonconformance(AssertionError):
    """What a backend does is not what the spec says."""


def check(backend: Backend, case: Case) -> None:
    """Build and call; compare with the oracle, twice, and see that inputs and results are left alone.

    Integer results may be off by as many steps as the backend declares for the operator.

    Raises Nonconformance, which describes the operator, its parameters and the first element that differs.
    """
    before = [tensor.clone() for tensor in _tensors(case.args)]
    try:
        kernel = case.build(backend, case.operator)
        got = kernel(*case.args)
    except Exception as error:
        raise Nonconformance(f"declared, and raised {type(error).__name__}: {error}\n{describe(case)}") from error
    spec = backend.capability().find(type(case.operator))
    _compare_all(case, got, case.oracle(), 0 if spec is None else spec.steps)
    for index, (tensor, copy) in enumerate(zip(_tensors(case.args), before, strict=True)):
        if not same(tensor, copy):
            raise Nonconformance(f"the kernel changed its input tensor number {index}\n{describe(case)}")
    again = kernel(*case.args)
    if not same_results(got, again):
        raise Nonconformance(f"a second call with the same arguments gave another result\n{describe(case)}")
    inputs = {tensor.untyped_storage().data_ptr() for tensor in _tensors(case.args)}
    for first, second in zip(results(got), results(again), strict=True):
        memory = first.untyped_storage().data_ptr()
        if first.numel() and memory == second.untyped_storage().data_ptr() and memory not in inputs:
            raise Nonconformance(f"a second call wrote over the result of the first: same memory\n{describe(case)}")


def results(got: Any) -> list[Tensor]:
    """The tensors that a kernel returned: one, or those of a tuple."""
    return list(_tensors(got if isinstance(got, tuple) else (got,)))


def same_results(a: Any, b: Any) -> bool:
    """Whether two returns of a kernel are equal in number, shapes, dtypes and values."""
    left, right = results(a), results(b)
    return len(left) == len(right) and all(same(x, y) for x, y in zip(left, right, strict=True))


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two results are equal in shape, dtype and values; NaN equals NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and not bool(_differing(a, b).any())


def describe(case: Case) -> str:
    """The operator with its attributes and the arguments of the call."""
    lines = [f"  operator: {case.operator}"]
    lines += [f"  {name}: {_shown(value)}" for name, value in _attributes(case.operator)]
    lines += [f"  argument {index}: {_shown(value)}" for index, value in enumerate(case.args)]
    return "\n".join(lines)


def _compare_all(case: Case, got: Any, expected: Expected, steps: int) -> None:
    wanted = expected.values
    if isinstance(wanted, Tensor):
        _compare(case, got, wanted, expected, "", steps)
    elif not isinstance(got, tuple) or len(got) != len(wanted):
        kind = f"{type(got).__name__} of {len(got)}" if isinstance(got, tuple | list) else type(got).__name__
        raise Nonconformance(f"the kernel returned a {kind}, not a tuple of {len(wanted)} tensors\n{describe(case)}")
    else:
        for number, (part, want) in enumerate(zip(got, wanted, strict=True)):
            _compare(case, part, want, expected, f"result {number}: ", steps)


def _compare(case: Case, got: Any, want: Tensor, expected: Expected, which: str, steps: int) -> None:
    if not isinstance(got, Tensor):
        raise Nonconformance(f"{which}the kernel returned a {type(got).__name__}, not a tensor\n{describe(case)}")
    if got.shape != want.shape or got.dtype != want.dtype:
        raise Nonconformance(
            f"{which}the result has shape {tuple(got.shape)} and dtype {got.dtype}; expected {tuple(want.shape)} and "
            f"{want.dtype}\n{describe(case)}"
        )
    exactly = want.is_floating_point() or not steps
    differing = _differing(got, want) if exactly else (got.long() - want.long()).abs() > steps
    if bool(differing.any()):
        index = tuple(int(i) for i in differing.nonzero()[0])
        exact = "" if expected.accumulated is None else f", from the exact sum {expected.accumulated[index].item()}"
        much = "" if exactly else f" by more than the declared {steps}"
        raise Nonconformance(
            f"{which}{int(differing.sum())} of {want.numel()} elements differ{much}; the first is {list(index)}: "
            f"got {got[index].item()!r}, expected {want[index].item()!r}{exact}\n{describe(case)}"
        )
    wanted = expected.memory_format
    if wanted is not None and not got.is_contiguous(memory_format=wanted):
        raise Nonconformance(f"{which}the result has strides {got.stride()}, which are not {wanted}\n{describe(case)}")


def _differing(a: Tensor, b: Tensor) -> Tensor:
    differing = a != b
    if a.is_floating_point():
        differing &= ~(a.isnan() & b.isnan())
    return differing


def _tensors(args: tuple[Any, ...]) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, list | tuple):
            yield from _tensors(tuple(arg))


def _attributes(operator: Operator) -> Iterator[tuple[str, Any]]:
    for field in fields(operator):
        yield field.name, getattr(operator, field.name)


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        strides = "" if value.is_contiguous() else f", strides {value.stride()}"
        ends = f", from {value.min().item()} to {value.max().item()}" if value.numel() else ""
        return f"{value.dtype} {tuple(value.shape)}{strides}{ends}"
    if isinstance(value, QParams) and isinstance(value.scale, Tensor) and isinstance(value.zero_point, Tensor):
        return (
            f"{value.dtype!r} along axis {value.axis}, {value.scale.numel()} scales {_some(value.scale)}, "
            f"zero points {_some(value.zero_point)}"
        )
    if isinstance(value, QParams):
        return f"{value.dtype!r}, scale {value.scale!r}, zero point {value.zero_point}"
    if isinstance(value, CellWeights):
        return ", ".join(f"{field.name} {_shown(getattr(value, field.name))}" for field in fields(value))
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor | QParams | CellWeights) for item in value):
        return "[" + "; ".join(_shown(item) for item in value) + "]"
    return repr(value)


def _some(values: Tensor, count: int = 8) -> str:
    return str(values[:count].tolist())[:-1] + (", ...]" if values.numel() > count else "]")
