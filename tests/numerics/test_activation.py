"""Softmax of signed integers, and arguments that do not fit (activation_cases compares with torch)."""

from __future__ import annotations

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import PReLU, Softmax
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor


def test_softmax_of_signed_integers_sums_to_one():
    x = torch.randint(-128, 128, (50, 20), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    y = registry.get("reference").build(Softmax())(x, per_tensor(0.05, 3, qint8), per_tensor(1 / 256, -128, qint8))
    assert ((y.double() + 128).sum(-1) / 256 - 1).abs().max() <= 20 / 512


def test_prelu_refuses_channels_that_do_not_fit():
    params = per_tensor(1.0, 0, quint8)
    kernel = registry.get("reference").build(PReLU(torch.ones(3, dtype=torch.uint8), params))
    with pytest.raises(ArgumentError, match="channels"):
        kernel(torch.zeros(2, 4, dtype=torch.uint8), params, params)
