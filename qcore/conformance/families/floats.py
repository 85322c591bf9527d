"""Quantize and Dequantize: per tensor, per channel, and per channel with zero points that are floats."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, kept, laid_out
from qcore.conformance.exact import f32, fma, to_integers
from qcore.operators import Dequantize, Quantize
from qcore.tensor.dtypes import qint32
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class FloatRecipe(Recipe):
    """`axis`: of per-channel parameters, None for per tensor; `values`: usual, ties, huge or special."""

    axis: int | None = None
    values: str = "usual"


SHAPES: dict[str, tuple[int, ...]] = {
    "scalar": (),
    "one": (1,),
    "prime": (131,),
    "empty": (0, 4),
    "large": (3, 4099),
}


def _along(values: Tensor, qparams: QParams, ndim: int) -> Tensor:
    """Per-channel values in the shape that broadcasts against a tensor of this rank; others as they are."""
    if qparams.axis is None:
        return values
    shape = [1] * ndim
    shape[qparams.axis] = -1
    return values.reshape(shape)


def quantized(x: Tensor, out: QParams) -> Tensor:
    """Per tensor clamp(rint(fma(x, 1 / s, z))), per channel and to qint32 clamp(rint(x * (1 / s) + z))."""
    inverse = _along(1.0 / f32(out.scale), out, x.ndim)
    zero = _along(f32(out.zero_point), out, x.ndim)
    fused = out.axis is None and out.dtype != qint32
    return to_integers(torch.round(fma(x, inverse, zero) if fused else x * inverse + zero), 0, out.dtype)


def dequantized(x: Tensor, qx: QParams) -> Tensor:
    """Per tensor f32(x - z) * f32(s), per channel f32((x - z) * s) with s in float64."""
    centred = x.double() - _along(torch.as_tensor(qx.zero_point).double(), qx, x.ndim)
    if qx.axis is None:
        return f32(centred) * f32(qx.scale)
    return (centred * _along(torch.as_tensor(qx.scale), qx, x.ndim)).float()


def _floating(facet: Facet) -> bool:
    """Whether zero points are float32."""
    return "float_zero_points" in facet.options


def _qparams(draw: Draw, facet: Facet, recipe: FloatRecipe) -> QParams:
    if recipe.axis is None:
        return draw.qparams(facet.dtype)
    found = draw.channels(recipe.shape[recipe.axis], recipe.axis, facet.dtype)
    if _floating(facet):
        parts = draw.uniform(-0.5, 0.5, recipe.shape[recipe.axis])
        return replace(found, zero_point=(torch.as_tensor(found.zero_point) + torch.tensor(parts)).float())
    return found


def _make_quantize(facet: Facet, recipe: FloatRecipe) -> Case:
    draw = Draw(recipe)
    out = _qparams(draw, facet, recipe)
    if recipe.values == "ties" and out.axis is None:
        out = replace(out, scale=0.125)
    scale = _along(f32(out.scale), out, len(recipe.shape))
    zero = _along(torch.as_tensor(out.zero_point), out, len(recipe.shape))
    if recipe.values == "ties":
        x = ((draw.integers(recipe.shape, facet.dtype).double() - zero + 0.5) * scale.double()).float()
    elif recipe.values == "huge":
        x = draw.floats(recipe.shape, 1e30)
    elif recipe.values == "special":
        x = draw.choices(recipe.shape, (float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3e38, -3e38))
    else:
        x = draw.floats(recipe.shape, 100.0) * scale
    x = laid_out(x, recipe.layout)
    operator = Quantize(_floating(facet))
    return Case(operator, (x, out), lambda: Expected(quantized(x, out), memory_format=kept(x)))


def _make_dequantize(facet: Facet, recipe: FloatRecipe) -> Case:
    draw = Draw(recipe)
    x = draw.integers(recipe.shape, facet.dtype)
    qx = _qparams(draw, facet, recipe)
    operator = Dequantize(_floating(facet))
    return Case(operator, (x, qx), lambda: Expected(dequantized(x, qx), memory_format=kept(x)))


def _written(facet: Facet) -> dict[str, FloatRecipe]:
    plain = FloatRecipe(shape=(3, 5, 7, 11))
    if _floating(facet):
        return _written_floating(plain)
    found = {"plain": plain} | {name: FloatRecipe(shape=shape) for name, shape in SHAPES.items()}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:]}
    found |= {f"scale_{kind}": replace(plain, scale=kind) for kind in ("tiny", "large")}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    found |= {f"axis_{axis}": replace(plain, axis=axis) for axis in range(4)}
    found |= {f"axis_1_{layout}": replace(plain, axis=1, layout=layout) for layout in LAYOUTS[1:]}
    found["axis_0_of_1"] = FloatRecipe(shape=(17,), axis=0)
    if facet.spec.operator is Quantize:
        found |= {f"values_{kind}": replace(plain, values=kind) for kind in ("ties", "huge", "special")}
    return found


def _written_floating(plain: FloatRecipe) -> dict[str, FloatRecipe]:
    """Such zero points are always per channel."""
    rows = replace(plain, shape=(23, 31), axis=0)
    found = {"plain": rows, "axis_1": replace(rows, axis=1), "one": FloatRecipe(shape=(1, 5), axis=0)}
    found |= {f"axis_{axis}_of_4": replace(plain, axis=axis) for axis in range(4)}
    found |= {f"layout_{name}": replace(rows, layout=name) for name in LAYOUTS[1:4]}
    found |= {f"zero_point_{end}": replace(rows, zero_point=end) for end in ("lowest", "highest")}
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> FloatRecipe:
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=4)))
    if _floating(facet):
        shape = shape or (1,)
        axis: int | None = draw(st.integers(0, len(shape) - 1))
    else:
        axis = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    return FloatRecipe(
        shape=shape,
        axis=axis,
        scale=draw(st.sampled_from(("usual", "usual", "tiny", "large"))),
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        values=draw(st.sampled_from(("usual", "ties", "huge", "special"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _large(facet: Facet) -> FloatRecipe:
    return FloatRecipe(shape=(301, 333), axis=0) if _floating(facet) else FloatRecipe(shape=(100_001,))


QUANTIZE = Family(Quantize, _written, _drawn, _make_quantize, _large, requantizes=False)
DEQUANTIZE = Family(Dequantize, _written, _drawn, _make_dequantize, _large, requantizes=False)
