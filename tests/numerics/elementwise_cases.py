"""Drawn cases of add, mul, clamp and cat."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.operators import Add, Cat, Clamp, Mul
from qcore.tensor.qparams import QParams
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome, wraps

BLOCK = 64
"""Elements that torch's vector code takes at a time."""
CHANNELS = 16
"""Channels that torch's concatenation of channels_last inputs takes at a time."""


def output(draw: Draw, like: QParams, scale: float) -> QParams:
    return draw.params(like.dtype, draw.scale() if draw.likely(0.2) else scale * draw.log_uniform(0.1, 3))


def tail(like: Tensor) -> Tensor:
    """The elements after the last whole block, which torch computes by another formula in add."""
    return (torch.arange(like.numel()) >= like.numel() // BLOCK * BLOCK).reshape(like.shape)


def near_tie(value: Tensor, largest: Tensor | float) -> Tensor:
    """Where a value, of terms up to `largest`, is so close to a tie that the order of float32 steps decides."""
    return ((value - value.floor()) - 0.5).abs() < 1e-4 + 1e-6 * largest


def binary(name: str) -> Cases:
    def cases(draw: Draw, build: Build) -> Iterator[Outcome]:
        qa, relu = draw.params(draw.dtype()), draw.likely(0.5)
        qb = draw.params(qa.dtype)
        shape = (draw.one_of(draw.integer(0, 6) * BLOCK, draw.integer(1, 300)),)
        a, b = draw.raw(shape, qa.dtype), draw.raw(shape, qb.dtype)
        real_a, real_b = (a.double() - qa.zero_point) * qa.scale, (b.double() - qb.zero_point) * qb.scale
        if name == "add":
            operator, function = Add(relu), oracle.quantized.add_relu if relu else oracle.quantized.add
            out = output(draw, qa, qa.scale + qb.scale)
            value, largest = (real_a + real_b) / out.scale, (qa.scale + qb.scale) * 255 / out.scale
            aside = wraps(value) | (tail(a) & near_tie(value, largest))
        else:
            operator, function = Mul(relu), oracle.quantized.mul_relu if relu else oracle.quantized.mul
            out = output(draw, qa, qa.scale * qb.scale * 100)
            aside = wraps(real_a * real_b / out.scale)
        theirs = oracle.run(function, oracle.to_torch(a, qa), oracle.to_torch(b, qb), out.scale, out.zero_point)
        yield Outcome(f"{qa} {qb} {out} {relu=}", build(operator)(a, qa, b, qb, out), theirs, aside)

    return cases


def clamp(draw: Draw, build: Build) -> Iterator[Outcome]:
    qx = draw.params(draw.dtype())
    x = draw.raw((draw.integer(1, 300),), qx.dtype)
    torch_x = oracle.to_torch(x, qx)
    half = qx.scale / 2
    low = draw.one_of(None, draw.random.uniform(-9, 9), half * draw.integer(-300, 300), -1e30)
    high = draw.one_of(None if low is not None else 1.0, (low or 0.0) + draw.random.uniform(0, 9), 1e30)
    theirs = oracle.run(torch.clamp, torch_x, low, high)
    yield Outcome(f"{qx} {low} {high}", build(Clamp(low, high))(x, qx), theirs)
    yield Outcome(f"relu {qx}", build(Clamp(0.0))(x, qx), oracle.run(torch.relu, torch_x))
    yield Outcome(f"relu6 {qx}", build(Clamp(0.0, 6.0))(x, qx), oracle.run(F.relu6, torch_x))
    theirs = oracle.run(F.hardtanh, torch_x, -half * 5, half * 7)
    yield Outcome(f"hardtanh {qx}", build(Clamp(-half * 5, half * 7))(x, qx), theirs)


def cat(draw: Draw, build: Build) -> Iterator[Outcome]:
    relu, count, dim, dtype = draw.likely(0.5), draw.integer(1, 4), draw.one_of(0, 1, 1, 1, 2, 3), draw.dtype()
    params = [draw.params(dtype) for _ in range(count)]
    out = draw.one_of(params[0], output(draw, params[0], sum(qx.scale for qx in params)))
    shape = (draw.integer(1, 2), draw.one_of(3, 16, 64, 128, 100), *draw.integers(2, 1, 7))
    sizes = [shape] * count
    if draw.likely(0.5):
        sizes[1:] = [(*shape[:dim], draw.integer(0, shape[dim]), *shape[dim + 1 :]) for _ in params[1:]]
    xs = [draw.raw(size, dtype) for size in sizes]
    channels_last = draw.likely(0.5)
    if channels_last:
        xs = [x.contiguous(memory_format=torch.channels_last) for x in xs]
    function = oracle.quantized.cat_relu if relu else oracle.quantized.cat
    theirs = oracle.run(
        function, [oracle.to_torch(x, qx) for x, qx in zip(xs, params, strict=True)], dim, out.scale, out.zero_point
    )
    reals = [(x.double() - qx.zero_point) * qx.scale / out.scale for x, qx in zip(xs, params, strict=True)]
    value = torch.cat(reals, dim)
    aside = wraps(value)
    whole_blocks = channels_last and dim == 1 and all(x.shape[1] % CHANNELS == 0 for x in xs)
    if not (whole_blocks and oracle.vectorized()):
        aside = aside | near_tie(value, max(qx.scale for qx in params) * 255 / out.scale)
    ours = build(Cat(dim, relu))(xs, params, out)
    yield Outcome(f"{sizes} {params} {out} {dim=} {relu=}", ours, theirs, aside)


CASES: dict[str, Cases] = {"add": binary("add"), "mul": binary("mul"), "clamp": clamp, "cat": cat}
