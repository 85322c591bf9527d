"""Drawn cases of quantize, dequantize and the choice of dynamic parameters."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from qcore.operators import Dequantize, Quantize
from qcore.tensor.dtypes import qint32
from qcore.tensor.qparams import QParams, choose_qparams_dynamic, per_tensor
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome


def floats(draw: Draw, shape: tuple[int, ...], scale: float) -> Tensor:
    """Exact halves of the scale, numbers of any size, or numbers in range; some of them huge or infinite."""
    kind = draw.integer(0, 2)
    if kind == 0:
        x = torch.randint(-600, 600, shape, generator=draw.generator) * 0.5 * torch.tensor(scale)
    else:
        x = draw.normal(shape) * (scale * 90 if kind == 1 else draw.log_uniform(1e-8, 1e30))
    odd = torch.tensor([torch.inf, -torch.inf, 3e38, -3e38, 2.0**31, -(2.0**31), 0.0, -0.0, 1e-40])
    picked = odd[torch.randint(len(odd), shape, generator=draw.generator)]
    return torch.where(torch.rand(shape, generator=draw.generator) < 0.02, picked, x).float()


def torch_dtype(params: QParams) -> torch.dtype:
    return getattr(torch, params.dtype.name)


def quantize(draw: Draw, build: Build) -> Iterator[Outcome]:
    out = draw.params(draw.dtype())
    x = floats(draw, draw.integers(3, 0, 20), out.scale)
    x = torch.where(torch.rand(x.shape, generator=draw.generator) < 0.01, torch.nan, x)
    theirs = oracle.run(torch.quantize_per_tensor, x, out.scale, out.zero_point, torch_dtype(out))
    yield Outcome(f"{out}", build(Quantize())(x, out), theirs)


def quantize_qint32(draw: Draw, build: Build) -> Iterator[Outcome]:
    out = per_tensor(draw.scale(), draw.one_of(0, draw.integer(-1000, 1000), draw.integer(-(2**30), 2**30)), qint32)
    x = floats(draw, draw.integers(3, 0, 20), out.scale * 100)
    theirs = oracle.run(torch.quantize_per_tensor, x, out.scale, out.zero_point, torch_dtype(out))
    yield Outcome(f"{out}", build(Quantize())(x, out), theirs)


def quantize_per_channel(draw: Draw, build: Build) -> Iterator[Outcome]:
    shape, axis = draw.integers(3, 1, 20), draw.integer(0, 2)
    out = draw.channel_params(draw.dtype(), shape[axis], axis)
    x = floats(draw, shape, float(out.scale[0]))
    theirs = oracle.run(torch.quantize_per_channel, x, out.scale, out.zero_point, axis, torch_dtype(out))
    yield Outcome(f"{out}", build(Quantize())(x, out), theirs)


def dequantize(draw: Draw, build: Build) -> Iterator[Outcome]:
    shape, axis, dtype = draw.integers(3, 1, 20), draw.integer(0, 2), draw.dtype()
    x = draw.raw(shape, dtype)
    for qx in (draw.params(dtype), draw.channel_params(dtype, shape[axis], axis)):
        yield Outcome(f"{qx}", build(Dequantize())(x, qx), oracle.run(oracle.to_torch(x, qx).dequantize))


def dequantize_qint32(draw: Draw, build: Build) -> Iterator[Outcome]:
    x = torch.randint(-(2**30), 2**30, draw.integers(3, 1, 20), generator=draw.generator, dtype=torch.int32)
    qx = per_tensor(draw.scale(), draw.one_of(0, draw.integer(-(2**30), 2**30)), qint32)
    yield Outcome(f"{qx}", build(Dequantize())(x, qx), oracle.run(oracle.to_torch(x, qx).dequantize))


def choose_dynamic(draw: Draw, build: Build) -> Iterator[Outcome]:
    x = draw.normal((2,)) * draw.log_uniform(1e-44, 1e37)
    kind = draw.integer(0, 3)
    x = (x, x.abs(), -x.abs(), torch.stack([-x[0].abs(), x[0].abs()]))[kind]
    reduce_range = draw.likely(0.5)
    scale, zero_point = choose_qparams_dynamic(x.min(), x.max(), reduce_range)
    theirs = torch.tensor(torch._choose_qparams_per_tensor(x, reduce_range), dtype=torch.float64)
    yield Outcome(f"{x.tolist()} {reduce_range}", torch.stack([scale, zero_point.double()]), theirs)


CASES: dict[str, Cases] = {
    "quantize": quantize,
    "quantize to qint32": quantize_qint32,
    "quantize per channel": quantize_per_channel,
    "dequantize": dequantize,
    "dequantize qint32": dequantize_qint32,
    "choose dynamic parameters": choose_dynamic,
}
