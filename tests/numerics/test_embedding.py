"""Embedding and EmbeddingBag against torch's fbgemm kernels, bit for bit, in 8 and 4 bit."""

from __future__ import annotations

import random

import pytest
import torch

from qcore.errors import ArgumentError
from qcore.operators import Embedding, EmbeddingBag
from qcore.registry import registry
from qcore.tensor.dtypes import quint4x2, quint8
from qcore.tensor.qparams import per_channel
from tests import oracle

BITS = pytest.mark.parametrize("bits", [8, 4])


def drawn(rng, generator, bits):
    """Integers (rows, dim) and parameters of a table, and torch's packed one."""
    high = 2**bits
    rows, dim = rng.randint(1, 40), rng.randint(1, 70) * (1 if bits == 8 else 2)
    weight = torch.randint(0, high, (rows, dim), generator=generator, dtype=torch.uint8)
    scales = 10 ** (torch.rand(rows, generator=generator) * 4 - 4)
    zero_points = (torch.rand(rows, generator=generator) * 3 - 1) * high
    with oracle.engine():
        dtype = torch.quint8 if bits == 8 else torch.quint4x2
        floats = (weight - zero_points[:, None]) * scales[:, None]
        table = torch.quantize_per_channel(floats, scales, zero_points, 0, dtype)
        packed = oracle.quantized.embedding_bag_prepack(table)
    return weight, per_channel(scales, zero_points, 0, quint8 if bits == 8 else quint4x2), packed


def pruning(rng, rows):
    """A mapping from twice as many indices to these rows, the rest pruned."""
    mapping = torch.full((2 * rows + 1,), -1, dtype=torch.int32)
    mapping[sorted(rng.sample(range(len(mapping)), rows))] = torch.arange(rows, dtype=torch.int32)
    return mapping


@BITS
def test_embedding_equals_torch(bits):
    rng, generator = random.Random(bits), torch.Generator().manual_seed(bits)
    lookup = oracle.quantized.embedding_byte if bits == 8 else oracle.quantized.embedding_4bit
    for _ in range(200):
        weight, qweight, packed = drawn(rng, generator, bits)
        indices = torch.randint(0, len(weight), (rng.randint(1, 30),), generator=generator)
        indices = indices.to(rng.choice([torch.int32, torch.int64]))
        y = registry.get("reference").build(Embedding(weight, qweight))(indices)
        assert torch.equal(y, oracle.run(lookup, packed, indices))


@BITS
def test_bags_equal_torch(bits):
    rng, generator = random.Random(bits), torch.Generator().manual_seed(bits)
    lookup = oracle.quantized.embedding_bag_byte if bits == 8 else oracle.quantized.embedding_bag_4bit
    for case in range(400):
        weight, qweight, packed = drawn(rng, generator, bits)
        mapping = pruning(rng, len(weight)) if case % 3 == 0 else None
        last = rng.random() < 0.3
        count = rng.randint(0, 40)
        dtype = rng.choice([torch.int32, torch.int64])
        high = len(weight) if mapping is None else len(mapping)
        indices = torch.randint(0, high, (count,), generator=generator).to(dtype)
        inner = sorted(rng.randint(0, count) for _ in range(rng.randint(0, 9)))
        offsets = torch.tensor([0, *inner, *([count] if last else [])], dtype=dtype)
        weights = torch.randn(count, generator=generator) if rng.random() < 0.5 else None
        operator = EmbeddingBag(weight, qweight, mapping, include_last_offset=last)
        y = registry.get("reference").build(operator)(indices, offsets, weights)
        expected = oracle.run(
            lookup, packed, indices, offsets, False, 0, mapping is not None, weights, mapping, include_last_offset=last
        )
        assert torch.equal(y, expected)


@BITS
def test_bags_of_one_length_equal_torch(bits):
    rng, generator = random.Random(bits), torch.Generator().manual_seed(bits)
    lookup = oracle.quantized.embedding_bag_byte if bits == 8 else oracle.quantized.embedding_bag_4bit
    for _ in range(100):
        weight, qweight, packed = drawn(rng, generator, bits)
        shape = (rng.randint(1, 6), rng.randint(1, 6))
        indices = torch.randint(0, len(weight), shape, generator=generator)
        y = registry.get("reference").build(EmbeddingBag(weight, qweight))(indices, None, None)
        assert torch.equal(y, oracle.run(lookup, packed, indices))


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
