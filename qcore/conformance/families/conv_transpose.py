"""ConvTranspose in 1, 2 and 3 dimensions: inputs are spread over the outputs, one kernel position at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, kept, relu_low, weight_columns
from qcore.conformance.families.linear import out_and_bias, requantized
from qcore.operators import ConvTranspose
from qcore.tensor.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class TransposeRecipe(Recipe):
    """`shape`: of x, (batch, channels, *spatial); the rest as in ConvTranspose, `weight` the data of the weight."""

    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    bias: str = "usual"
    weight: str = "any"


def spread(centred: Tensor, weight: Tensor, operator: ConvTranspose) -> Tensor:
    """The exact sums (batch, out, *spatial), int64, of centred inputs times centred weights (in, out / groups, ...)."""
    groups, kernel = operator.groups, weight.shape[2:]
    batch, inputs, *sizes = centred.shape
    steps = list(zip(sizes, kernel, operator.stride, operator.dilation, operator.output_padding, strict=True))
    whole = [(n - 1) * s + d * (k - 1) + 1 + extra for n, k, s, d, extra in steps]
    total = torch.zeros((batch, groups, weight.shape[1], *whole), dtype=torch.int64)
    grouped = centred.reshape(batch, groups, inputs // groups, *sizes)
    per_group = weight.reshape(groups, inputs // groups, *weight.shape[1:])
    for position in product(*(range(size) for size in kernel)):
        window = [slice(p * d, p * d + s * (n - 1) + 1, s) for p, (n, _, s, d, _) in zip(position, steps, strict=True)]
        seen: tuple[slice | int, ...] = (slice(None), slice(None), slice(None), *position)
        taps = per_group[seen]
        total[(slice(None), slice(None), slice(None), *window)] += torch.einsum("bgi...,gio->bgo...", grouped, taps)
    kept_part = [slice(p, size - p) for p, size in zip(operator.padding, whole, strict=True)]
    return total.flatten(1, 2)[(slice(None), slice(None), *kept_part)]


def tiled(qweight: QParams, groups: int) -> QParams:
    """Parameters of all output channels: those of one group, again for each group."""
    if qweight.axis is None:
        return qweight
    scales, zeros = weight_columns(qweight)
    return replace(qweight, scale=scales.repeat(groups), zero_point=zeros.repeat(groups))


def _make(facet: Facet, recipe: TransposeRecipe) -> Case:
    draw = Draw(recipe)
    assert facet.weight is not None
    x = draw.integers(recipe.shape, facet.dtype)
    qx = draw.qparams(facet.dtype)
    per_group = recipe.out_channels // recipe.groups
    shape = (recipe.shape[1], per_group, *recipe.kernel)
    weight = draw.integers(shape, facet.weight.dtype, recipe.weight).contiguous()
    qweight = draw.weight_qparams(facet.weight, per_group, axis=1)
    bare = ConvTranspose(
        weight,
        qweight,
        stride=recipe.stride,
        padding=recipe.padding,
        output_padding=recipe.output_padding,
        dilation=recipe.dilation,
        groups=recipe.groups,
    )
    zeros = weight_columns(qweight)[1].reshape(1, -1, *[1] * len(recipe.kernel))
    acc = spread(x.long() - int(qx.zero_point), weight.long() - zeros, bare).movedim(1, -1)
    columns = tiled(qweight, recipe.groups)
    out, bias = out_and_bias(draw, recipe.bias, acc, qx, columns, facet.out_dtype)

    def oracle() -> Expected:
        values = requantized(acc, qx, columns, bias, out, relu_low(facet, out)).movedim(-1, 1)
        return Expected(values, acc.movedim(-1, 1), kept(x) if acc.numel() else None)

    return Case(replace(bare, bias=bias, relu=facet.fused == "relu"), (x, qx, out), oracle)


def _plain(rank: int) -> TransposeRecipe:
    sizes = {1: (13,), 2: (5, 7), 3: (3, 4, 5)}[rank]
    ones, zeros = (1,) * rank, (0,) * rank
    return TransposeRecipe(
        shape=(2, 7, *sizes),
        out_channels=11,
        kernel=(3,) * rank,
        stride=ones,
        padding=zeros,
        output_padding=zeros,
        dilation=ones,
    )


def _written(facet: Facet) -> dict[str, TransposeRecipe]:
    rank = facet.spatial or 2
    plain = _plain(rank)
    sizes = plain.shape[2:]
    ones, twos = (1,) * rank, (2,) * rank
    rising = tuple(range(1, rank + 1))
    doubling = replace(plain, stride=twos, padding=ones, output_padding=ones)
    found = {
        "plain": plain,
        "one": replace(plain, shape=(1, 1, *ones), kernel=ones, out_channels=1),
        "pointwise": replace(plain, shape=(3, 17, *sizes), kernel=ones, out_channels=33),
        "empty_batch": replace(plain, shape=(0, 7, *sizes)),
        "doubling": doubling,
        "kernel_2_stride_2": replace(plain, kernel=twos, stride=twos),
        "stride_over_kernel": replace(plain, kernel=ones, stride=(3,) * rank, output_padding=twos),
        "dilation_2": replace(plain, dilation=twos, padding=ones),
        "uneven": replace(plain, kernel=rising, stride=rising[::-1], padding=(0,) * (rank - 1) + (1,), dilation=rising),
        "padding_2": replace(plain, padding=twos),
        "groups_2": replace(doubling, shape=(2, 6, *sizes), out_channels=10, groups=2),
        "groups_of_3": replace(plain, shape=(1, 8, *sizes), out_channels=12, groups=4),
        "depthwise": replace(doubling, shape=(2, 19, *sizes), out_channels=19, groups=19),
        "scale_tiny": replace(plain, scale="tiny"),
        "scale_large": replace(plain, scale="large"),
        "zero_point_lowest": replace(plain, zero_point="lowest"),
        "zero_point_highest": replace(plain, zero_point="highest"),
        "out_tiny": replace(plain, out="tiny"),
        "out_halves": replace(doubling, out="halves", out_channels=40, bias="none"),
        "bias_none": replace(doubling, bias="none"),
        "bias_huge": replace(plain, bias="huge"),
        "bias_ties": replace(plain, shape=(1, 16, *sizes), out_channels=331, bias="ties"),
        "bias_ties_groups": replace(plain, shape=(1, 16, *sizes), out_channels=332, groups=4, bias="ties"),
    }
    found |= {f"layout_{name}": replace(doubling, layout=name) for name in LAYOUTS[1:]}
    for x, weight in product(("highest", "lowest"), repeat=2):
        found[f"extreme_x_{x}_weight_{weight}"] = replace(plain, shape=(1, 32, *sizes), data=x, weight=weight)
    for limit in facet.spec.limits:
        if limit.extent == "accumulated" and limit.high <= 2**17:
            largest = replace(plain, shape=(1, limit.high, *ones), kernel=ones, out_channels=2, bias="none")
            largest = replace(largest, data="highest", zero_point="lowest")
            found |= {f"limit_{end}": replace(largest, weight=end) for end in ("highest", "lowest")}
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> TransposeRecipe:
    rank = facet.spatial or 2

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, dilation, stride = each(1, 3), each(1, 2), each(1, 3)
    sizes = each(1, {1: 20, 2: 6, 3: 3}[rank])
    whole = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, min(2, (size - 1) // 2))) for size in whole)
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    groups = draw(st.sampled_from((1, 1, 2, 3, 8)))
    return TransposeRecipe(
        shape=(draw(st.integers(0, 3)), groups * draw(st.integers(1, 24 // groups)), *sizes),
        out_channels=groups * draw(st.integers(1, 40 // groups)),
        kernel=kernel,
        stride=stride,
        padding=padding,
        output_padding=extra,
        dilation=dilation,
        groups=groups,
        bias=draw(st.sampled_from(("usual", "none", "ties"))),
        data=draw(st.sampled_from(("any", "any", "highest", "lowest"))),
        weight=draw(st.sampled_from(("any", "any", "highest", "lowest"))),
        scale=draw(st.sampled_from(("usual", "usual", "tiny", "large"))),
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _large(facet: Facet) -> TransposeRecipe:
    rank = facet.spatial or 2
    sizes = {1: (400,), 2: (19, 21), 3: (6, 7, 8)}[rank]
    return replace(_plain(rank), shape=(2, 16, *sizes), out_channels=32, stride=(2,) * rank)


def _oversized(facet: Facet, extent: str, size: int) -> ConvTranspose | None:
    shapes = {"accumulated": (size, 1), "out_channels": (1, size)}
    rank = facet.spatial or 2
    if extent not in shapes or facet.weight is None:
        return None
    weight = torch.zeros((*shapes[extent], *(1,) * rank), dtype=facet.weight.dtype.storage)
    qweight = Draw(Recipe(shape=())).weight_qparams(facet.weight, weight.shape[1], axis=1)
    ones, zeros = (1,) * rank, (0,) * rank
    return ConvTranspose(weight, qweight, stride=ones, padding=zeros, output_padding=zeros, dilation=ones)


def _bad(case: Case) -> Iterator[Bad]:
    operator = case.operator
    assert isinstance(operator, ConvTranspose)
    rank = operator.weight.ndim - 2
    for what, value in {"negative": (-1,) * rank, "of_stride": (1,) * rank, "longer": (0,) * (rank + 1)}.items():
        yield f"output_padding_{what}", replace(operator, output_padding=value), case.args
    yield "padding_over_output", replace(operator, padding=(99,) * rank), case.args


CONV_TRANSPOSE = Family(ConvTranspose, _written, _drawn, _make, _large, _oversized, bad=_bad)
