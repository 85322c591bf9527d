"""Add and Mul of broadcastable shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import DRAWN, Case, Expected, Facet, Family, Recipe, variations
from qcore.conformance.draw import Draw, kept, relu_low
from qcore.conformance.exact import f32, fma, to_integers
from qcore.operators import Add, Mul
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class PairRecipe(Recipe):
    """`shape`: of a; `other`: of b; `other_data`: the data of b."""

    other: tuple[int, ...]
    other_data: str = "any"


def real_value(x: Tensor, qx: QParams) -> Tensor:
    """fma(s, x, -(s * z)), the real value of each integer."""
    scale = f32(qx.scale)
    return fma(scale, f32(x), -(scale * f32(qx.zero_point)))


def added(a: Tensor, qa: QParams, b: Tensor, qb: QParams, out: QParams, low: int | None) -> Tensor:
    """clamp(rint((real(a) + real(b)) * (1 / sy)) + zy)."""
    total = (real_value(a, qa) + real_value(b, qb)) * (1.0 / f32(out.scale))
    return to_integers(torch.round(total), out.zero_point, out.dtype, low)


def multiplied(a: Tensor, qa: QParams, b: Tensor, qb: QParams, out: QParams, low: int | None) -> Tensor:
    """clamp(rint(f32((a - za) * (b - zb)) * (sa * sb * (1 / sy))) + zy)."""
    product = (a.long() - int(qa.zero_point)) * (b.long() - int(qb.zero_point))
    multiplier = (f32(qa.scale) * f32(qb.scale)) * (1.0 / f32(out.scale))
    return to_integers(torch.round(f32(product) * multiplier), out.zero_point, out.dtype, low)


def _maker(
    operator: type[Add] | type[Mul],
    formula: Callable[[Tensor, QParams, Tensor, QParams, QParams, int | None], Tensor],
    exact: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Facet, PairRecipe], Case]:
    def make(facet: Facet, recipe: PairRecipe) -> Case:
        draw = Draw(recipe)
        a, qa = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)
        b, qb = draw.integers(recipe.other, facet.dtype, recipe.other_data), draw.qparams(facet.dtype)
        if recipe.out == "halves":
            qb = replace(qb, scale=qa.scale)
        real = [(x.double() - float(q.zero_point)) * float(q.scale) for x, q in ((a, qa), (b, qb))]
        unit = float(qa.scale) if operator is Add else float(qa.scale) * float(qb.scale)
        out = draw.out(exact(*real), facet.out_dtype, unit)
        args = (a, qa, b, qb, out)

        def oracle() -> Expected:
            return Expected(formula(*args, relu_low(facet, out)), memory_format=kept(a) if a.shape == b.shape else None)

        return Case(operator(relu=facet.fused == "relu"), args, oracle)

    return make


def _written(facet: Facet) -> dict[str, PairRecipe]:
    shape = (3, 7, 5, 11)
    plain = PairRecipe(shape=shape, other=shape)
    pairs: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "scalars": ((), ()),
        "one": ((1,), (1,)),
        "prime": ((131,), (131,)),
        "block_of_64": ((64,), (64,)),
        "large": ((3, 4099), (3, 4099)),
        "empty": ((0, 5), (0, 5)),
        "with_scalar": ((4, 9), ()),
        "row": ((4, 9), (9,)),
        "column": ((4, 9), (4, 1)),
        "both_ways": ((5, 1, 3), (4, 1)),
        "empty_and_one": ((0, 5), (1, 5)),
    }
    found = {"plain": plain} | {name: PairRecipe(shape=a, other=b) for name, (a, b) in pairs.items()}
    found |= variations(plain)
    found["channels_last_and_channel_vector"] = replace(plain, layout="channels_last", other=(1, 7, 1, 1))
    for a in ("highest", "lowest"):
        found |= {f"extreme_{a}_{b}": replace(plain, data=a, other_data=b) for b in ("highest", "lowest")}
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> PairRecipe:
    shape = tuple(draw(st.lists(st.integers(0, 13), max_size=4)))
    cut = draw(st.integers(0, len(shape)))
    other = tuple(size if draw(st.booleans()) else 1 for size in shape[cut:])
    same = draw(st.booleans())
    return draw(st.builds(PairRecipe, shape=st.just(shape), other=st.just(shape if same else other), **DRAWN))


def _large(facet: Facet) -> PairRecipe:
    return PairRecipe(shape=(100_001,), other=(100_001,))


ADD = Family(Add, _written, _drawn, _maker(Add, added, torch.add), _large)
MUL = Family(Mul, _written, _drawn, _maker(Mul, multiplied, torch.mul), _large)
