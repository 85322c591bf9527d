"""Attention: every chain of fma in its stated order, exponentials step by step, keys that take no part left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, laid_out
from qcore.conformance.exact import f32, fma
from qcore.operators import Attention

_POWERS = torch.tensor([2.0**-n for n in range(127)] + [0.0])
_SERIES = [f32(c) for c in (0.0013946424, 0.008366572, 0.041666284, 0.16666543, 0.5)]
MASKS = ("none", "keys", "queries", "whole", "barred", "lowest", "bool_keys", "bool_whole")
"""Masks by shape: none, (batch, 1, 1, keys), (queries, keys), all four; rows of -inf alone, or of the least float; of
bools."""


@dataclass(frozen=True, kw_only=True)
class AttentionRecipe(Recipe):
    """`shape`: (batch, heads, queries, width); `mask`: one of MASKS; `values`: usual or special, of q, k and v."""

    keys: int
    value_width: int
    mask: str = "none"
    causal: bool = False
    scale_given: float | None = None
    values: str = "usual"
    magnitude: float = 1.0
    other_layout: str = "contiguous"


def exp(y: Tensor) -> Tensor:
    """S * (1 + q) in one rounding, with y = n * ln(2) + r, S = 2**n or 0, and q about exp(r) - 1."""
    y = torch.where(y < -88, f32(-88.0), y)
    n = torch.round(y * f32(1.442695))
    r = fma(n, f32(-1.4286068e-06), fma(n, f32(-45426 / 65536), y))
    p = _SERIES[0]
    for coefficient in _SERIES[1:]:
        p = fma(p, r, coefficient)
    power = _POWERS[torch.where(n.isnan(), f32(0.0), -n).long()]
    return fma(power, fma(r * r, p, r), power)


def expected(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, causal: bool) -> Tensor:
    """docs/numerics.md, "Attention": key by key, of a causal one from the query of its own number on."""
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    chain = torch.zeros(*q.shape[:3], k.shape[2])
    for d in range(q.shape[3]):
        chain = fma(q[..., d : d + 1], k[..., d].unsqueeze(-2), chain)
    scores = fma(chain, f32(scale), torch.zeros(()) if mask is None else mask)
    columns = [(slice(number if causal else 0, None), score) for number, score in enumerate(scores.unbind(-1))]
    greatest = torch.full(q.shape[:3], torch.finfo(torch.float32).min)
    for rows, score in columns:
        highest = greatest[..., rows]
        greatest[..., rows] = torch.where(score[..., rows] > highest, score[..., rows], highest)
    total, y = torch.zeros(q.shape[:3]), torch.zeros(*q.shape[:3], v.shape[3])
    for (rows, score), value in zip(columns, v.unbind(-2), strict=True):
        power = exp(score[..., rows] - greatest[..., rows])
        total[..., rows] += power
        y[..., rows, :] = fma(power[..., None], value[..., None, :], y[..., rows, :])
    return y * (1.0 / torch.where(total < 1, f32(1.0), total))[..., None]


def _mask(draw: Draw, recipe: AttentionRecipe) -> Tensor | None:
    batch, heads, queries, _ = recipe.shape
    kind, is_bool = recipe.mask.removeprefix("bool_"), recipe.mask.startswith("bool_")
    shapes = {"keys": (batch, 1, 1, recipe.keys), "queries": (queries, recipe.keys), "none": ()}
    shape = shapes.get(kind, (batch, heads, queries, recipe.keys))
    if recipe.mask == "none":
        return None
    mask = draw.floats(shape)
    if is_bool:
        return laid_out(mask < 0.7, recipe.other_layout)
    low = torch.finfo(torch.float32).min if recipe.mask == "lowest" else -torch.inf
    mask = torch.where(mask > 0.7, f32(low), mask)
    if recipe.mask in ("barred", "lowest"):
        mask[..., ::2, :] = low
    return laid_out(mask, recipe.other_layout)


def _make(facet: Facet, recipe: AttentionRecipe) -> Case:
    draw = Draw(recipe)
    batch, heads, queries, width = recipe.shape

    def floats(*shape: int) -> Tensor:
        x = draw.floats(shape, recipe.magnitude)
        if recipe.values == "special":
            x = torch.where(x > 2.5, draw.choices(shape, (torch.nan, torch.inf, -torch.inf, 1e-40, 3e38)), x)
        return laid_out(x, recipe.layout)

    q, k = floats(batch, heads, queries, width), floats(batch, heads, recipe.keys, width)
    v, mask = floats(batch, heads, recipe.keys, recipe.value_width), _mask(draw, recipe)
    operator = Attention(recipe.scale_given, recipe.causal)
    scale = (width or 1) ** -0.5 if recipe.scale_given is None else recipe.scale_given
    return Case(operator, (q, k, v, mask), lambda: Expected(expected(q, k, v, mask, scale, recipe.causal)))


_SHAPES: dict[str, tuple[tuple[int, int, int, int], int, int]] = {
    "one": ((1, 1, 1, 1), 1, 1),
    "one_query": ((2, 3, 1, 64), 70, 64),
    "one_key": ((2, 3, 19, 8), 1, 8),
    "whole_vectors": ((1, 2, 64, 32), 64, 32),
    "over_a_block": ((1, 2, 65, 16), 33, 16),
    "few_queries": ((1, 1, 5, 7), 90, 3),
    "wide": ((1, 1, 3, 200), 9, 150),
    "no_batches": ((0, 2, 3, 4), 5, 6),
    "no_heads": ((2, 0, 3, 4), 5, 6),
    "no_queries": ((2, 2, 0, 4), 5, 6),
    "no_keys": ((2, 2, 3, 4), 0, 6),
    "no_width": ((2, 2, 3, 0), 5, 6),
    "no_values": ((2, 2, 3, 4), 5, 0),
}


def _written(facet: Facet) -> dict[str, AttentionRecipe]:
    plain = AttentionRecipe(shape=(2, 3, 21, 12), keys=26, value_width=10)
    found = {"plain": plain}
    for name, (shape, keys, width) in _SHAPES.items():
        recipe = AttentionRecipe(shape=shape, keys=keys, value_width=width)
        found |= {name: recipe, f"{name}_causal": replace(recipe, causal=True)}
    found["many_keys"] = AttentionRecipe(shape=(1, 1, 33, 2), keys=4600, value_width=3)
    longer = replace(plain, shape=(1, 2, 80, 6), keys=70)
    found |= {"causal": replace(longer, causal=True), "causal_rectangle": replace(longer, keys=100, causal=True)}
    for mask in MASKS[1:]:
        found |= {
            f"mask_{mask}": replace(plain, mask=mask),
            f"mask_{mask}_causal": replace(longer, mask=mask, causal=True),
        }
    found |= {f"scale_{scale}": replace(plain, scale_given=scale) for scale in (0.0, -0.3, 1.0)}
    found |= {f"magnitude_{size}": replace(plain, magnitude=size) for size in (1e-20, 8.0, 1e19)}
    for seed in range(3):
        special = replace(longer, values="special", mask="barred", seed=seed)
        found |= {f"special_{seed}": special, f"special_causal_{seed}": replace(special, causal=True)}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:]}
    for name in LAYOUTS[1:]:
        found[f"layout_of_mask_{name}"] = replace(plain, mask="whole", other_layout=name)
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> AttentionRecipe:
    return AttentionRecipe(
        shape=(draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 90)), draw(st.integers(0, 40))),
        keys=draw(st.integers(0, 90)),
        value_width=draw(st.integers(0, 40)),
        mask=draw(st.sampled_from(MASKS)),
        causal=draw(st.booleans()),
        values=draw(st.sampled_from(("usual", "usual", "special"))),
        magnitude=draw(st.sampled_from((1.0, 3.0, 20.0))),
        layout=draw(st.sampled_from(LAYOUTS)),
        other_layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _large(facet: Facet) -> AttentionRecipe:
    return AttentionRecipe(shape=(2, 4, 150, 24), keys=130, value_width=20, mask="queries")


def _bad(case: Case) -> Iterator[Bad]:
    q, k, v, _ = case.args
    mask = torch.zeros(q.shape[2], k.shape[2])
    yield "width_less", case.operator, (q, k[..., :-1], v, None)
    yield "values_less", case.operator, (q, k, v[..., :-1, :], None)
    yield "heads_less", case.operator, (q, k[:, :-1], v, None)
    yield "batches_less", case.operator, (q[:1], k, v, None)
    yield "rank_3", case.operator, (q[0], k[0], v[0], None)
    yield "mask_other", case.operator, (q, k, v, mask[:, :-1])
    yield "mask_int", case.operator, (q, k, v, mask.int())
    yield "mask_list", case.operator, (q, k, v, mask.tolist())


ATTENTION = Family(Attention, _written, _drawn, _make, _large, requantizes=False, bad=_bad)
