"""What stays float between quantized layers: a function of one variable, a sum, layer norm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import DRAWN, LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, kept, laid_out
from qcore.conformance.exact import f32, fma
from qcore.conformance.families.floats import SHAPES
from qcore.conformance.families.gates import sigmoid, tanh
from qcore.operators import FloatAdd, FloatFunction, FloatLayerNorm


@dataclass(frozen=True, kw_only=True)
class FloatsRecipe(Recipe):
    """`values`: usual, small, huge, special; `other`: the shape of the second input; `last`: dimensions that are
    normalized; `affine`: both, weight, bias or none.
    """

    values: str = "usual"
    other: tuple[int, ...] | None = None
    last: int = 1
    affine: str = "both"
    eps: float = 1e-5


_SPECIAL = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, 3.4e38, -3.4e38, 5.3125, -5.3125)
_MAGNITUDES = {"usual": 2.0, "small": 1e-3, "huge": 1e19}


def _floats(draw: Draw, recipe: FloatsRecipe, shape: tuple[int, ...]) -> Tensor:
    if recipe.values == "special":
        return laid_out(draw.choices(shape, _SPECIAL), recipe.layout)
    return laid_out(draw.floats(shape, _MAGNITUDES[recipe.values]), recipe.layout)


# --- functions ------------------------------------------------------------------------------------------------------

_ERF = (
    0.13307952880859375, -0.0663677379488945, 0.04916849732398987, -0.03954532369971275, 0.03209158033132553,
    -0.02534095011651516, 0.018993405625224113, -0.013360345736145973, 0.009029680863022804, -0.005806355737149715,
    0.0030146341305226088, -0.0012460981961339712, 0.0009131931001320481, -0.0007452345453202724,
    0.00023917188809718937,
)  # fmt: skip
"""Of docs/numerics.md, the constant first."""


def _gelu(x: Tensor) -> Tensor:
    c = torch.where(x < 5.3125, x, f32(5.3125))
    c = torch.where(c > -5.3125, c, f32(-5.3125))
    v = fma(c * c, f32(0.07086505), f32(-1.0))
    value = f32(0.0) * v
    for number in reversed(_ERF):
        value = fma(value, v, f32(number))
    return fma(x, torch.clamp(c * value, -0.5, 0.5), f32(0.5) * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    inner = x * fma(x * x, f32(0.035677407), f32(0.7978846))
    return fma(f32(0.5) * x, tanh(inner), f32(0.5) * x)


_FUNCTIONS = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": torch.relu,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "tanh": tanh,
}


def _make_function(facet: Facet, recipe: FloatsRecipe) -> Case:
    x = _floats(Draw(recipe), recipe, recipe.shape)

    def oracle() -> Expected:
        return Expected(_FUNCTIONS[facet.function](x), memory_format=kept(x))

    return Case(FloatFunction(facet.function), (x,), oracle)


def _written_functions(facet: Facet) -> dict[str, FloatsRecipe]:
    plain = FloatsRecipe(shape=(3, 5, 7, 11))
    found = {"plain": plain} | {name: FloatsRecipe(shape=shape) for name, shape in SHAPES.items()}
    found |= {f"values_{kind}": replace(plain, values=kind) for kind in ("small", "huge", "special")}
    return found | {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:]}


# --- sums -----------------------------------------------------------------------------------------------------------


def _make_add(facet: Facet, recipe: FloatsRecipe) -> Case:
    draw = Draw(recipe)
    a = _floats(draw, recipe, recipe.shape)
    b = draw.floats(recipe.shape if recipe.other is None else recipe.other)

    def oracle() -> Expected:
        return Expected(f32(a.double() + b.double()), memory_format=kept(a) if recipe.other is None else None)

    return Case(FloatAdd(), (a, b), oracle)


def _written_sums(facet: Facet) -> dict[str, FloatsRecipe]:
    found = _written_functions(facet)
    plain = found["plain"]
    found |= {f"other_{name}": replace(plain, other=shape) for name, shape in _OTHERS.items()}
    return found | {"both": replace(plain, shape=(1, 5, 1, 11), other=(3, 1, 7, 1))}


_OTHERS: dict[str, tuple[int, ...]] = {"row": (11,), "scalar": (), "columns": (7, 1), "channels": (5, 1, 1)}


# --- layer norm -----------------------------------------------------------------------------------------------------


def _total(rows: Tensor, squares: bool) -> Tensor:
    """Of each row, in the order of docs/numerics.md: index i goes to sum i % 64; the sums are joined in pairs."""
    sums = torch.zeros(len(rows), 64)
    for begin in range(0, rows.shape[1], 64):
        part = rows[:, begin : begin + 64]
        own = sums[:, : part.shape[1]]
        sums[:, : part.shape[1]] = fma(part, part, own) if squares else own + part
    joined = (sums[:, :16] + sums[:, 16:32]) + (sums[:, 32:48] + sums[:, 48:])
    for width in (8, 4, 2, 1):
        joined = joined[:, :width] + joined[:, width:]
    return joined


def _normalized(x: Tensor, operator: FloatLayerNorm) -> Tensor:
    count = prod(operator.normalized_shape)
    rows = x.reshape(-1, count)
    d = rows - _total(rows, False) / f32(count)
    var = _total(d, True) / f32(count) + f32(operator.eps)
    r = f32(1.0) / f32(torch.sqrt(var.double()))
    weight = f32(1.0) if operator.weight is None else operator.weight
    bias = f32(0.0) if operator.bias is None else operator.bias
    return fma((d * r).reshape(x.shape), weight, bias)


def _make_norm(facet: Facet, recipe: FloatsRecipe) -> Case:
    draw = Draw(recipe)
    x = _floats(draw, recipe, recipe.shape)
    shape = recipe.shape[-recipe.last :]
    weight = draw.floats(shape) if recipe.affine in ("both", "weight") else None
    bias = draw.floats(shape) if recipe.affine in ("both", "bias") else None
    operator = FloatLayerNorm(shape, weight, bias, recipe.eps)

    def oracle() -> Expected:
        return Expected(_normalized(x, operator) if x.numel() else x.clone(), memory_format=kept(x))

    return Case(operator, (x,), oracle)


def _written_norms(facet: Facet) -> dict[str, FloatsRecipe]:
    plain = FloatsRecipe(shape=(5, 3, 37))
    found = {"plain": plain, "one": replace(plain, shape=(1, 1)), "one_dimension": replace(plain, shape=(13,))}
    found |= {f"last_{last}": FloatsRecipe(shape=(3, 5, 7, 11), last=last) for last in (1, 2, 3, 4)}
    found |= {f"row_{n}": replace(plain, shape=(4, n)) for n in (16, 63, 64, 65, 100, 384, 4099)}
    found |= {f"values_{kind}": replace(plain, values=kind) for kind in ("small", "huge", "special")}
    found |= {f"affine_{kind}": replace(plain, affine=kind) for kind in ("none", "weight", "bias")}
    found |= {"eps_large": replace(plain, eps=0.5), "empty": replace(plain, shape=(0, 16))}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:4]}
    return found | {"layout_channels_last": FloatsRecipe(shape=(2, 5, 3, 4), layout="channels_last")}


# --- all ------------------------------------------------------------------------------------------------------------


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> FloatsRecipe:
    shape = tuple(draw(st.lists(st.integers(1, 70), min_size=1, max_size=3)))
    return FloatsRecipe(
        shape=shape,
        values=draw(st.sampled_from(("usual", "usual", "small", "huge", "special"))),
        last=draw(st.integers(1, len(shape))),
        affine=draw(st.sampled_from(("both", "none", "weight", "bias"))),
        layout=draw(DRAWN["layout"]),
        seed=draw(DRAWN["seed"]),
    )


def _large(facet: Facet) -> FloatsRecipe:
    return FloatsRecipe(shape=(400, 257))


def _bad_function(case: Case) -> Iterator[Bad]:
    yield "dtype_double", case.operator, (case.args[0].double(),)


def _bad_add(case: Case) -> Iterator[Bad]:
    a, b = case.args
    yield "shapes_other", case.operator, (a, b[..., :-1])
    yield "dtype_double", case.operator, (a.double(), b)


def _bad_norm(case: Case) -> Iterator[Bad]:
    operator, (x,) = case.operator, case.args
    assert isinstance(operator, FloatLayerNorm)
    assert operator.weight is not None
    yield "weight_longer", replace(operator, weight=torch.ones(operator.weight.numel() + 1)), case.args
    yield "bias_longer", replace(operator, bias=torch.ones(operator.weight.numel() + 1)), case.args
    yield "features_less", operator, (x[..., :-1],)
    yield "normalized_shape_empty", replace(operator, normalized_shape=(), weight=None, bias=None), case.args


FLOAT_FUNCTION = Family(FloatFunction, _written_functions, _drawn, _make_function, _large, bad=_bad_function)
FLOAT_ADD = Family(FloatAdd, _written_sums, _drawn, _make_add, _large, bad=_bad_add)
FLOAT_LAYER_NORM = Family(FloatLayerNorm, _written_norms, _drawn, _make_norm, _large, bad=_bad_norm)
