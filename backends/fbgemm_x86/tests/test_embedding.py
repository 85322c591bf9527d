"""Embeddings and bags give the bits of the reference, on every instruction set."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import quint4x2, quint8
from qcore.tensor.qparams import QParams

CPU = FbgemmX86()
REFERENCE = qcore.registry.get("reference")
DIMS = [1, 8, 15, 16, 17, 31, 32, 40, 64, 65, 70, 128, 130]


def drawn_table(rng, generator):
    """Constants of the operator, and how many indices there are."""
    dtype, rows, dim = rng.choice([quint8, quint4x2]), rng.choice([1, 7, 100]), rng.choice(DIMS)
    weight = torch.randint(0, 16 if dtype == quint4x2 else 256, (rows, dim), generator=generator, dtype=torch.uint8)
    scales, zeros = torch.rand(rows, generator=generator) * 0.1 + 1e-3, torch.rand(rows, generator=generator) * 20
    table = {"weight": weight, "qweight": QParams(dtype, scales, zeros, 0)}
    if rng.random() < 0.5:
        return table, rows
    mapping = torch.randint(-1, rows, (150,), generator=generator, dtype=rng.choice([torch.int32, torch.int64]))
    return table | {"mapping": mapping}, 150


def same(y, expected):
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    assert torch.equal(y, expected)


@pytest.mark.parametrize("seed", range(40))
def test_embedding(isa, seed):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    table, size = drawn_table(rng, generator)
    operator = ops.Embedding(**table)
    shape = rng.choice([(), (0,), (5,), (3, 4), (300,)])
    indices = torch.randint(0, size, shape, generator=generator, dtype=rng.choice([torch.int32, torch.int64]))
    same(CPU.build(operator, isa=isa)(indices), REFERENCE.build(operator)(indices))


@pytest.mark.parametrize("seed", range(60))
def test_embedding_bag(isa, seed):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    torch.set_num_threads(rng.choice([1, 2, 3]))
    table, size = drawn_table(rng, generator)
    mode, last, wide = rng.choice(["sum", "mean"]), rng.random() < 0.5, rng.choice([torch.int32, torch.int64])
    operator = ops.EmbeddingBag(**table, mode=mode, include_last_offset=last)
    native, reference = CPU.build(operator, isa=isa), REFERENCE.build(operator)
    n, bags = rng.choice([0, 1, 50, 5000]), rng.choice([1, 7, 600])
    starts = sorted([0, *(rng.randint(0, n) for _ in range(bags - 1)), *([n] if last else [])])
    cases = [((n,), torch.tensor(starts, dtype=rng.choice([torch.int32, torch.int64])))]
    cases.append((rng.choice([(3, 4), (0, 5), (5, 0), (100, 30)]), None))
    for shape, offsets in cases:
        indices = torch.randint(0, size, shape, generator=generator, dtype=wide)
        weights = torch.randn(shape, generator=generator) if mode == "sum" and rng.random() < 0.5 else None
        same(native(indices, offsets, weights), reference(indices, offsets, weights))


def bag(last=False, **changes):
    table = {
        "weight": torch.zeros(7, 20, dtype=torch.uint8),
        "qweight": QParams(quint8, torch.ones(7), torch.ones(7), 0),
    }
    return CPU.build(ops.EmbeddingBag(**table | changes, include_last_offset=last))


INDICES = torch.tensor([0, 3, 6])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bag()(torch.tensor([[0, 7]]), None, None), "index 7 is outside of the table: it has 7 entries"),
        (lambda: bag()(torch.tensor([[0, -1]]), None, None), "index -1 is outside"),
        (lambda: bag()(torch.tensor([[0, 2**40]]), None, None), "index 1099511627776 is outside"),
        (lambda: bag(mapping=torch.tensor([0, 9]))(torch.tensor([[1]]), None, None), "mapping.1. is 9"),
        (lambda: bag()(INDICES, None, None), "without offsets"),
        (lambda: bag()(INDICES.float(), torch.tensor([0]), None), "indices must be int32 or int64"),
        (lambda: bag()(INDICES, torch.tensor([1]), None), "offsets must rise from 0 to 3"),
        (lambda: bag()(INDICES, torch.tensor([0, 4]), None), "offsets must rise"),
        (lambda: bag()(INDICES, torch.tensor([0, 2, 1]), None), "offsets must rise"),
        (lambda: bag()(INDICES, torch.tensor([], dtype=torch.int64), None), "offsets must rise"),
        (lambda: bag(last=True)(INDICES, torch.tensor([0, 2]), None), "offsets must rise"),
        (lambda: bag(last=True)(INDICES, torch.tensor([], dtype=torch.int64), None), "offsets must have 1 elements"),
        (lambda: bag()(INDICES, torch.tensor([0]), torch.ones(2)), "shape of indices"),
        (lambda: bag(mode="mean")(INDICES, torch.tensor([0]), torch.ones(3)), "mode must be 'sum'"),
        (lambda: bag(mode="max"), "mode 'max' is not supported"),
        (lambda: bag(weight=torch.zeros(6, 20, dtype=torch.uint8)), "a scale for each row"),
        (lambda: bag(qweight=QParams(quint8, torch.zeros(7) / 0, torch.ones(7), 0)), "scale"),
        (
            lambda: bag(
                weight=torch.full((7, 20), 16, dtype=torch.uint8),
                qweight=QParams(quint4x2, torch.ones(7), torch.ones(7), 0),
            ),
            "holds 16, which is not a value of 4 bits",
        ),
    ],
)
def test_bad_arguments_are_errors_in_words(call, words):
    with pytest.raises((qcore.ArgumentError, qcore.ArgumentTypeError), match=words):
        call()


@pytest.mark.parametrize("dtype", [quint8, quint4x2])
def test_a_large_table_and_a_wrong_index_wherever_it_stands(isa, dtype):
    generator = torch.Generator().manual_seed(0)
    rows, n = 600_000, 5000
    weight = torch.randint(0, 16, (rows, 17), generator=generator, dtype=torch.uint8)
    qweight = QParams(dtype, torch.rand(rows, generator=generator) + 0.1, torch.full((rows,), 7.0), 0)
    operator = ops.EmbeddingBag(weight, qweight)
    native = CPU.build(operator, isa=isa)
    indices, offsets = torch.randint(0, rows, (n,), generator=generator), torch.arange(0, n, 7)
    same(native(indices, offsets, None), REFERENCE.build(operator)(indices, offsets, None))
    for place in (0, 23, 24, 2047, 2048, n - 1):
        for wrong in (-1, rows, -(2**63)):
            changed = indices.clone()
            changed[place] = wrong
            with pytest.raises(qcore.ArgumentError, match=f"index {wrong} is outside of the table"):
                native(changed, offsets, None)
