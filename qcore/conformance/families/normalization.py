"""Batch, layer, group and instance normalization: sums in int64, then the written float32 steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, kept, relu_low
from qcore.conformance.exact import f32, fma, to_integers
from qcore.operators import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from qcore.tensor.dtypes import QDType
from qcore.tensor.qparams import QParams, per_tensor

Norm: TypeAlias = "BatchNorm | LayerNorm | GroupNorm | InstanceNorm"


@dataclass(frozen=True, kw_only=True)
class NormRecipe(Recipe):
    """`last`: dimensions of a layer norm; `groups`: of a group norm.

    `affine`: weight and bias, "weight" or "bias" alone, none, or ties: biases that put one result of each channel, or
    of each column of a layer norm, as near as float32 allows to halfway between two integers.
    """

    last: int = 1
    groups: int = 1
    affine: str = "both"
    eps: float = 1e-5


def along_channels(values: Tensor, ndim: int) -> Tensor:
    """A value for each channel of axis 1, so that it broadcasts."""
    return values.reshape(-1, *[1] * (ndim - 2))


def batch_values(x: Tensor, qx: QParams, out: QParams, operator: BatchNorm) -> Tensor:
    """fma(K, f32(x - zx), B): the result in integers before it is rounded."""
    k = f32(1.0) / (operator.running_var + f32(operator.eps)).double().sqrt().float()
    if operator.weight is not None:
        k = operator.weight * k
    b = (f32(0.0) if operator.bias is None else operator.bias) - operator.running_mean * k
    multiplier = f32(k.double() * (float(qx.scale) / float(out.scale)))
    addend = f32(b.double() / float(out.scale))
    centred = f32(x.long() - int(qx.zero_point))
    return fma(along_channels(multiplier, x.ndim), centred, along_channels(addend, x.ndim))


def distances(x: Tensor, qx: QParams, eps: float) -> tuple[Tensor, Tensor]:
    """d and r, of each row of x (rows, n)."""
    count, scale = f32(x.shape[1]), f32(qx.scale)
    integers = x.long()
    mean = f32(integers.sum(1, keepdim=True)) / count
    variance = fma(-mean, mean, f32((integers * integers).sum(1, keepdim=True)) / count)
    variance = torch.where(variance > 0, variance, f32(0.0))
    d = f32(integers - int(qx.zero_point)) - (mean - f32(qx.zero_point))
    return d, f32(float(scale) / ((variance * scale * scale).double() + eps).sqrt())


def layer_values(x: Tensor, qx: QParams, out: QParams, operator: LayerNorm) -> Tensor:
    """fma(d * r, weight, bias) * (1 / sy)."""
    d, r = distances(x.reshape(-1, prod(operator.normalized_shape)), qx, operator.eps)
    weight = f32(1.0) if operator.weight is None else operator.weight
    bias = f32(0.0) if operator.bias is None else operator.bias
    value = fma((d * r).reshape(x.shape), weight, bias)
    return value * (f32(1.0) / f32(out.scale))


def group_values(x: Tensor, qx: QParams, out: QParams, operator: GroupNorm | InstanceNorm) -> Tensor:
    """fma(d, weight * r, bias) * (1 / sy), over groups, or channels as groups of one."""
    channels = x.shape[1]
    groups = operator.num_groups if isinstance(operator, GroupNorm) else channels
    d, r = distances(x.reshape(x.shape[0] * groups, -1), qx, operator.eps)
    by_channel = r.reshape(-1, groups, 1).expand(-1, -1, channels // groups).reshape(-1, channels)
    weight = torch.ones(channels) if operator.weight is None else operator.weight
    bias = torch.zeros(channels) if operator.bias is None else operator.bias
    factor = weight * by_channel
    value = fma(d.reshape(x.shape), factor.reshape(*factor.shape, *[1] * (x.ndim - 2)), along_channels(bias, x.ndim))
    return value * (f32(1.0) / f32(out.scale))


def values(x: Tensor, qx: QParams, out: QParams, operator: Norm) -> Tensor:
    """The result in integers before it is rounded and the zero point is added."""
    if not x.numel():
        return torch.zeros(x.shape)
    if isinstance(operator, BatchNorm):
        return batch_values(x, qx, out, operator)
    if isinstance(operator, LayerNorm):
        return layer_values(x, qx, out, operator)
    return group_values(x, qx, out, operator)


def _operator(draw: Draw, facet: Facet, recipe: NormRecipe, shape: tuple[int, ...]) -> Norm:
    """`shape`: of weight and bias."""
    weight = draw.floats(shape) if recipe.affine in ("both", "weight", "ties") else None
    bias = draw.floats(shape) if recipe.affine in ("both", "bias", "ties") else None
    kind = facet.spec.operator
    if kind is BatchNorm:
        mean, var = draw.floats(shape, 0.1), draw.floats(shape).square()
        return BatchNorm(weight, bias, mean, var, recipe.eps, relu=facet.fused == "relu")
    if kind is LayerNorm:
        return LayerNorm(shape, weight, bias, recipe.eps)
    if kind is GroupNorm:
        return GroupNorm(recipe.groups, weight, bias, recipe.eps)
    return InstanceNorm(weight, bias, recipe.eps)


def _halfway(draw: Draw, x: Tensor, qx: QParams, out: QParams, operator: Norm, dtype: QDType) -> Tensor:
    """Biases that put the first result of each channel or column halfway between two integers."""
    assert operator.bias is not None
    without = values(x, qx, out, replace(operator, bias=torch.zeros_like(operator.bias))).double()
    if isinstance(operator, LayerNorm):
        first = without[(0,) * (x.ndim - len(operator.normalized_shape))]
    else:
        first = without[0].flatten(1)[:, 0] if x.ndim > 2 else without[0]
    levels = torch.tensor(draw.uniform(dtype.qmin, dtype.qmax, first.numel()), dtype=torch.float64).reshape(first.shape)
    return f32((torch.floor(levels) + 0.5 - float(out.zero_point) - first) * float(out.scale))


def _make(facet: Facet, recipe: NormRecipe) -> Case:
    draw = Draw(recipe)
    layer = facet.spec.operator is LayerNorm
    x = draw.integers(recipe.shape, facet.dtype)
    qx = draw.qparams(facet.dtype)
    operator = _operator(draw, facet, recipe, recipe.shape[-recipe.last :] if layer else recipe.shape[1:2])
    real = values(x, qx, per_tensor(1.0, 0, facet.out_dtype), operator)
    out = draw.out(real, facet.out_dtype, 1e-6)
    if recipe.affine == "ties" and x.numel():
        operator = replace(operator, bias=_halfway(draw, x, qx, out, operator, facet.out_dtype))

    def oracle() -> Expected:
        rounded = torch.round(values(x, qx, out, operator))
        found = to_integers(rounded, int(out.zero_point), out.dtype, relu_low(facet, out))
        return Expected(found, memory_format=kept(x))

    return Case(operator, (x, qx, out), oracle)


def _shapes(facet: Facet) -> dict[str, dict[str, Any]]:
    if facet.spec.operator is LayerNorm:
        return {
            "plain": {"shape": (5, 3, 37)},
            "one": {"shape": (1, 1)},
            "one_dimension": {"shape": (13,)},
            "all_dimensions": {"shape": (4, 5), "last": 2},
            "last_2": {"shape": (3, 5, 7, 11), "last": 2},
            "last_3": {"shape": (3, 5, 7, 11), "last": 3},
            "block_of_64": {"shape": (4, 64)},
            "long": {"shape": (2, 4099)},
            "empty": {"shape": (0, 16)},
        }
    shapes = {
        "plain": (3, 8, 5, 7),
        "1d": (2, 6, 13),
        "3d": (2, 4, 3, 4, 5),
        "one": (1, 2, 1, 2),
        "wide": (2, 70, 3, 3),
    }
    shapes |= {"large": (2, 6, 41, 50), "empty": (0, 4, 3, 3)}
    if facet.spec.operator is BatchNorm:
        shapes |= {"2": (7, 131), "channel_1": (3, 1, 4, 4)}
    return {name: {"shape": shape} for name, shape in shapes.items()}


def _written(facet: Facet) -> dict[str, NormRecipe]:
    found = {name: NormRecipe(**how) for name, how in _shapes(facet).items()}
    plain = found["plain"]
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:4]}
    four = replace(plain, shape=(3, 8, 5, 7))
    found |= {f"layout_{name}_4d": replace(four, layout=name) for name in ("transposed", "channels_last")}
    found |= {f"affine_{kind}": replace(plain, affine=kind) for kind in ("none", "weight", "bias")}
    found |= {f"scale_{kind}": replace(plain, scale=kind) for kind in ("tiny", "large")}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    found |= {f"constant_{end}": replace(plain, data=end) for end in ("lowest", "highest")}
    found |= {"out_tiny": replace(plain, out="tiny"), "eps_large": replace(plain, eps=0.5)}
    found["eps_0"] = replace(plain, eps=0.0)
    many = {LayerNorm: (3, 2003), BatchNorm: (2, 2003)}.get(facet.spec.operator, (1, 509, 3, 3))
    found |= {f"ties_{seed}": replace(plain, shape=many, affine="ties", seed=seed) for seed in range(4)}
    if facet.spec.operator is GroupNorm:
        found |= {f"groups_{count}": replace(plain, groups=count) for count in (2, 4, 8)}
        found["groups_4_channels_last"] = replace(plain, groups=4, layout="channels_last")
        found["groups_4_affine_none"] = replace(plain, groups=4, affine="none")
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> NormRecipe:
    groups = draw(st.sampled_from((1, 2, 3, 4)))
    spatial = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    shape = (draw(st.integers(0, 3)), groups * draw(st.integers(1, 12)), *spatial)
    return NormRecipe(
        shape=shape,
        last=draw(st.integers(1, len(shape) - 1)),
        groups=groups,
        affine=draw(st.sampled_from(("both", "ties", "none", "weight", "bias"))),
        eps=draw(st.sampled_from((1e-5, 1e-3, 0.1))),
        data=draw(st.sampled_from(("any", "any", "any", "highest"))),
        scale=draw(st.sampled_from(("usual", "usual", "tiny", "large"))),
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _large(facet: Facet) -> NormRecipe:
    return NormRecipe(shape=(400, 257) if facet.spec.operator is LayerNorm else (4, 16, 41, 41))


def _bad(case: Case) -> Iterator[Bad]:
    operator, (x, *rest) = case.operator, case.args
    assert isinstance(operator, BatchNorm | LayerNorm | GroupNorm | InstanceNorm)
    assert operator.weight is not None
    longer = torch.ones(*operator.weight.shape[:-1], operator.weight.shape[-1] + 1)
    yield "weight_longer", replace(operator, weight=longer), case.args
    yield "bias_longer", replace(operator, bias=longer), case.args
    yield "weight_meta", replace(operator, weight=operator.weight.to("meta")), case.args
    if isinstance(operator, LayerNorm):
        yield "features_less", operator, (x[..., :-1], *rest)
        wrong = (operator.normalized_shape[0] + 1,)
        yield "normalized_shape_other", replace(operator, normalized_shape=wrong), case.args
        yield "normalized_shape_empty", replace(operator, normalized_shape=(), weight=None, bias=None), case.args
    else:
        yield "channels_less", operator, (x[:, :-1], *rest)
        yield "rank_1", operator, (x.flatten(), *rest)
    if isinstance(operator, GroupNorm):
        yield "groups_0", replace(operator, num_groups=0), case.args
        yield "groups_negative", replace(operator, num_groups=-1), case.args
        yield "groups_uneven", replace(operator, num_groups=5), case.args
    if isinstance(operator, BatchNorm):
        yield "mean_longer", replace(operator, running_mean=longer), case.args
        yield "var_longer", replace(operator, running_var=longer), case.args


def _family(operator: type[Any]) -> Family:
    return Family(operator, _written, _drawn, _make, _large, bad=_bad)


BATCH_NORM = _family(BatchNorm)
LAYER_NORM = _family(LayerNorm)
GROUP_NORM = _family(GroupNorm)
INSTANCE_NORM = _family(InstanceNorm)
