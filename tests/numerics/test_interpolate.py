"""Interpolation against torch's quantized kernels on contiguous tensors.

For channels_last torch adds in another order, so that some results differ by one there; qcore's never depend on layout.
"""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import Interpolate
from qcore.registry import registry
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle


def drawn(rng, spatial, generator):
    """Input, and an operator's size or factors; nothing of size 1, where torch confuses layouts and is wrong."""
    sizes = tuple(rng.randint(2, 9) for _ in range(spatial))
    x = torch.randint(0, 256, (rng.randint(1, 2), rng.choice([2, 3, 64, 70]), *sizes), generator=generator)
    qx = per_tensor(10 ** rng.uniform(-3, 0), rng.choice([0, 255, rng.randint(0, 255)]), quint8)
    if rng.random() < 0.5:
        return x.to(torch.uint8), qx, {"size": tuple(rng.randint(1, 20) for _ in sizes)}
    return x.to(torch.uint8), qx, {"scale_factor": tuple(rng.choice([2.0, 0.5, rng.uniform(0.5, 3)]) for _ in sizes)}


@pytest.mark.parametrize(
    ("mode", "spatial", "corners"),
    [("nearest", 2, None), ("nearest", 3, None), ("bilinear", 2, False), ("bilinear", 2, True)],
)
def test_equals_torch(mode, spatial, corners):
    rng, generator = random.Random(f"{mode} {spatial} {corners}"), torch.Generator().manual_seed(0)
    for _ in range(300):
        x, qx, kwargs = drawn(rng, spatial, generator)
        operator = Interpolate(**kwargs, mode=mode, align_corners=bool(corners))
        y = registry.get("reference").build(operator)(x, qx)
        q = oracle.to_torch(x, qx)
        expected = oracle.run(torch.nn.functional.interpolate, q, **kwargs, mode=mode, align_corners=corners)
        assert torch.equal(y, expected)


def test_layout_carries_over_and_changes_nothing():
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    for mode in ("nearest", "bilinear"):
        for _ in range(50):
            x, qx, kwargs = drawn(rng, 2, generator)
            kernel = registry.get("reference").build(Interpolate(**kwargs, mode=mode))
            y = kernel(x.contiguous(memory_format=torch.channels_last), qx)
            assert y.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(y, kernel(x, qx))


def test_one_dimension():
    x = torch.tensor([[[1, 2, 3]]], dtype=torch.uint8)
    kernel = registry.get("reference").build(Interpolate(scale_factor=(2.0,)))
    assert kernel(x, per_tensor(1.0, 0, quint8)).tolist() == [[[1, 1, 2, 2, 3, 3]]]


@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [
        ({}, (1, 1, 4)),
        ({"size": (2,), "scale_factor": (2.0,)}, (1, 1, 4)),
        ({"size": (2,), "mode": "cubic"}, (1, 1, 4)),
        ({"size": (2,), "mode": "bilinear"}, (1, 1, 4)),
        ({"size": (2, 2)}, (1, 1, 4)),
        ({"size": (0,)}, (1, 1, 4)),
        ({"scale_factor": (0.1,)}, (1, 1, 4)),
        ({"size": (3,)}, (1, 1, 0)),
    ],
)
def test_wrong_arguments_are_refused(kwargs, shape):
    with pytest.raises(ArgumentError, match="interpolate"):
        kernel = registry.get("reference").build(Interpolate(**kwargs))
        kernel(torch.zeros(shape, dtype=torch.uint8), per_tensor(1.0, 0, quint8))
