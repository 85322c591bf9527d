"""Interpolate: the points of each dimension one by one, then the written float32 steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, kept
from qcore.conformance.exact import f32, to_integers
from qcore.operators import Interpolate
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class InterpolateRecipe(Recipe):
    """`shape`: of x, (batch, channels, *spatial); `operator`: with all its attributes."""

    operator: Interpolate


def step(size: int, result: int, factor: float | None) -> Tensor:
    """From one point of the result to the next, in x."""
    return f32(size) / f32(result) if factor is None else f32(1.0 / factor)


def nearest_point(i: int, size: int, result: int, factor: float | None) -> int:
    """min(floor(f32(i) * step), size - 1)."""
    return min(int(torch.floor(f32(i) * step(size, result, factor))), size - 1)


def neighbours(i: int, size: int, result: int, factor: float | None, corners: bool) -> tuple[int, int, Tensor, Tensor]:
    """The points before and after, and their weights."""
    if corners:
        place = f32(i) * (f32(size - 1) / f32(result - 1)) if result > 1 else f32(0.0)
    else:
        place = torch.maximum((f32(i) + 0.5) * step(size, result, factor) - 0.5, f32(0.0))
    before = min(int(torch.floor(place)), size - 1)
    later = place - f32(before)
    return before, min(before + 1, size - 1), 1.0 - later, later


def resampled(x: Tensor, qx: QParams, operator: Interpolate) -> Tensor:
    """Each point of the result, in all samples and channels at once."""
    sizes = x.shape[2:]
    factors: tuple[float | None, ...] = operator.scale_factor or (None,) * len(sizes)
    results = operator.size or tuple(
        int(size * factor) for size, factor in zip(sizes, operator.scale_factor or (), strict=True)
    )
    if tuple(sizes) == tuple(results):
        return x.clone()
    found = x.new_empty((*x.shape[:2], *results))
    axes = list(zip(sizes, results, factors, strict=True))
    if operator.mode == "nearest":
        points = [[nearest_point(i, size, result, factor) for i in range(result)] for size, result, factor in axes]
        for place in product(*(range(result) for result in results)):
            source: tuple[slice | int, ...] = tuple(points[axis][i] for axis, i in enumerate(place))
            target: tuple[slice | int, ...] = place
            found[(slice(None), slice(None), *target)] = x[(slice(None), slice(None), *source)]
        return found
    around = [[neighbours(i, *axis, operator.align_corners) for i in range(axis[1])] for axis in axes]
    values, zero_point = x.float(), f32(qx.zero_point)
    for (i, (top, bottom, h0, h1)), (j, (left, right, w0, w1)) in product(enumerate(around[0]), enumerate(around[1])):
        above = w0 * values[:, :, top, left] + w1 * values[:, :, top, right]
        below = w0 * values[:, :, bottom, left] + w1 * values[:, :, bottom, right]
        v = h0 * above + h1 * below
        found[:, :, i, j] = to_integers(torch.round((v - zero_point) + zero_point), 0, qx.dtype)
    return found


def _make(facet: Facet, recipe: InterpolateRecipe) -> Case:
    draw = Draw(recipe)
    x, qx = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)
    operator = recipe.operator
    return Case(operator, (x, qx), lambda: Expected(resampled(x, qx, operator), memory_format=kept(x)))


def _written(facet: Facet) -> dict[str, InterpolateRecipe]:
    plain = InterpolateRecipe(shape=(2, 3, 7, 5), operator=Interpolate(size=(11, 13)))
    line = replace(plain, shape=(2, 3, 17), operator=Interpolate(size=(29,)))
    solid = replace(plain, shape=(2, 3, 3, 4, 5), operator=Interpolate(size=(5, 3, 7)))
    found = {"plain": plain, "nearest_1d": line, "nearest_3d": solid}
    found["nearest_1d_factor"] = replace(line, operator=Interpolate(scale_factor=(0.7,)))
    found["nearest_3d_factors"] = replace(solid, operator=Interpolate(scale_factor=(2.0, 0.5, 1.3)))
    found["nearest_3d_channels_last"] = replace(solid, layout="channels_last")
    changes: dict[str, Interpolate] = {
        "down": Interpolate(size=(3, 2)),
        "to_one": Interpolate(size=(1, 1)),
        "same": Interpolate(size=(7, 5)),
        "one_dimension": Interpolate(size=(7, 9)),
        "doubled": Interpolate(scale_factor=(2.0, 2.0)),
        "factors": Interpolate(scale_factor=(1.7, 0.6)),
    }
    for name, how in changes.items():
        found[f"nearest_{name}"] = replace(plain, operator=how)
        found[f"bilinear_{name}"] = replace(plain, operator=replace(how, mode="bilinear"))
        found[f"corners_{name}"] = replace(plain, operator=replace(how, mode="bilinear", align_corners=True))
    for mode in ("bilinear", "corners"):
        base = found[f"{mode}_factors"]
        found |= {f"{mode}_{layout}": replace(base, layout=layout) for layout in LAYOUTS[1:]}
        found |= {f"{mode}_data_{end}": replace(base, data=end) for end in ("lowest", "highest")}
        found |= {f"{mode}_zero_point_{end}": replace(base, zero_point=end) for end in ("lowest", "highest")}
        found[f"{mode}_wide"] = replace(base, shape=(1, 70, 3, 3))
        quarters = replace(base.operator, size=(13, 9), scale_factor=None)
        found[f"{mode}_from_one"] = replace(base, shape=(2, 3, 1, 1), operator=quarters)
        found[f"{mode}_empty_batch"] = replace(base, shape=(0, 3, 7, 5))
        found[f"{mode}_quarters"] = replace(base, shape=(2, 16, 7, 5), operator=quarters)
    found |= {f"nearest_{layout}": replace(plain, layout=layout) for layout in LAYOUTS[1:]}
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> InterpolateRecipe:
    mode, corners = draw(st.sampled_from((("nearest", False), ("bilinear", False), ("bilinear", True))))
    rank = 2 if mode == "bilinear" else draw(st.integers(1, 3))
    sizes = tuple(draw(st.integers(1, 9)) for _ in range(rank))
    if draw(st.booleans()):
        goal = tuple(draw(st.integers(1, 14)) for _ in range(rank))
        operator = Interpolate(size=goal, mode=mode, align_corners=corners)
    else:
        factors = tuple(max(draw(st.floats(0.3, 3.0)), 1.0 / size) for size in sizes)
        operator = Interpolate(scale_factor=factors, mode=mode, align_corners=corners)
    return InterpolateRecipe(
        shape=(draw(st.integers(0, 2)), draw(st.integers(1, 20)), *sizes),
        operator=operator,
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _bad(case: Case) -> Iterator[Bad]:
    x, qx = case.args
    changes = {
        "size_0": Interpolate(size=(0, 3)),
        "size_negative": Interpolate(size=(-1, 3)),
        "size_less": Interpolate(size=(3,)),
        "size_and_factor": Interpolate(size=(3, 3), scale_factor=(2.0, 2.0)),
        "neither": Interpolate(),
        "factor_0": Interpolate(scale_factor=(0.0, 1.0)),
        "factor_negative": Interpolate(scale_factor=(-1.0, 1.0)),
        "factor_nan": Interpolate(scale_factor=(float("nan"), 1.0)),
        "factor_infinite": Interpolate(scale_factor=(float("inf"), 1.0)),
        "factor_less": Interpolate(scale_factor=(2.0,)),
        "mode_other": Interpolate(size=(3, 3), mode="bicubic"),
    }
    for what, operator in changes.items():
        yield what, operator, case.args
    bilinear = Interpolate(size=(3, 3), mode="bilinear")
    for what, bad in {
        "none": None,
        "zero_point_above": replace(qx, zero_point=qx.dtype.qmax + 1),
        "per_channel": QParams(qx.dtype, torch.ones(2).double(), torch.zeros(2).long(), 0),
    }.items():
        yield f"bilinear_{what}", bilinear, (x, bad)
    yield "bilinear_1d", Interpolate(size=(3,), mode="bilinear"), (x[:, :, 0], qx)
    yield "spatial_0", Interpolate(size=(3, 3)), (x[:, :, :0], qx)
    yield "rank_2", Interpolate(size=()), (x[0, 0], qx)


def _large(facet: Facet) -> InterpolateRecipe:
    return InterpolateRecipe(shape=(2, 32, 23, 19), operator=Interpolate(size=(40, 37), mode="bilinear"))


INTERPOLATE = Family(Interpolate, _written, _drawn, _make, _large, requantizes=False, bad=_bad)
