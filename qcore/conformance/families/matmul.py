"""Matrix products of activations: exact sums in int64, then the requantization of a linear without bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe, variations
from qcore.conformance.draw import Draw
from qcore.conformance.exact import f32, to_integers
from qcore.operators import MAX_SUMMED, MatMul
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class MatMulRecipe(Recipe):
    """`shape`: of a; `other`: of b; `other_data`: the data of b; `other_layout`: its strides."""

    other: tuple[int, ...]
    other_data: str = "any"
    other_layout: str = "contiguous"


def sums(a: Tensor, qa: QParams, b: Tensor, qb: QParams) -> Tensor:
    """The exact sums of (a - za) * (b - zb), int64."""
    return torch.matmul(a.long() - int(qa.zero_point), b.long() - int(qb.zero_point))


def requantized(acc: Tensor, qa: QParams, qb: QParams, out: QParams) -> Tensor:
    """clamp(rint(f32(acc) * ((sa * sb) / sy)) + zy)."""
    multiplier = f32(qa.scale) * f32(qb.scale) / f32(out.scale)
    return to_integers(torch.round(f32(acc) * multiplier), int(out.zero_point), out.dtype, None)


def _make(facet: Facet, recipe: MatMulRecipe) -> Case:
    draw, other = Draw(recipe), Draw(replace(recipe, layout=recipe.other_layout, seed=recipe.seed + 1))
    a, qa = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)
    b, qb = other.integers(recipe.other, facet.dtype, recipe.other_data), draw.qparams(facet.dtype)
    acc = sums(a, qa, b, qb)
    unit = float(qa.scale) * float(qb.scale)
    out = draw.out(acc.double() * unit, facet.out_dtype, unit)
    return Case(MatMul(), (a, qa, b, qb, out), lambda: Expected(requantized(acc, qa, qb, out), acc))


_SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "one": ((1, 1), (1, 1)),
    "two_dimensions": ((7, 31), (31, 13)),
    "one_batch": ((1, 5, 8), (1, 8, 16)),
    "many_batches": ((2, 3, 5, 17), (2, 3, 17, 11)),
    "matrix_and_batch": ((5, 9), (4, 9, 3)),
    "batch_and_matrix": ((4, 5, 9), (9, 3)),
    "both_broadcast": ((3, 1, 5, 9), (4, 9, 2)),
    "row": ((3, 1, 64), (3, 64, 33)),
    "column": ((3, 33, 64), (3, 64, 1)),
    "outer": ((2, 7, 1), (2, 1, 19)),
    "wide": ((4, 67), (67, 131)),
    "long": ((2, 1031), (1031, 3)),
    "no_batches": ((0, 3, 4), (0, 4, 5)),
    "no_rows": ((2, 0, 4), (2, 4, 5)),
    "no_columns": ((2, 3, 4), (2, 4, 0)),
    "nothing_summed": ((2, 3, 0), (2, 0, 5)),
}


def _written(facet: Facet) -> dict[str, MatMulRecipe]:
    plain = MatMulRecipe(shape=(2, 3, 6, 20), other=(2, 3, 20, 18))
    found = {"plain": plain} | {name: MatMulRecipe(shape=a, other=b) for name, (a, b) in _SHAPES.items()}
    found |= variations(plain)
    found |= {f"other_layout_{name}": replace(plain, other_layout=name) for name in LAYOUTS[1:]}
    found["other_turned"] = MatMulRecipe(shape=(6, 20), other=(20, 18), other_layout="transposed")
    longest = MatMulRecipe(shape=(1, MAX_SUMMED), other=(MAX_SUMMED, 2))
    for a, b in (("highest", "highest"), ("lowest", "highest"), ("lowest", "lowest")):
        for zero_point in ("lowest", "highest"):
            found[f"extreme_{a}_{b}_{zero_point}"] = replace(longest, data=a, other_data=b, zero_point=zero_point)
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> MatMulRecipe:
    batch = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    m, k, n = draw(st.integers(0, 40)), draw(st.integers(0, 150)), draw(st.integers(0, 90))
    cut = draw(st.integers(0, len(batch)))
    other = tuple(size if draw(st.booleans()) else 1 for size in batch[cut:])
    return MatMulRecipe(
        shape=(*batch, m, k),
        other=(*other, k, n),
        data=draw(st.sampled_from(("any", "any", "highest", "lowest"))),
        other_data=draw(st.sampled_from(("any", "any", "highest", "lowest"))),
        out=draw(st.sampled_from(("fitting", "halves"))),
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        other_layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 2)),
    )


def _large(facet: Facet) -> MatMulRecipe:
    return MatMulRecipe(shape=(12, 96, 64), other=(12, 64, 100))


def _bad(case: Case) -> Iterator[Bad]:
    a, qa, b, qb, out = case.args
    yield "rows_less", case.operator, (a, qa, b[..., :-1, :], qb, out)
    yield "batches_other", case.operator, (a[:, :2], qa, b, qb, out)
    yield "rank_1", case.operator, (a[0, 0, 0], qa, b, qb, out)
    yield "other_rank_1", case.operator, (a, qa, b[0, 0, :, 0], qb, out)
    long = torch.zeros(1, MAX_SUMMED + 1, dtype=a.dtype)
    yield "too_many_summed", case.operator, (long, qa, long.T, qb, out)


MATMUL = Family(MatMul, _written, _drawn, _make, _large, bad=_bad)
