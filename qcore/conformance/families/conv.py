"""Conv in 1, 2 and 3 dimensions: exact sums in int64, one kernel position at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from qcore.conformance.case import LAYOUTS, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, channels_last, relu_low, weight_columns
from qcore.conformance.families.linear import out_and_bias, requantized
from qcore.operators import Conv


@dataclass(frozen=True, kw_only=True)
class ConvRecipe(Recipe):
    """`shape`: of x, (batch, channels, *spatial); the rest as in Conv, `weight` the data of the weight."""

    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    bias: str = "usual"
    weight: str = "any"


def conv_sums(centred: Tensor, weight: Tensor, operator: Conv) -> Tensor:
    """The exact sums of centred inputs (int64, so that padding is 0) times centred weights, (batch, out, *spatial)."""
    widths = [width for size in reversed(operator.padding) for width in (size, size)]
    padded = pad(centred, widths)
    kernel, groups = weight.shape[2:], operator.groups
    steps = list(zip(kernel, operator.stride, operator.dilation, strict=True))
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, (k, s, d) in zip(padded.shape[2:], steps, strict=True)]
    total = torch.zeros((padded.shape[0], weight.shape[0], *sizes), dtype=torch.int64)
    grouped = total.view(padded.shape[0], groups, weight.shape[0] // groups, *sizes)
    per_group = weight.view(groups, weight.shape[0] // groups, *weight.shape[1:])
    for position in product(*(range(size) for size in kernel)):
        places = zip(position, sizes, steps, strict=True)
        window = [slice(p * d, p * d + s * (n - 1) + 1, s) for p, n, (_, s, d) in places]
        seen = padded[(slice(None), slice(None), *window)].reshape(padded.shape[0], groups, weight.shape[1], *sizes)
        tap: tuple[slice | int, ...] = (slice(None), slice(None), slice(None), *position)
        taps = per_group[tap]
        grouped += torch.einsum("bgi...,goi->bgo...", seen, taps)
    return total


def _make(facet: Facet, recipe: ConvRecipe) -> Case:
    draw = Draw(recipe)
    assert facet.weight is not None
    channels = recipe.out_channels
    x = draw.integers(recipe.shape, facet.dtype)
    qx = draw.qparams(facet.dtype)
    shape = (channels, recipe.shape[1] // recipe.groups, *recipe.kernel)
    weight = draw.integers(shape, facet.weight.dtype, recipe.weight).contiguous()
    qweight = draw.weight_qparams(facet.weight, channels)
    bare = Conv(
        weight, qweight, stride=recipe.stride, padding=recipe.padding, dilation=recipe.dilation, groups=recipe.groups
    )
    zeros = weight_columns(qweight)[1].reshape(-1, *[1] * (weight.ndim - 1))
    acc = conv_sums(x.long() - int(qx.zero_point), weight.long() - zeros, bare).movedim(1, -1)
    out, bias = out_and_bias(draw, recipe.bias, acc, qx, qweight, facet.out_dtype)

    def oracle() -> Expected:
        values = requantized(acc, qx, qweight, bias, out, relu_low(facet, out)).movedim(-1, 1)
        return Expected(values, acc.movedim(-1, 1), channels_last(x.ndim) if x.ndim > 3 and acc.numel() else None)

    return Case(replace(bare, bias=bias, relu=facet.fused == "relu"), (x, qx, out), oracle)


def _plain(rank: int) -> ConvRecipe:
    sizes = {1: (23,), 2: (9, 11), 3: (5, 6, 7)}[rank]
    ones, zeros = (1,) * rank, (0,) * rank
    return ConvRecipe(
        shape=(2, 7, *sizes), out_channels=13, kernel=(3,) * rank, stride=ones, padding=zeros, dilation=ones
    )


def _written(facet: Facet) -> dict[str, ConvRecipe]:
    rank = facet.spatial or 2
    plain = _plain(rank)
    sizes = plain.shape[2:]
    padded = replace(plain, padding=(1,) * rank)
    rising = tuple(range(1, rank + 1))
    found = {
        "plain": plain,
        "one": replace(plain, shape=(1, 1, *(1,) * rank), kernel=(1,) * rank, out_channels=1),
        "pointwise": replace(plain, shape=(3, 17, *sizes), kernel=(1,) * rank, out_channels=33),
        "pointwise_strided": replace(plain, kernel=(1,) * rank, stride=(2,) * rank),
        "empty_batch": replace(plain, shape=(0, 7, *sizes)),
        "stride_2": replace(padded, stride=(2,) * rank),
        "dilation_2": replace(padded, dilation=(2,) * rank),
        "uneven": replace(plain, kernel=rising, stride=rising[::-1], padding=(1,) + (0,) * (rank - 1), dilation=rising),
        "wide_padding": replace(plain, padding=(2,) * rank, zero_point="highest"),
        "padding_zero_point_lowest": replace(padded, zero_point="lowest"),
        "whole_input": replace(plain, kernel=sizes),
        "first_layer": replace(padded, shape=(2, 3, *sizes), out_channels=32, stride=(2,) * rank),
        "groups_2": replace(padded, shape=(2, 6, *sizes), out_channels=10, groups=2),
        "groups_of_2": replace(padded, shape=(1, 8, *sizes), out_channels=8, groups=4),
        "depthwise": replace(padded, shape=(2, 19, *sizes), out_channels=19, groups=19),
        "depthwise_strided": replace(padded, shape=(1, 32, *sizes), out_channels=32, groups=32, stride=(2,) * rank),
        "depthwise_multiplier": replace(padded, shape=(2, 5, *sizes), out_channels=10, groups=5),
        "depthwise_5": replace(
            plain, shape=(1, 16, *sizes), out_channels=16, groups=16, kernel=(5,) * rank, padding=(2,) * rank
        ),
        "scale_tiny": replace(padded, scale="tiny"),
        "scale_large": replace(padded, scale="large"),
        "out_tiny": replace(padded, out="tiny"),
        "out_halves": replace(padded, out="halves", out_channels=40, bias="none"),
        "bias_none": replace(padded, bias="none"),
        "bias_huge": replace(padded, bias="huge"),
        "bias_ties": replace(plain, shape=(1, 16, *sizes), out_channels=331, bias="ties"),
    }
    found |= {f"layout_{name}": replace(padded, layout=name) for name in LAYOUTS[1:]}
    found["layout_channels_last_depthwise"] = replace(found["depthwise"], layout="channels_last")
    for x, weight in product(("highest", "lowest"), repeat=2):
        found[f"extreme_x_{x}_weight_{weight}"] = replace(padded, shape=(1, 32, *sizes), data=x, weight=weight)
    for end, zero_point in (("highest", "lowest"), ("lowest", "highest")):
        found[f"extreme_depthwise_{end}"] = replace(found["depthwise"], data=end, weight=end, zero_point=zero_point)
    for limit in facet.spec.limits:
        if limit.extent == "accumulated" and limit.high <= 2**17:
            largest = replace(plain, out_channels=3, data="highest", zero_point="lowest", bias="none")
            ones, window = (1,) * rank, limit.high // 3**rank
            found |= {
                "limit_highest": replace(largest, shape=(1, limit.high, *ones), kernel=ones, weight="highest"),
                "limit_lowest": replace(largest, shape=(1, limit.high, *ones), kernel=ones, weight="lowest"),
                "limit_window": replace(largest, shape=(1, window, *(3,) * rank), weight="lowest"),
            }
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> ConvRecipe:
    rank = facet.spatial or 2

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, dilation = each(1, 4 if rank < 3 else 3), each(1, 2)
    stride, padding = each(1, 3), each(0, 3)
    spare = each(0, {1: 20, 2: 6, 3: 3}[rank])
    sizes = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + extra for k, d, p, extra in zip(kernel, dilation, padding, spare, strict=True)
    )
    groups = draw(st.sampled_from((1, 1, 2, 3, 8)))
    inputs = groups * draw(st.integers(1, 40 // groups))
    outputs = groups * draw(st.integers(1, 40 // groups))
    if draw(st.booleans()) and prod(kernel) > 1:
        groups = inputs = outputs = draw(st.integers(1, 40))
    return ConvRecipe(
        shape=(draw(st.integers(0, 3)), inputs, *sizes),
        out_channels=outputs,
        kernel=kernel,
        stride=stride,
        padding=padding,
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


def _large(facet: Facet) -> ConvRecipe:
    rank = facet.spatial or 2
    sizes = {1: (900,), 2: (31, 29), 3: (9, 10, 11)}[rank]
    return replace(_plain(rank), shape=(2, 16, *sizes), out_channels=32)


def _oversized(facet: Facet, extent: str, size: int) -> Conv | None:
    shapes = {"accumulated": (1, size), "out_channels": (size, 1)}
    rank = facet.spatial or 2
    if extent not in shapes or facet.weight is None:
        return None
    weight = torch.zeros((*shapes[extent], *(1,) * rank), dtype=facet.weight.dtype.storage)
    qweight = Draw(Recipe(shape=())).weight_qparams(facet.weight, weight.shape[0])
    ones = (1,) * rank
    return Conv(weight, qweight, stride=ones, padding=(0,) * rank, dilation=ones)


CONV = Family(Conv, _written, _drawn, _make, _large, _oversized)
