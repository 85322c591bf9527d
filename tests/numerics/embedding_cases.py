"""Drawn cases of embedding and embedding bags, in 8 and 4 bit."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from qcore.operators import Embedding, EmbeddingBag
from qcore.tensor.dtypes import quint4x2, quint8
from qcore.tensor.qparams import per_channel
from tests import oracle
from tests.numerics.draws import Draw
from tests.numerics.outcome import Build, Cases, Outcome


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


def embedding(bits: int) -> Cases:
    lookup = oracle.quantized.embedding_byte if bits == 8 else oracle.quantized.embedding_4bit

    def case(draw: Draw, build: Build) -> Iterator[Outcome]:
        weight, qweight, packed = drawn(draw.random, draw.generator, bits)
        indices = torch.randint(0, len(weight), (draw.integer(1, 30),), generator=draw.generator)
        indices = indices.to(draw.one_of(torch.int32, torch.int64))
        yield Outcome("embedding", build(Embedding(weight, qweight))(indices), oracle.run(lookup, packed, indices))

    return case


def embedding_bag(bits: int) -> Cases:
    """Bags of any length, some of them empty; or all of one length, without offsets."""
    lookup = oracle.quantized.embedding_bag_byte if bits == 8 else oracle.quantized.embedding_bag_4bit

    def case(draw: Draw, build: Build) -> Iterator[Outcome]:
        weight, qweight, packed = drawn(draw.random, draw.generator, bits)
        if draw.likely(0.2):
            indices = torch.randint(0, len(weight), draw.integers(2, 1, 6), generator=draw.generator)
            y = build(EmbeddingBag(weight, qweight))(indices, None, None)
            yield Outcome("bags of one length", y, oracle.run(lookup, packed, indices))
            return
        mapping = pruning(draw.random, len(weight)) if draw.likely(0.3) else None
        last, count = draw.likely(0.3), draw.integer(0, 40)
        dtype = draw.one_of(torch.int32, torch.int64)
        high = len(weight) if mapping is None else len(mapping)
        indices = torch.randint(0, high, (count,), generator=draw.generator).to(dtype)
        inner = sorted(draw.integers(draw.integer(0, 9), 0, count))
        offsets = torch.tensor([0, *inner, *([count] if last else [])], dtype=dtype)
        weights = draw.normal((count,)) if draw.likely(0.5) else None
        y = build(EmbeddingBag(weight, qweight, mapping, include_last_offset=last))(indices, offsets, weights)
        arguments = (packed, indices, offsets, False, 0, mapping is not None, weights, mapping)
        yield Outcome("bags", y, oracle.run(lookup, *arguments, include_last_offset=last))

    return case


CASES: dict[str, Cases] = {
    "embedding 8 bits": embedding(8),
    "embedding 4 bits": embedding(4),
    "embedding_bag 8 bits": embedding_bag(8),
    "embedding_bag 4 bits": embedding_bag(4),
}
