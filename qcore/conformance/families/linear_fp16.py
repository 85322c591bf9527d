"""LinearFp16: one fused multiply-add after the other, in the order of the input's features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, laid_out
from qcore.conformance.exact import fma
from qcore.conformance.families.linear import row_shapes
from qcore.operators import LinearFp16


@dataclass(frozen=True, kw_only=True)
class HalfRecipe(Recipe):
    """`shape`: of x, with in_features last; `values`: usual or special floats in x; `bias`: whether there is one."""

    out_features: int = 5
    values: str = "usual"
    bias: bool = True


def expected(x: Tensor, operator: LinearFp16) -> Tensor:
    """y = fma(x[k], w[k], y) from 0 for k in order, then y + bias, then relu."""
    weight = operator.weight.float()
    y = torch.zeros((*x.shape[:-1], weight.shape[0]))
    for k in range(weight.shape[1]):
        y = fma(x[..., k : k + 1], weight[:, k], y)
    if operator.bias is not None:
        y = y + operator.bias
    return torch.where(y < 0, torch.zeros(()), y) if operator.relu else y


def _make(facet: Facet, recipe: HalfRecipe) -> Case:
    draw = Draw(recipe)
    x = draw.floats(recipe.shape)
    if recipe.values == "special":
        x = torch.where(x > 1, draw.choices(recipe.shape, (float("nan"), float("inf"), 1e-40, 3e38)), x)
    x = laid_out(x, recipe.layout)
    weight = draw.floats((recipe.out_features, recipe.shape[-1])).half()
    bias = draw.floats((recipe.out_features,)) if recipe.bias else None
    operator = LinearFp16(weight, bias, relu=facet.fused == "relu")
    return Case(operator, (x,), lambda: Expected(expected(x, operator)))


def _written(facet: Facet) -> dict[str, HalfRecipe]:
    plain = HalfRecipe(shape=(6, 37), out_features=19)
    shapes: dict[str, tuple[tuple[int, ...], int]] = {
        "one": ((1, 1), 1),
        "one_dimension": ((13,), 7),
        "many_dimensions": ((2, 3, 5, 17), 11),
        "empty_batch": ((0, 16), 4),
        "blocks": ((8, 64), 64),
        "wide": ((4, 7), 131),
        "long": ((2, 1031), 3),
    }
    found = {"plain": plain, "bias_none": replace(plain, bias=False), "special": replace(plain, values="special")}
    found |= {name: HalfRecipe(shape=shape, out_features=rows) for name, (shape, rows) in shapes.items()}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:4]}
    return found


def _drawn(facet: Facet) -> st.SearchStrategy[HalfRecipe]:
    return st.builds(
        HalfRecipe,
        shape=row_shapes(),
        out_features=st.integers(1, 70),
        values=st.sampled_from(("usual", "usual", "special")),
        bias=st.booleans(),
        layout=st.sampled_from(LAYOUTS[:4]),
        seed=st.integers(0, 2**32 - 1),
    )


def _oversized(facet: Facet, extent: str, size: int) -> LinearFp16 | None:
    shapes = {"in_features": (1, size), "out_features": (size, 1)}
    return LinearFp16(torch.zeros(shapes[extent], dtype=torch.float16)) if extent in shapes else None


LINEAR_FP16 = Family(
    LinearFp16,
    _written,
    _drawn,
    _make,
    lambda facet: HalfRecipe(shape=(48, 130), out_features=200),
    _oversized,
    requantizes=False,
)
