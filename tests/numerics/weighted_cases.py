"""Drawn cases of linear, dynamic linear and convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.operators import Conv, Linear, LinearDynamic
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams, per_channel, per_tensor
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome, wraps

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def spread(qx: QParams, qweight: QParams, accumulated: int) -> float:
    """About the standard deviation of sums of so many random products, in real numbers."""
    return qx.scale * float(torch.as_tensor(qweight.scale).mean()) * math.sqrt(max(accumulated, 1)) * 5000


def bias_for(draw: Draw, acc: Tensor, qx: QParams, qweight: QParams, deviation: float) -> Tensor | None:
    """None, an ordinary bias, or one that cancels large sums, so that each of its float32 roundings shows."""
    bias = draw.bias(acc.shape[-1], deviation)
    if bias is None or not acc.numel() or draw.likely(0.5):
        return bias
    means = acc.reshape(-1, acc.shape[-1]).mean(0)
    return (bias * 0.1 - means * qx.scale * torch.as_tensor(qweight.scale)).float()


def output(draw: Draw, deviation: float) -> QParams:
    """Output parameters under which most results stay in range; now and then any scale."""
    return draw.params(quint8, draw.scale() if draw.likely(0.1) else deviation * draw.log_uniform(0.002, 0.05))


def too_large(acc: Tensor, qx: QParams, qweight: QParams, bias: Tensor | None, out: QParams) -> Tensor:
    """Where torch's int32 overflows; channels of the exact sums `acc` last."""
    value = acc * (qx.scale * torch.as_tensor(qweight.scale))
    return wraps((value if bias is None else value + bias) / out.scale)


def centered(raw: Tensor, params: QParams) -> Tensor:
    """raw - zero point; weights per channel have zero points of 0."""
    return raw.double() - (params.zero_point if params.axis is None else 0)


def size(draw: Draw) -> int:
    return draw.one_of(draw.integer(1, 16), draw.integer(1, 300), draw.one_of(64, 128, 1024, 4096))


def linear(draw: Draw, build: Build) -> Iterator[Outcome]:
    inner, outer, relu = size(draw), draw.integer(1, 70), draw.likely(0.5)
    weight, qweight = draw.weight((outer, inner))
    qx = draw.params(quint8)
    deviation = spread(qx, qweight, inner)
    out = output(draw, deviation)
    x = draw.raw((*draw.integers(draw.integer(0, 2), 0, 4), draw.integer(1, 9), inner), quint8)
    acc = centered(x, qx) @ centered(weight, qweight).T
    bias = bias_for(draw, acc, qx, qweight, deviation)
    function = oracle.quantized.linear_relu if relu else oracle.quantized.linear
    packed = oracle.quantized.linear_prepack(oracle.to_torch(weight, qweight), bias)
    theirs = oracle.run(function, oracle.to_torch(x, qx), packed, out.scale, out.zero_point)
    what = f"{tuple(x.shape)} {tuple(weight.shape)} {qx} {qweight} {out}"
    aside = too_large(acc, qx, qweight, bias, out)
    yield Outcome(what, build(Linear(weight, qweight, bias, relu))(x, qx, out), theirs, aside)


def linear_cancelled(draw: Draw, build: Build) -> Iterator[Outcome]:
    """Large sums that the bias cancels: where a step of the output rounds differently, results differ."""
    inner, outer = 200, draw.integer(1, 20)
    weight, qx = draw.raw((outer, inner), qint8, 30, 64), draw.params(quint8, draw.log_uniform(0.01, 1))
    scales = torch.rand(outer, generator=draw.generator, dtype=torch.float64) * 0.1 + 0.01
    zeros = torch.zeros(outer, dtype=torch.int64)
    qweight = draw.one_of(per_tensor(float(scales[0]), 3, qint8), per_channel(scales, zeros, 0, qint8))
    x = draw.raw((100, inner), quint8, 128, 255)
    acc = centered(x, qx) @ centered(weight, qweight).T
    real = acc * (qx.scale * torch.as_tensor(qweight.scale))
    out = per_tensor(float(real.std() / 60 + 1e-6), draw.zero_point(quint8), quint8)
    bias = (-real.mean(0)).float()
    packed = oracle.quantized.linear_prepack(oracle.to_torch(weight, qweight), bias)
    theirs = oracle.run(oracle.quantized.linear, oracle.to_torch(x, qx), packed, out.scale, out.zero_point)
    aside = too_large(acc, qx, qweight, bias, out)
    yield Outcome(f"{qx} {qweight} {out}", build(Linear(weight, qweight, bias))(x, qx, out), theirs, aside)


def linear_dynamic(draw: Draw, build: Build) -> Iterator[Outcome]:
    inner, outer, relu, reduce_range = size(draw), draw.integer(1, 70), draw.likely(0.5), draw.likely(0.5)
    weight, qweight = draw.weight((outer, inner))
    magnitude = draw.log_uniform(1e-7, 1e4)
    x = draw.normal((*draw.integers(draw.integer(0, 2), 0, 4), draw.integer(1, 9), inner)) * magnitude
    x = draw.one_of(x, x, x.abs(), -x.abs(), torch.round(x / magnitude * 8) / 8, torch.zeros_like(x))
    bias = draw.bias(outer, magnitude * float(torch.as_tensor(qweight.scale).mean()) * 300)
    function = oracle.quantized.linear_relu_dynamic if relu else oracle.quantized.linear_dynamic
    packed = oracle.quantized.linear_prepack(oracle.to_torch(weight, qweight), bias)
    theirs = oracle.run(function, x, packed, reduce_range)
    operator = LinearDynamic(weight, qweight, bias, relu, reduce_range)
    yield Outcome(f"{tuple(x.shape)} {tuple(weight.shape)} {qweight}", build(operator)(x), theirs)


def conv(rank: int) -> Cases:
    def cases(draw: Draw, build: Build) -> Iterator[Outcome]:
        groups = draw.one_of(1, 1, 2, 3, 4)
        inner, outer, relu = groups * draw.integer(1, 9), groups * draw.integer(1, 9), draw.likely(0.5)
        if draw.likely(0.3):  # depthwise
            groups = inner = outer = draw.one_of(1, 3, 8, 16, 24, 32)
        kernel = draw.one_of(draw.integers(rank, 1, 3), (3,) * rank, (5,) + (1,) * (rank - 1))
        stride, dilation = draw.integers(rank, 1, 3), draw.integers(rank, 1, 2)
        padding = tuple(draw.integer(0, k) for k in kernel)
        weight, qweight = draw.weight((outer, inner // groups, *kernel), depthwise=groups == inner)
        qx = draw.params(quint8)
        deviation = spread(qx, qweight, weight[0].numel())
        out = output(draw, deviation)
        x = draw.image(rank, quint8, inner, 9, 11)
        acc = CONV[rank](centered(x, qx), centered(weight, qweight), None, stride, padding, dilation, groups)
        acc = acc.movedim(1, -1)
        bias = bias_for(draw, acc, qx, qweight, deviation)
        function = getattr(oracle.quantized, f"conv{rank}d_relu" if relu else f"conv{rank}d")
        prepack = getattr(oracle.quantized, f"conv{rank}d_prepack")
        packed = prepack(oracle.to_torch(weight, qweight), bias, stride, padding, dilation, groups)
        theirs = oracle.run(function, oracle.to_torch(x, qx), packed, out.scale, out.zero_point)
        operator = Conv(weight, qweight, bias, relu, stride, padding, dilation, groups)
        what = f"{tuple(x.shape)} {tuple(weight.shape)} {groups=} {stride=} {padding=} {dilation=} {qx} {qweight} {out}"
        aside = too_large(acc, qx, qweight, bias, out).movedim(-1, 1)
        yield Outcome(what, build(operator)(x, qx, out), theirs, aside)

    return cases


CASES: dict[str, Cases] = {
    "linear": linear,
    "linear, cancelled sums": linear_cancelled,
    "linear_dynamic": linear_dynamic,
    **{f"conv{rank}d": conv(rank) for rank in (1, 2, 3)},
}
