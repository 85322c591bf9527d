"""LinearDynamic: scale and zero point by scalar arithmetic in Python's own floats, then as linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, laid_out, weight_columns
from qcore.conformance.exact import f32, fma, to_integers
from qcore.conformance.families.linear import oversized, row_shapes, sums
from qcore.operators import LinearDynamic
from qcore.tensor.dtypes import quint8

_SMALL = float(torch.tensor(6.1e-5, dtype=torch.float32))


@dataclass(frozen=True, kw_only=True)
class DynamicRecipe(Recipe):
    """`shape`: of x, with in_features last; `values`: the kind of floats in x; `weight`: the data of the weight."""

    out_features: int = 5
    values: str = "usual"
    bias: str = "usual"
    weight: str = "any"


def chosen(low: float, high: float, qmax: int, qmin: int = 0, *, symmetric: bool = False) -> tuple[float, int]:
    """Scale (float64) and zero point for floats from low to high: torch's rule, step by step."""
    low, high = min(low, 0.0), max(high, 0.0)
    half, symmetric = (qmax - qmin) // 2, symmetric and low < 0.0 < high
    if symmetric:
        step = max(-f32(low) / (half + 1), f32(high) / half)
        low, high = float(step * -(half + 1)), float(step * half)
    scale = (high - low) / (qmax - qmin)
    single = f32(scale)
    if float(single) == 0.0 or bool(torch.isinf(1.0 / single)):
        scale = 0.1
    if scale < _SMALL:
        growth = f32(_SMALL) / f32(scale)
        if low == 0.0:
            high = float(f32(_SMALL) * (qmax - qmin))
        elif high == 0.0:
            low = -float(f32(_SMALL) * (qmax - qmin))
        else:
            low, high = float(f32(low) * growth), float(f32(high) * growth)
        scale = _SMALL
    by_low, by_high = qmin - low / scale, qmax - high / scale
    zero_point = by_low if abs(qmin) + abs(low / scale) < abs(qmax) + abs(high / scale) else by_high
    if symmetric:
        zero_point = (qmin + qmax) / 2
    return scale, round(max(float(qmin), min(float(qmax), zero_point)))


def _integers(x: Tensor, operator: LinearDynamic) -> tuple[Tensor, Tensor, Tensor]:
    """x as integers in rows of in_features, with the scale (float32) and the zero point of each row as columns."""
    rows = x.reshape(-1, x.shape[-1])
    groups = list(rows) if operator.per_row else [rows] * len(rows)
    pairs = [chosen(float(group.min()), float(group.max()), 127 if operator.reduce_range else 255) for group in groups]
    scales = f32(torch.tensor([scale for scale, _ in pairs], dtype=torch.float64)).reshape(-1, 1)
    zeros = torch.tensor([zero for _, zero in pairs], dtype=torch.int64).reshape(-1, 1)
    return to_integers(torch.round(fma(rows, 1.0 / scales, f32(zeros))), 0, quint8), scales, zeros


def expected(x: Tensor, operator: LinearDynamic) -> Expected:
    """fma(f32(acc), sx * sw, bias), then relu."""
    shape = (*x.shape[:-1], operator.weight.shape[0])
    if not x.numel():
        return Expected(torch.zeros(shape))
    integers, scales, zeros = _integers(x, operator)
    weight_scales, weight_zeros = weight_columns(operator.qweight)
    acc = sums(integers.long() - zeros, 0, operator.weight, weight_zeros)
    bias = torch.zeros(()) if operator.bias is None else operator.bias
    values = fma(f32(acc), scales * f32(weight_scales), bias)
    return Expected((values.clamp(min=0.0) if operator.relu else values).reshape(shape), acc.reshape(shape))


def _bias(draw: Draw, kind: str, count: int) -> Tensor | None:
    return None if kind == "none" else draw.floats((count,), 1e30 if kind == "huge" else 1.0)


def _make(facet: Facet, recipe: DynamicRecipe) -> Case:
    draw = Draw(recipe)
    assert facet.weight is not None
    rows, columns = recipe.out_features, recipe.shape[-1]
    x = draw.floats(recipe.shape)
    if recipe.values in _VALUES:
        x = _VALUES[recipe.values](x)
    x = laid_out(x, recipe.layout)
    weight = draw.integers((rows, columns), facet.weight.dtype, recipe.weight).contiguous()
    qweight = draw.weight_qparams(facet.weight, rows)
    operator = LinearDynamic(
        weight,
        qweight,
        _bias(draw, recipe.bias, rows),
        relu=facet.fused == "relu",
        reduce_range="reduce_range" in facet.options,
        per_row="per_row" in facet.options,
    )
    return Case(operator, (x,), lambda: expected(x, operator))


_VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": torch.zeros_like,
    "constant": lambda x: torch.full_like(x, 0.7),
    "constant_negative": lambda x: torch.full_like(x, -0.7),
    "positive": lambda x: x.abs() + 0.1,
    "negative": lambda x: -x.abs() - 0.1,
    "tiny": lambda x: x * 1e-6,
    "tiny_positive": lambda x: x.abs() * 1e-6,
    "tiny_negative": lambda x: -x.abs() * 1e-6,
    "denormal": lambda x: x * 1e-40,
    "huge": lambda x: x * 1e30,
    "outlier": lambda x: torch.where(torch.arange(x.numel()).reshape(x.shape) == 0, 1e4, x),
    "whole": lambda x: torch.round(x * 40).clamp(-128, 127),
}


def _written(facet: Facet) -> dict[str, DynamicRecipe]:
    plain = DynamicRecipe(shape=(6, 37), out_features=19)
    shapes: dict[str, tuple[tuple[int, ...], int]] = {
        "one": ((1, 1), 1),
        "one_dimension": ((13,), 7),
        "primes": ((7, 31), 13),
        "many_dimensions": ((2, 3, 5, 17), 11),
        "empty_batch": ((0, 16), 4),
        "in_3": ((5, 3), 6),
        "in_65": ((3, 65), 33),
        "wide": ((4, 67), 131),
        "long": ((2, 1031), 3),
    }
    found = {"plain": plain}
    found |= {name: DynamicRecipe(shape=shape, out_features=rows) for name, (shape, rows) in shapes.items()}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:4]}
    found |= {f"values_{kind}": replace(plain, values=kind) for kind in _VALUES}
    found |= {f"bias_{kind}": replace(plain, bias=kind) for kind in ("none", "huge")}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    for end in ("highest", "lowest"):
        found[f"extreme_weight_{end}"] = replace(plain, shape=(3, 256), values="constant", weight=end)
    return found


def _drawn(facet: Facet) -> st.SearchStrategy[DynamicRecipe]:
    return st.builds(
        DynamicRecipe,
        shape=row_shapes(),
        out_features=st.integers(1, 70),
        values=st.sampled_from(("usual", "usual", "whole", *_VALUES)),
        weight=st.sampled_from(("any", "any", "highest", "lowest")),
        bias=st.sampled_from(("usual", "none")),
        zero_point=st.sampled_from(("any", "any", "lowest", "highest")),
        layout=st.sampled_from(LAYOUTS[:4]),
        seed=st.integers(0, 2**32 - 1),
    )


def _large(facet: Facet) -> DynamicRecipe:
    return DynamicRecipe(shape=(96, 259), out_features=200)


LINEAR_DYNAMIC = Family(LinearDynamic, _written, _drawn, _make, _large, oversized, requantizes=False)
