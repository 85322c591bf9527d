"""Interpolation: layouts, one dimension, wrong arguments (interpolate_cases compares with torch)."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import Interpolate
from qcore.registry import registry
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_tensor
from tests.numerics.interpolate_cases import drawn


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
