"""Pooling and Mean: windows and sums in Python's own integers, element by element."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, kept
from qcore.conformance.exact import f32, fma, to_integers
from qcore.operators import AdaptiveAvgPool, AvgPool, MaxPool, Mean, Operator
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class PoolRecipe(Recipe):
    """`operator`: with all its attributes; `shape`: of x."""

    operator: Operator


@dataclass(frozen=True)
class Window:
    """The elements of one dimension that one output sees, and how many there would be with padding."""

    indices: tuple[int, ...]
    padded: int


def sliding(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> list[Window]:
    """Windows along one dimension, as torch's pooling places them; with ceil_mode, a last one may be cut."""
    span = dilation * (kernel - 1) + 1
    windows: list[Window] = []
    start = -padding
    while True:
        fits = start + span <= size + padding
        cut = ceil_mode and start < size + padding and start < size and start + span - stride < size + padding
        if not (fits or (cut and windows)):
            break
        places = [start + i * dilation for i in range(kernel)]
        inside = tuple(place for place in places if 0 <= place < size)
        windows.append(Window(inside, min(start + span, size + padding) - start))
        start += stride
    return windows


def adaptive(size: int, goal: int | None) -> list[Window]:
    """Window i of n from floor(i * size / n) to ceil((i + 1) * size / n)."""
    count = size if goal is None else goal
    bounds = [(i * size // count, -((-(i + 1) * size) // count)) for i in range(count)]
    return [Window(tuple(range(low, high)), high - low) for low, high in bounds]


def _windows(x: Tensor, per_dimension: list[list[Window]]) -> Iterator[tuple[Tensor, int, int]]:
    """For each output position: the elements seen (leading dimensions kept), how many, and how many with padding."""
    rank = len(per_dimension)
    for windows in product(*per_dimension):
        seen = x
        for axis, window in enumerate(windows):
            seen = seen.index_select(axis - rank, torch.tensor(window.indices, dtype=torch.int64))
        yield seen.flatten(-rank), prod(len(w.indices) for w in windows), prod(w.padded for w in windows)


def averages(total: Tensor, count: Tensor, qx: QParams) -> Tensor:
    """clamp(rint(fma(f32(total), 1 / n, z)))."""
    return to_integers(torch.round(fma(f32(total), 1.0 / f32(count), f32(qx.zero_point))), 0, qx.dtype)


def pooled(x: Tensor, qx: QParams, operator: Operator) -> tuple[Tensor, Tensor | None]:
    """The result, and for averages the exact sums."""
    rank = operator.spatial or 0
    sizes = x.shape[-rank:]
    if isinstance(operator, AdaptiveAvgPool):
        per_dimension = [adaptive(size, goal) for size, goal in zip(sizes, operator.output_size, strict=True)]
    else:
        assert isinstance(operator, MaxPool | AvgPool)
        zeros, ones = (0,) * rank, (1,) * rank
        dilation = operator.dilation or ones if isinstance(operator, MaxPool) else ones
        steps = (operator.kernel_size, operator.stride or operator.kernel_size, operator.padding or zeros, dilation)
        per_dimension = [sliding(*step, operator.ceil_mode) for step in zip(sizes, *steps, strict=True)]
    shape = (*x.shape[:-rank], *(len(windows) for windows in per_dimension))
    windows = list(_windows(x.long(), per_dimension))
    if isinstance(operator, MaxPool):
        return torch.stack([seen.amax(-1) for seen, _, _ in windows], -1).reshape(shape).to(x.dtype), None
    total = torch.stack([(seen - int(qx.zero_point)).sum(-1) for seen, _, _ in windows], -1)
    include = isinstance(operator, AvgPool) and operator.count_include_pad
    counts = [padded if include else inside for _, inside, padded in windows]
    if isinstance(operator, AvgPool) and operator.divisor_override is not None:
        counts = [operator.divisor_override] * len(counts)
    if isinstance(operator, AvgPool):
        values = to_integers(torch.round(f32(total) * (1.0 / f32(torch.tensor(counts)))), qx.zero_point, qx.dtype)
    else:
        values = averages(total, torch.tensor(counts), qx)
    return values.reshape(shape), total.reshape(shape)


def averaged(x: Tensor, qx: QParams, operator: Mean) -> tuple[Tensor, Tensor]:
    """The result and the exact sums."""
    dims = operator.dims or tuple(range(x.ndim))
    total = x.long() - int(qx.zero_point)
    for dim in sorted((dim % x.ndim for dim in dims), reverse=True):
        total = total.sum(dim, keepdim=operator.keepdim)
    return averages(total, torch.tensor(prod(x.shape[dim] for dim in dims)), qx), total


def _make(facet: Facet, recipe: PoolRecipe) -> Case:
    draw = Draw(recipe)
    x, qx = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)

    def oracle() -> Expected:
        if isinstance(recipe.operator, Mean):
            return Expected(*averaged(x, qx, recipe.operator))
        return Expected(*pooled(x, qx, recipe.operator), kept(x))

    return Case(recipe.operator, (x, qx), oracle)


def _variants(facet: Facet, shape: tuple[int, ...], operators: dict[str, Operator]) -> dict[str, PoolRecipe]:
    """Each operator on plain data, and the operator named "plain" on data out of the ordinary."""
    found = {name: PoolRecipe(shape=shape, operator=operator) for name, operator in operators.items()}
    plain = found["plain"]
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:]}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    found |= {f"data_{end}": replace(plain, data=end) for end in ("lowest", "highest")}
    found["empty_batch"] = replace(plain, shape=(0, *shape[1:]))
    found["many_channels"] = replace(plain, shape=(1, 131, *shape[2:]))
    found["many_channels_last"] = replace(plain, shape=(1, 131, *shape[2:]), layout="channels_last")
    return found


def _shape(rank: int) -> tuple[int, ...]:
    return (2, 3, *{1: (23,), 2: (9, 11), 3: (5, 6, 7)}[rank])


def _sliding_operators(kind: type[MaxPool] | type[AvgPool], rank: int) -> dict[str, Operator]:
    every = (1,) * rank

    def scaled(value: int) -> tuple[int, ...]:
        return (value,) * rank

    def make(kernel: tuple[int, ...], stride: tuple[int, ...], padding: int = 0, **more: object) -> Operator:
        return kind(kernel, stride, scaled(padding), **more)  # type: ignore[arg-type]

    found: dict[str, Operator] = {
        "plain": make(scaled(2), scaled(2)),
        "one": make(every, every),
        "overlapping": make(scaled(3), scaled(2), 1),
        "stride_1": make(scaled(3), every, 1),
        "gaps": make(scaled(2), scaled(3)),
        "ceil": make(scaled(2), scaled(2), ceil_mode=True),
        "ceil_padded": make(scaled(3), scaled(2), 1, ceil_mode=True),
        "ceil_last_window_in_padding": make(scaled(2), scaled(4), 1, ceil_mode=True),
        "uneven": make(tuple(range(2, rank + 2)), tuple(range(1, rank + 1))),
        "stride_of_kernel": kind(scaled(3)),
    }
    if kind is MaxPool:
        found["dilation"] = make(scaled(2), every, 1, dilation=scaled(2))
    else:
        found["exclude_pad"] = make(scaled(3), scaled(2), 1, count_include_pad=False)
        found["exclude_pad_ceil"] = make(scaled(3), scaled(2), 1, count_include_pad=False, ceil_mode=True)
        found["divisor"] = make(scaled(3), scaled(2), 1, divisor_override=7)
    return found


def _written_sliding(kind: type[MaxPool] | type[AvgPool]) -> Callable[[Facet], dict[str, PoolRecipe]]:
    def written(facet: Facet) -> dict[str, PoolRecipe]:
        rank = facet.spatial or 2
        return _variants(facet, _shape(rank), _sliding_operators(kind, rank))

    return written


def _drawn_sliding(kind: type[MaxPool] | type[AvgPool]) -> Callable[[Facet], st.SearchStrategy[PoolRecipe]]:
    @st.composite
    def drawn(draw: st.DrawFn, facet: Facet) -> PoolRecipe:
        rank = facet.spatial or 2
        kernel = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
        stride = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
        padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
        sizes = tuple(draw(st.integers(size, size + {1: 20, 2: 6, 3: 3}[rank])) for size in kernel)
        options: dict[str, object] = {"ceil_mode": draw(st.booleans())}
        if kind is AvgPool:
            options["count_include_pad"] = draw(st.booleans())
        operator = kind(kernel, stride, padding, **options)  # type: ignore[arg-type]
        return _drawn_data(draw, (draw(st.integers(0, 3)), draw(st.integers(1, 40)), *sizes), operator)

    return drawn


def _drawn_data(draw: st.DrawFn, shape: tuple[int, ...], operator: Operator) -> PoolRecipe:
    return PoolRecipe(
        shape=shape,
        operator=operator,
        data=draw(st.sampled_from(("any", "any", "highest", "lowest"))),
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _written_adaptive(facet: Facet) -> dict[str, PoolRecipe]:
    rank = facet.spatial or 2
    shape = _shape(rank)
    rising: tuple[int | None, ...] = tuple(range(2, rank + 2))
    goals: dict[str, tuple[int | None, ...]] = {
        "plain": (3,) * rank,
        "one": (1,) * rank,
        "same": shape[2:],
        "more": tuple(2 * size + 1 for size in shape[2:]),
        "kept": (None,) * rank,
        "uneven": rising,
    }
    return _variants(facet, shape, {name: AdaptiveAvgPool(goal) for name, goal in goals.items()})


@st.composite
def _drawn_adaptive(draw: st.DrawFn, facet: Facet) -> PoolRecipe:
    rank = facet.spatial or 2
    top = {1: 30, 2: 9, 3: 5}[rank]
    goal = tuple(draw(st.lists(st.none() | st.integers(1, top), min_size=rank, max_size=rank)))
    sizes = tuple(draw(st.lists(st.integers(1, top), min_size=rank, max_size=rank)))
    return _drawn_data(draw, (draw(st.integers(0, 3)), draw(st.integers(1, 40)), *sizes), AdaptiveAvgPool(goal))


def _written_mean(facet: Facet) -> dict[str, PoolRecipe]:
    dims: dict[str, Mean] = {
        "plain": Mean((2, 3)),
        "all": Mean(()),
        "keepdim": Mean((1, 3), keepdim=True),
        "first": Mean((0,)),
        "last": Mean((-1,)),
        "negative": Mean((-1, -3), keepdim=True),
    }
    shape = (2, 3, 9, 11)
    found = _variants(facet, shape, dict(dims))
    return found | {"one_dimension": PoolRecipe(shape=(1031,), operator=Mean((0,)))}


@st.composite
def _drawn_mean(draw: st.DrawFn, facet: Facet) -> PoolRecipe:
    shape = tuple(draw(st.lists(st.integers(1, 11), min_size=1, max_size=4)))
    dims = draw(st.lists(st.integers(0, len(shape) - 1), unique=True))
    return _drawn_data(draw, shape, Mean(tuple(dims), keepdim=draw(st.booleans())))


def _large(kind: Callable[[int], Operator]) -> Callable[[Facet], PoolRecipe]:
    def large(facet: Facet) -> PoolRecipe:
        rank = facet.spatial or 2
        sizes = {1: (1500,), 2: (37, 41), 3: (10, 11, 12)}[rank]
        return PoolRecipe(shape=(2, 67, *sizes), operator=kind(rank))

    return large


MAX_POOL = Family(
    MaxPool,
    _written_sliding(MaxPool),
    _drawn_sliding(MaxPool),
    _make,
    _large(lambda rank: MaxPool((3,) * rank, (1,) * rank)),
    requantizes=False,
)
AVG_POOL = Family(
    AvgPool,
    _written_sliding(AvgPool),
    _drawn_sliding(AvgPool),
    _make,
    _large(lambda rank: AvgPool((3,) * rank, (1,) * rank)),
    requantizes=False,
)
ADAPTIVE_AVG_POOL = Family(
    AdaptiveAvgPool,
    _written_adaptive,
    _drawn_adaptive,
    _make,
    _large(lambda rank: AdaptiveAvgPool((7,) * rank)),
    requantizes=False,
)
MEAN = Family(Mean, _written_mean, _drawn_mean, _make, _large(lambda rank: Mean((2, 3))), requantizes=False)
