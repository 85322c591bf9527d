"""PReLU: exact products, then the written float32 steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import DRAWN, Bad, Case, Expected, Facet, Family, Recipe, variations
from qcore.conformance.draw import Draw, kept
from qcore.conformance.exact import f32, to_integers
from qcore.operators import PReLU
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class PReLURecipe(Recipe):
    """`channels`: whether there is a weight for each channel of axis 1, else one for all."""

    channels: bool = True


def steps(x: Tensor, qx: QParams, out: QParams, operator: PReLU) -> Tensor:
    """The result in integers before it is rounded and the zero point is added."""
    d = x.long() - int(qx.zero_point)
    w = operator.weight.long() - int(operator.qweight.zero_point)
    w = w.reshape(-1, *[1] * (x.ndim - 2)) if len(w) > 1 else w[0]
    inverse = f32(1.0) / f32(out.scale)
    above = f32(d) * (f32(qx.scale) * inverse)
    below = f32(d * w) * (f32(qx.scale) * f32(operator.qweight.scale) * inverse)
    return torch.where(d > 0, above, below)


def _make(facet: Facet, recipe: PReLURecipe) -> Case:
    draw = Draw(recipe)
    assert facet.weight is not None
    x, qx = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)
    weight = draw.integers(recipe.shape[1:2] if recipe.channels else (1,), facet.weight.dtype, "any")
    qweight = draw.weight_qparams(facet.weight, 1)
    if recipe.out == "halves":
        qweight = replace(qweight, scale=0.25)
    operator = PReLU(weight.contiguous(), qweight)
    real = steps(x, qx, QParams(facet.out_dtype, 1.0, 0), operator)
    out = draw.out(real, facet.out_dtype, float(qx.scale) / 4)

    def oracle() -> Expected:
        rounded = torch.round(steps(x, qx, out, operator))
        return Expected(to_integers(rounded, out.zero_point, out.dtype), memory_format=kept(x))

    return Case(operator, (x, qx, out), oracle)


def _written(facet: Facet) -> dict[str, PReLURecipe]:
    plain = PReLURecipe(shape=(3, 7, 5, 11))
    found = {"plain": plain, "one_weight": replace(plain, channels=False)}
    shapes: dict[str, tuple[int, ...]] = {"rows": (5, 131), "1d": (2, 3, 17), "3d": (2, 3, 3, 4, 5), "empty": (0, 4, 3)}
    found |= {name: PReLURecipe(shape=shape) for name, shape in shapes.items()}
    found |= {
        name: PReLURecipe(shape=shape, channels=False) for name, shape in {"scalar": (), "vector": (131,)}.items()
    }
    found |= variations(plain)
    found |= {f"data_{end}": replace(plain, data=end) for end in ("lowest", "highest")}
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> PReLURecipe:
    shape = tuple(draw(st.lists(st.integers(1, 13), min_size=2, max_size=4)))
    return draw(st.builds(PReLURecipe, shape=st.just(shape), channels=st.booleans(), **DRAWN))


def _bad(case: Case) -> Iterator[Bad]:
    operator, (x, *rest) = case.operator, case.args
    assert isinstance(operator, PReLU)
    dtype = operator.qweight.dtype
    yield "channels_less", operator, (x[:, :-1], *rest)
    yield "rank_1", operator, (x.flatten(), *rest)
    yield "weight_empty", replace(operator, weight=operator.weight[:0]), case.args
    yield "weight_float", replace(operator, weight=operator.weight.float()), case.args
    yield "weight_meta", replace(operator, weight=operator.weight.to("meta")), case.args
    yield "weight_rank_2", replace(operator, weight=operator.weight[None]), case.args
    yield "weight_scale_nan", replace(operator, qweight=QParams(dtype, float("nan"), 0)), case.args
    yield "weight_scale_0", replace(operator, qweight=QParams(dtype, 0.0, 0)), case.args
    yield "weight_zero_point_above", replace(operator, qweight=QParams(dtype, 0.1, dtype.qmax + 1)), case.args


PRELU = Family(PReLU, _written, _drawn, _make, lambda facet: PReLURecipe(shape=(4, 25, 1001)), bad=_bad)
