"""Drawn cases of batch, layer, group and instance normalization.

torch differs from itself between the body and the tail of its vector loops (ties are rounded before or after the zero
point is added) and between memory formats; the spec is its vector body on contiguous tensors, so sizes here are
multiples of 64. Some biases put results next to halfway between two integers, where every rounding shows; with one
channel torch takes the layout for channels_last.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from qcore.operators import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome

NICE = [0.5, 0.25, 0.125, 0.1, 0.05, 0.3, 0.02, 0.7, 1.4]


def drawn(rng, nice):
    scales = (rng.choice(NICE), rng.choice(NICE)) if nice else (10 ** rng.uniform(-3, 0), 10 ** rng.uniform(-2.5, 0))
    return [per_tensor(scale, rng.choice([0, 255, rng.randint(0, 255)]), quint8) for scale in scales]


def integers(rng, shape, generator):
    low, high = rng.choice([(0, 256), (0, 256), (200, 203), (7, 8)])
    return torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)


def affine(rng, size, generator):
    if rng.random() < 0.3:
        return None, None
    return torch.rand(size, generator=generator) + 0.3, torch.randn(size, generator=generator)


def halfway(generator, x, qx, out, weight, dims):
    """A bias that puts the first result of each channel next to halfway between two integers."""
    real = (x.double() - qx.zero_point) * qx.scale
    mean, var = real.mean(dims, keepdim=True), real.var(dims, correction=0, keepdim=True)
    first = ((real - mean) / (var + 1e-5).sqrt())[0]
    first = first if weight.shape == first.shape else first.flatten(1)[:, 0]
    levels = torch.randint(-100, 100, first.shape, generator=generator) + 0.5
    return (levels * out.scale - first * weight).float()


def batch_norm(draw: Draw, build: Build) -> Iterator[Outcome]:
    rng, generator, relu = draw.random, draw.generator, draw.likely(0.5)
    spatial = rng.choice([(), (3,), (4, 5), (2, 3, 2)])
    channels = rng.choice([rng.randint(1, 20), 64, 128])
    qx, out = drawn(rng, nice=draw.likely(0.5))
    x = integers(rng, (rng.randint(1, 4), channels, *spatial), generator)
    weight, bias = affine(rng, channels, generator)
    mean = torch.randn(channels, generator=generator) * qx.scale * 50
    var = torch.rand(channels, generator=generator) * qx.scale**2 * 3000 + 0.01
    eps = rng.choice([1e-5, 1e-3])
    y = build(BatchNorm(weight, bias, mean, var, eps, relu))(x, qx, out)
    rank = {0: "1d", 1: "1d", 2: "2d", 3: "3d"}[len(spatial)]
    norm = getattr(oracle.quantized, f"batch_norm{rank}" + ("_relu" if relu else ""))
    plain = (torch.ones(channels), torch.zeros(channels))  # torch's kernels do not take None
    constants = (*(plain if weight is None else (weight, bias)), mean, var, eps)
    expected = oracle.run(norm, oracle.to_torch(x, qx), *constants, out.scale, out.zero_point)
    yield Outcome(f"batch_norm {tuple(x.shape)} {qx} {out}", y, expected)


def layer_norm(draw: Draw, build: Build) -> Iterator[Outcome]:
    rng, generator = draw.random, draw.generator
    shape = rng.choice([(64,), (128,), (256,), (4, 16), (2, 8, 16)])
    qx, out = drawn(rng, nice=draw.likely(0.5))
    x = integers(rng, (rng.randint(1, 5), *shape), generator)
    weight, bias = affine(rng, shape, generator)
    eps = rng.choice([1e-12, 1e-5, 1e-3])
    if weight is not None and draw.likely(0.5):
        eps, bias = 1e-5, halfway(generator, x, qx, out, weight, tuple(range(1, x.ndim)))
    y = build(LayerNorm(shape, weight, bias, eps))(x, qx, out)
    arguments = (oracle.to_torch(x, qx), shape, weight, bias, eps, out.scale, out.zero_point)
    yield Outcome(f"layer_norm {shape} {qx} {out}", y, oracle.run(oracle.quantized.layer_norm, *arguments))


def over_channels(name: str) -> Cases:
    def case(draw: Draw, build: Build) -> Iterator[Outcome]:
        rng, generator = draw.random, draw.generator
        groups, per_group = rng.choice([1, 2, 4]), rng.choice([1, 2, 5, 16])
        channels = groups * per_group
        qx, out = drawn(rng, nice=draw.likely(0.5))
        spatial = rng.choice([(8, 8), (4, 32), (64,), (4, 4, 8)])
        x = integers(rng, (rng.randint(1, 3), channels, *spatial), generator)
        weight, bias = affine(rng, channels, generator)
        group = name == "group_norm"
        if weight is not None and channels > 1 and (groups == channels or not group) and draw.likely(0.5):
            bias = halfway(generator, x, qx, out, weight, tuple(range(2, x.ndim)))
        y = build(GroupNorm(groups, weight, bias) if group else InstanceNorm(weight, bias))(x, qx, out)
        arguments = (*((groups,) if group else ()), weight, bias, 1e-5, out.scale, out.zero_point)
        expected = oracle.run(getattr(oracle.quantized, name), oracle.to_torch(x, qx), *arguments)
        yield Outcome(f"{name} {tuple(x.shape)} {qx} {out}", y, expected)

    return case


CASES: dict[str, Cases] = {
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": over_channels("group_norm"),
    "instance_norm": over_channels("instance_norm"),
}
