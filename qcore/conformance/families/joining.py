"""Clamp and Cat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Case, Expected, Facet, Family, Recipe, variations
from qcore.conformance.draw import Draw, kept, relu_low
from qcore.conformance.exact import f32, to_integers
from qcore.conformance.families.elementwise import real_value
from qcore.conformance.families.floats import SHAPES
from qcore.operators import Cat, Clamp
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class ClampRecipe(Recipe):
    """`low` and `high`: the bounds as parts of the range of real values, 0 to 1; None: open; "zero": 0.0."""

    low: float | str | None = "zero"
    high: float | None = None


def clamped(x: Tensor, qx: QParams, operator: Clamp) -> Tensor:
    """min(max(x, bound(low)), bound(high)) with bound(v) = clamp(rint(v * (1 / s) + z))."""

    def bound(value: float) -> Tensor:
        return to_integers(torch.round(f32(value) * (1.0 / f32(qx.scale)) + f32(qx.zero_point)), 0, qx.dtype).long()

    values = x.long()
    if operator.low is not None:
        values = torch.maximum(values, bound(operator.low))
    if operator.high is not None:
        values = torch.minimum(values, bound(operator.high))
    return values.to(x.dtype)


def _make_clamp(facet: Facet, recipe: ClampRecipe) -> Case:
    draw = Draw(recipe)
    x, qx = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)
    span = [(end - float(qx.zero_point)) * float(qx.scale) for end in (facet.dtype.qmin, facet.dtype.qmax)]

    def bound(part: float | str | None) -> float | None:
        if part is None or isinstance(part, str):
            return None if part is None else 0.0
        return span[0] + part * (span[1] - span[0])

    operator = Clamp(bound(recipe.low), bound(recipe.high))
    return Case(operator, (x, qx), lambda: Expected(clamped(x, qx, operator), memory_format=kept(x)))


def _written_clamp(facet: Facet) -> dict[str, ClampRecipe]:
    plain = ClampRecipe(shape=(3, 7, 5, 11))
    found = {"plain": plain} | {name: ClampRecipe(shape=shape) for name, shape in SHAPES.items()}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:]}
    found |= {f"scale_{kind}": replace(plain, scale=kind) for kind in ("tiny", "large")}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    found["open"] = replace(plain, low=None)
    found["both"] = replace(plain, low=0.21, high=0.74)
    found["high_only"] = replace(plain, low=None, high=0.6)
    found["outside"] = replace(plain, low=-3.0, high=4.0)
    return found


def _drawn_clamp(facet: Facet) -> st.SearchStrategy[ClampRecipe]:
    return st.builds(
        ClampRecipe,
        shape=st.lists(st.integers(0, 13), max_size=4).map(tuple),
        low=st.sampled_from(("zero", None, -0.5, 0.0, 0.123, 0.4)),
        high=st.sampled_from((None, 0.5, 0.87, 1.0, 9.0)),
        scale=st.sampled_from(("usual", "usual", "tiny", "large")),
        zero_point=st.sampled_from(("any", "any", "lowest", "highest")),
        layout=st.sampled_from(LAYOUTS),
        seed=st.integers(0, 2**32 - 1),
    )


@dataclass(frozen=True, kw_only=True)
class CatRecipe(Recipe):
    """`shape`: of the inputs but for `dim`, where they have `sizes`; `alike`: all have the parameters of the output."""

    dim: int
    sizes: tuple[int, ...]
    alike: bool = False


def joined(xs: list[Tensor], qxs: list[QParams], out: QParams, dim: int, low: int | None) -> Tensor:
    """Each input as clamp(rint(real(x) * (1 / sy)) + zy), one after the other along dim."""
    parts = [
        to_integers(torch.round(real_value(x, qx) * (1.0 / f32(out.scale))), out.zero_point, out.dtype, low)
        for x, qx in zip(xs, qxs, strict=True)
    ]
    return torch.cat(parts, dim)


def _make_cat(facet: Facet, recipe: CatRecipe) -> Case:
    draw = Draw(recipe)
    dim = recipe.dim % len(recipe.shape)
    shapes = [(*recipe.shape[:dim], size, *recipe.shape[dim + 1 :]) for size in recipe.sizes]
    xs = [draw.integers(shape, facet.dtype) for shape in shapes]
    qxs = [draw.qparams(facet.dtype) for _ in xs]
    ends = torch.tensor([float(q.scale) * 128 for q in qxs])
    out = draw.out(ends, facet.out_dtype, float(qxs[0].scale))
    if recipe.alike and facet.dtype == facet.out_dtype:
        qxs = [out] * len(xs)
    return Case(
        Cat(recipe.dim, relu=facet.fused == "relu"),
        (xs, qxs, out),
        lambda: Expected(joined(xs, qxs, out, recipe.dim, relu_low(facet, out))),
    )


def _written_cat(facet: Facet) -> dict[str, CatRecipe]:
    plain = CatRecipe(shape=(2, 1, 5, 11), dim=1, sizes=(3, 7, 1))
    found = {"plain": plain, "alike": replace(plain, alike=True), "single": replace(plain, sizes=(5,))}
    found |= {f"dim_{dim}": CatRecipe(shape=(3, 4, 5), dim=dim, sizes=(2, 3)) for dim in (0, 1, 2, -1, -3)}
    found |= variations(plain)
    found |= {f"data_{end}": replace(plain, data=end) for end in ("lowest", "highest")}
    found["one_dimension"] = CatRecipe(shape=(1,), dim=0, sizes=(131, 64, 1))
    found["with_empty"] = CatRecipe(shape=(3, 4), dim=1, sizes=(0, 4))
    found["many"] = CatRecipe(shape=(3, 4), dim=1, sizes=tuple(range(1, 14)))
    return found


@st.composite
def _drawn_cat(draw: st.DrawFn, facet: Facet) -> CatRecipe:
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)))
    return CatRecipe(
        shape=shape,
        dim=draw(st.integers(-len(shape), len(shape) - 1)),
        sizes=tuple(draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))),
        alike=draw(st.booleans()),
        scale=draw(st.sampled_from(("usual", "usual", "tiny", "large"))),
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


CLAMP = Family(
    Clamp, _written_clamp, _drawn_clamp, _make_clamp, lambda facet: ClampRecipe(shape=(100_001,)), requantizes=False
)
CAT = Family(
    Cat, _written_cat, _drawn_cat, _make_cat, lambda facet: CatRecipe(shape=(4, 1, 300), dim=1, sizes=(100, 155))
)
