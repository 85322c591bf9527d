"""Linear: exact sums in int64, then the written float32 steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, relu_low, weight_columns
from qcore.conformance.exact import f32, fma, to_integers
from qcore.operators import Linear, LinearDynamic
from qcore.tensor.dtypes import QDType
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class LinearRecipe(Recipe):
    """`shape`: of x, with in_features last; `bias`: none, usual, huge or ties; `weight`: the data of the weight."""

    out_features: int = 5
    bias: str = "usual"
    weight: str = "any"


def sums(x: Tensor, zero_point: int, weight: Tensor, weight_zeros: Tensor) -> Tensor:
    """The exact sums of (x - zx) * (w - zw), int64."""
    centred = weight.long() - weight_zeros.reshape(-1, 1)
    return (x.long() - zero_point) @ centred.T


def requantized(
    acc: Tensor, qx: QParams, qweight: QParams, bias: Tensor | None, out: QParams, low: int | None
) -> Tensor:
    """Integers of the result from exact sums with channels last."""
    sxw = f32(qx.scale) * f32(weight_columns(qweight)[0])
    total = f32(acc)
    if bias is not None:
        total = total + bias / sxw if qweight.axis is not None else fma(bias, 1.0 / sxw, total)
    return to_integers(torch.round(total * (sxw / f32(out.scale))), int(out.zero_point), out.dtype, low)


def out_and_bias(
    draw: Draw, kind: str, acc: Tensor, qx: QParams, qweight: QParams, dtype: QDType
) -> tuple[QParams, Tensor | None]:
    """Output parameters that fit the sums (channels last), and biases of a kind.

    They move results by some of their range (usual), or far out of it (huge), or put those of the first row as near as
    float32 allows to halfway between two integers (ties), where any other order of rounding shows.
    """
    scales = float(qx.scale) * weight_columns(qweight)[0]
    real = acc.double() * scales
    out = draw.out(real, dtype, float(scales[0]))
    channels = acc.shape[-1]
    if kind == "none":
        return out, None
    if kind == "ties" and acc.numel():
        first = real.reshape(-1, channels)[0]
        levels = torch.tensor(draw.uniform(dtype.qmin, dtype.qmax, channels), dtype=torch.float64)
        halfway = (torch.floor(levels) + 0.5 - float(out.zero_point)) * float(out.scale)
        return out, (halfway - first).float()
    spread = float(real.abs().max()) / 4 if real.numel() else 1.0
    return out, draw.floats((channels,), 1e30 if kind == "huge" else spread)


def _make_static(facet: Facet, recipe: LinearRecipe) -> Case:
    draw = Draw(recipe)
    assert facet.weight is not None
    rows, columns = recipe.out_features, recipe.shape[-1]
    x = draw.integers(recipe.shape, facet.dtype)
    qx = draw.qparams(facet.dtype)
    weight = draw.integers((rows, columns), facet.weight.dtype, recipe.weight).contiguous()
    qweight = draw.weight_qparams(facet.weight, rows)
    acc = sums(x, int(qx.zero_point), weight, weight_columns(qweight)[1])
    out, bias = out_and_bias(draw, recipe.bias, acc, qx, qweight, facet.out_dtype)
    operator = Linear(weight, qweight, bias, relu=facet.fused == "relu")
    return Case(
        operator,
        (x, qx, out),
        lambda: Expected(requantized(acc, qx, qweight, bias, out, relu_low(facet, out)), acc),
    )


_SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "one": ((1, 1), 1),
    "one_dimension": ((13,), 7),
    "primes": ((7, 31), 13),
    "many_dimensions": ((2, 3, 5, 17), 11),
    "empty_batch": ((0, 16), 4),
    "in_3": ((5, 3), 6),
    "in_4": ((5, 4), 16),
    "in_65": ((3, 65), 33),
    "wide": ((4, 67), 131),
    "long": ((2, 1031), 3),
}


def _written(facet: Facet) -> dict[str, LinearRecipe]:
    plain = LinearRecipe(shape=(6, 37), out_features=19)
    found = {"plain": plain}
    found |= {name: LinearRecipe(shape=shape, out_features=rows) for name, (shape, rows) in _SHAPES.items()}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:4]}
    found |= {f"bias_{kind}": replace(plain, bias=kind) for kind in ("none", "huge", "ties")}
    found["bias_ties_many"] = LinearRecipe(shape=(1, 200), out_features=2048, bias="ties")
    found |= {f"scale_{kind}": replace(plain, scale=kind) for kind in ("tiny", "large")}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    found["out_tiny"] = replace(plain, out="tiny")
    found["out_halves"] = LinearRecipe(shape=(128, 8), out_features=61, out="halves", bias="none")
    for x, weight in (("highest", "highest"), ("highest", "lowest"), ("lowest", "lowest"), ("lowest", "highest")):
        found[f"extreme_x_{x}_weight_{weight}"] = replace(plain, shape=(3, 256), data=x, weight=weight)
    for limit in facet.spec.limits:
        if limit.extent == "in_features" and limit.high <= 2**17:
            size = (2, limit.high)
            largest = replace(plain, shape=size, out_features=3, data="highest", zero_point="lowest", bias="none")
            found["limit_highest"] = replace(largest, weight="highest")
            found["limit_lowest"] = replace(largest, weight="lowest")
    return found


def row_shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of x: any number of leading dimensions, which may be 0, and in_features."""
    leading = st.lists(st.integers(0, 7), max_size=2)
    return st.builds(lambda lead, features: (*lead, features), leading, st.integers(1, 150))


def _drawn(facet: Facet) -> st.SearchStrategy[LinearRecipe]:
    return st.builds(
        LinearRecipe,
        shape=row_shapes(),
        out_features=st.integers(1, 70),
        data=st.sampled_from(("any", "any", "highest", "lowest")),
        weight=st.sampled_from(("any", "any", "highest", "lowest")),
        bias=st.sampled_from(("usual", "none", "ties")),
        scale=st.sampled_from(("usual", "usual", "tiny", "large")),
        zero_point=st.sampled_from(("any", "any", "lowest", "highest")),
        layout=st.sampled_from(LAYOUTS[:4]),
        seed=st.integers(0, 2**32 - 1),
    )


def _large(facet: Facet) -> LinearRecipe:
    return LinearRecipe(shape=(96, 259), out_features=200)


def oversized(facet: Facet, extent: str, size: int) -> Linear | LinearDynamic | None:
    shapes = {"in_features": (1, size), "out_features": (size, 1)}
    if extent not in shapes or facet.weight is None:
        return None
    weight = torch.zeros(shapes[extent], dtype=facet.weight.dtype.storage)
    kind = Linear if facet.spec.operator is Linear else LinearDynamic
    draw = Draw(LinearRecipe(shape=()))
    return kind(weight, draw.weight_qparams(facet.weight, weight.shape[0]))


LINEAR = Family(Linear, _written, _drawn, _make_static, _large, oversized)
