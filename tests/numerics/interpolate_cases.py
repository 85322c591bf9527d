"""Drawn cases of interpolation, on contiguous tensors.

For channels_last torch adds in another order, so that some results differ by one there; qcore's never depend on layout.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from qcore.operators import Interpolate
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome


def drawn(rng, spatial, generator):
    """Input, and an operator's size or factors; nothing of size 1, where torch confuses layouts and is wrong."""
    sizes = tuple(rng.randint(2, 9) for _ in range(spatial))
    channels, largest = (rng.choice([2, 3, 64, 70]), 20) if spatial == 2 else (rng.choice([2, 3]), 9)
    x = torch.randint(0, 256, (rng.randint(1, 2), channels, *sizes), generator=generator)
    qx = per_tensor(10 ** rng.uniform(-3, 0), rng.choice([0, 255, rng.randint(0, 255)]), quint8)
    if rng.random() < 0.5:
        return x.to(torch.uint8), qx, {"size": tuple(rng.randint(1, largest) for _ in sizes)}
    return x.to(torch.uint8), qx, {"scale_factor": tuple(rng.choice([2.0, 0.5, rng.uniform(0.5, 3)]) for _ in sizes)}


def interpolate(mode: str, spatial: int, corners: bool | None) -> Cases:
    def case(draw: Draw, build: Build) -> Iterator[Outcome]:
        x, qx, kwargs = drawn(draw.random, spatial, draw.generator)
        y = build(Interpolate(**kwargs, mode=mode, align_corners=bool(corners)))(x, qx)
        function, q = torch.nn.functional.interpolate, oracle.to_torch(x, qx)
        expected = oracle.run(function, q, **kwargs, mode=mode, align_corners=corners)
        yield Outcome(f"{mode} {tuple(x.shape)} {kwargs} {qx}", y, expected)

    return case


CASES: dict[str, Cases] = {
    "nearest2d": interpolate("nearest", 2, None),
    "nearest3d": interpolate("nearest", 3, None),
    "bilinear2d": interpolate("bilinear", 2, False),
    "bilinear2d align_corners": interpolate("bilinear", 2, True),
}
