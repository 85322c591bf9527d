"""Embedding and EmbeddingBag where torch's kernels have no answer (embedding_cases has the rest)."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import Embedding, EmbeddingBag
from qcore.registry import registry
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_channel
from tests.numerics.embedding_cases import drawn

BITS = pytest.mark.parametrize("bits", [8, 4])


@BITS
def test_a_mean_is_the_sum_over_the_length(bits):
    """torch's kernels ignore the mode and give sums; the float module is the oracle here, for the dequantized table."""
    rng, generator = random.Random(bits), torch.Generator().manual_seed(bits)
    for _ in range(100):
        weight, qweight, _ = drawn(rng, generator, bits)
        build = registry.get("reference").build
        indices = torch.randint(0, len(weight), (20,), generator=generator)
        offsets = torch.tensor([0, 3, 3, 10])
        floats = build(Embedding(weight, qweight))(torch.arange(len(weight)))
        y = build(EmbeddingBag(weight, qweight, mode="mean"))(indices, offsets, None)
        expected = torch.nn.functional.embedding_bag(indices, floats, offsets, mode="mean")
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5 * float(floats.abs().max()))


def test_pruned_indices_are_zero():
    weight, qweight, _ = drawn(random.Random(0), torch.Generator().manual_seed(0), 8)
    mapping = torch.tensor([-1, 0, -1])
    y = registry.get("reference").build(Embedding(weight, qweight, mapping))(torch.tensor([[0, 1], [2, 1]]))
    assert y.shape == (2, 2, weight.shape[1])
    assert not y[:, 0].any()
    assert y[:, 1].any()


@pytest.mark.parametrize(
    ("indices", "offsets", "weights", "message"),
    [
        ([0, 99], [0], None, "index 99"),
        ([0, -1], [0], None, "index -1"),
        ([0, 1], [1], None, "offsets"),
        ([0, 1, 2], [0, 2, 1], None, "offsets"),
        ([0, 1], [0, 3], None, "offsets"),
        ([0, 1], None, None, "without offsets"),
        ([[0, 1]], [0], None, "one-dimensional"),
        ([0, 1], [0], [1.0], "per_sample_weights"),
        ([0.0], [0], None, "int32 or int64"),
    ],
)
def test_wrong_arguments_are_refused(indices, offsets, weights, message):
    weight = torch.zeros(3, 4, dtype=torch.uint8)
    qweight = per_channel(torch.ones(3), torch.zeros(3), 0, quint8)
    kernel = registry.get("reference").build(EmbeddingBag(weight, qweight))
    given = [None if item is None else torch.tensor(item) for item in (indices, offsets, weights)]
    with pytest.raises(ArgumentError, match=message):
        kernel(*given)
