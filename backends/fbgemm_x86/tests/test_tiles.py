"""Tile registers of AMX are a thread's, and every library's."""

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor


@pytest.fixture
def amx():
    if "avx512_amx" not in FbgemmX86().supported_isas():
        pytest.skip("this CPU, or its system, has no AMX")
    return "avx512_amx"


@pytest.mark.parametrize("rows", [1, 3, 4, 6, 7, 15, 16, 17, 47, 64, 65, 81, 97, 200])
@pytest.mark.parametrize("features", [1, 24, 64, 65, 147, 160, 385, 576, 1600])
def test_every_shape_of_blocks(isa, rows, features):
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randint(-128, 128, (111, features), dtype=torch.int8, generator=generator)
    x = torch.randint(0, 256, (rows, features), dtype=torch.uint8, generator=generator)
    operator = ops.Linear(weight, per_tensor(0.1, 5, qint8), torch.randn(111, generator=generator))
    args = x, per_tensor(0.1, 3, quint8), per_tensor(20.0, 100, quint8)
    expected = qcore.registry.get("reference").build(operator)(*args)
    assert torch.equal(FbgemmX86().build(operator, isa=isa)(*args), expected)


def test_others_may_use_them_between_calls(amx):
    weight = torch.randint(-128, 128, (64, 256), dtype=torch.int8)
    x = torch.randint(0, 256, (64, 256), dtype=torch.uint8)
    args = x, per_tensor(0.1, 3, quint8), per_tensor(20.0, 100, quint8)
    operator = ops.Linear(weight, per_tensor(0.1, 0, qint8))
    expected = qcore.registry.get("reference").build(operator)(*args)
    kernel = FbgemmX86().build(operator, isa=amx)
    a = torch.randn(64, 256).bfloat16()
    product = a @ a.T  # oneDNN configures tiles of its own where the CPU multiplies bfloat16 in them
    for _ in range(3):
        assert torch.equal(kernel(*args), expected)
        assert torch.equal(a @ a.T, product)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(7, 7), (14, 9), (3, 21)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize(
    ("stride", "dilation"), [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 3), (1, 2)), ((3, 2), (2, 2))]
)
@pytest.mark.parametrize("channels", [64, 128])
def test_convolutions_whose_rows_are_pixels(amx, channels, stride, dilation, kernel, size, batch):
    generator = torch.Generator().manual_seed(channels + batch)
    weight = torch.randint(-128, 128, (70, channels, *kernel), dtype=torch.int8, generator=generator)
    x = torch.randint(0, 256, (batch, channels, *size), dtype=torch.uint8, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    padding = tuple(k // 2 * d for k, d in zip(kernel, dilation, strict=True))
    operator = ops.Conv(weight, per_tensor(0.1, 0, qint8), None, False, stride, padding, dilation)
    args = x, per_tensor(0.1, 3, quint8), per_tensor(20.0, 100, quint8)
    expected = qcore.registry.get("reference").build(operator)(*args)
    assert torch.equal(FbgemmX86().build(operator, isa=amx)(*args), expected)
