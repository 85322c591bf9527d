"""Drawn cases of pooling and mean."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.operators import AdaptiveAvgPool, AvgPool, MaxPool, Mean
from qcore.tensor.qparams import QParams
from tests import oracle
from tests.numerics.draws import CHANNELS_LAST, Draw
from tests.numerics.outcome import Build, Cases, Outcome

MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
BLOCK = 64
"""Channels that torch's vector code takes at a time."""


def image(draw: Draw, rank: int) -> tuple[Tensor, QParams]:
    qx = draw.params(draw.dtype())
    return draw.image(rank, qx.dtype, draw.one_of(1, 3, 16, 33, 64, 80, 128), 3, 8), qx


def ties(exact: Tensor) -> Tensor:
    """Where an average, in units of the scale and exact or far from a tie, lies halfway between two integers."""
    return ((exact * 2).round() % 2 == 1) & ((exact * 2 - (exact * 2).round()).abs() < 1e-9)


def scalar_code(x: Tensor, like: Tensor, any_layout: bool) -> Tensor:
    """The outputs that torch does not compute a block of channels at a time."""
    last = x.ndim in CHANNELS_LAST and x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim])
    blocks = x.shape[1] // BLOCK * BLOCK if oracle.vectorized() and (last or any_layout) else 0
    aside = torch.ones(like.shape, dtype=torch.bool)
    aside[:, :blocks] = False
    return aside


def max_pool(rank: int) -> Cases:
    def cases(draw: Draw, build: Build) -> Iterator[Outcome]:
        x, qx = image(draw, rank)
        kernel, stride, dilation = draw.integers(rank, 1, 3), draw.integers(rank, 1, 3), (1,) * rank
        padding, ceil_mode = tuple(draw.integer(0, k // 2) for k in kernel), draw.likely(0.5)
        theirs = oracle.run(MAX_POOL[rank], oracle.to_torch(x, qx), kernel, stride, padding, dilation, ceil_mode)
        operator = MaxPool(kernel, stride, padding, dilation, ceil_mode)
        yield Outcome(f"{tuple(x.shape)} {operator} {qx}", build(operator)(x, qx), theirs)

    return cases


def avg_pool(rank: int) -> Cases:
    def cases(draw: Draw, build: Build) -> Iterator[Outcome]:
        x, qx = image(draw, rank)
        kernel, stride = draw.integers(rank, 1, 3), draw.integers(rank, 1, 3)
        padding, ceil_mode = tuple(draw.integer(0, k // 2) for k in kernel), draw.likely(0.5)
        include_pad, divisor = draw.likely(0.5), draw.one_of(None, None, draw.integer(1, 9)) if rank > 1 else None
        settings = [kernel, stride, padding, ceil_mode, include_pad, *([divisor] if rank > 1 else [])]
        theirs = oracle.run(AVG_POOL[rank], oracle.to_torch(x, qx), *settings)
        exact = AVG_POOL[rank](x.double() - qx.zero_point, *settings)
        aside = ties(exact) & scalar_code(x, exact, any_layout=rank == 3)
        operator = AvgPool(kernel, stride, padding, ceil_mode, include_pad, divisor)
        yield Outcome(f"{tuple(x.shape)} {x.stride()} {settings} {qx}", build(operator)(x, qx), theirs, aside)

    return cases


def adaptive_avg_pool(rank: int) -> Cases:
    def cases(draw: Draw, build: Build) -> Iterator[Outcome]:
        x, qx = image(draw, rank)
        goal = tuple(draw.integer(1, 5) if rank == 1 else draw.one_of(1, None, draw.integer(1, 9)) for _ in range(rank))
        theirs = oracle.run(ADAPTIVE[rank], oracle.to_torch(x, qx), goal)
        exact = ADAPTIVE[rank](x.double() - qx.zero_point, goal)
        aside = ties(exact)
        if goal != (1, 1, 1):  # which torch hands to mean
            aside = aside & scalar_code(x, exact, any_layout=False)
        yield Outcome(f"{tuple(x.shape)} {x.stride()} {goal} {qx}", build(AdaptiveAvgPool(goal))(x, qx), theirs, aside)

    return cases


def mean(draw: Draw, build: Build) -> Iterator[Outcome]:
    x, qx = image(draw, draw.integer(1, 3))
    dims = tuple(sorted(draw.random.sample(range(x.ndim), draw.integer(1, x.ndim))))
    keepdim = draw.likely(0.5)
    theirs = oracle.run(torch.mean, oracle.to_torch(x, qx), dims, keepdim)
    aside = ties((x.double() - qx.zero_point).mean(dims, keepdim))
    yield Outcome(f"{tuple(x.shape)} {x.stride()} {dims} {qx}", build(Mean(dims, keepdim))(x, qx), theirs, aside)


CASES: dict[str, Cases] = {
    **{f"max_pool{rank}d": max_pool(rank) for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": avg_pool(rank) for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": adaptive_avg_pool(rank) for rank in (1, 2, 3)},
    "mean": mean,
}
