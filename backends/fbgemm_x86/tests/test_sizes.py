"""Windows larger than the input, steps beyond it, and sizes that no memory holds."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.graph.ir import Graph, Node, Value
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor

REFERENCE = qcore.registry.get("reference")
QX, QY = per_tensor(0.1, 7, quint8), per_tensor(0.3, 20, quint8)


def drawn_pool(draw):
    """A pool over an input that is smaller than its window, mostly; and the input."""
    rank = draw.choice((1, 2, 3))
    sizes = [draw.randint(1, 6) for _ in range(rank)]
    kernel = tuple(draw.choice((1, 2, 3, 7, 2**10, 2**22)) for _ in sizes)
    padding = tuple(draw.choice((0, size // 2, min(size // 2, 3))) for size in kernel)
    stride = tuple(
        draw.choice((1, 2, 2**20)) if pad < 1000 else draw.choice((2**19, size))
        for size, pad in zip(kernel, padding, strict=True)
    )
    fitting = tuple(size if n + 2 * pad >= size else 1 for size, n, pad in zip(kernel, sizes, padding, strict=True))
    padding = tuple(min(pad, size // 2) for pad, size in zip(padding, fitting, strict=True))
    x = torch.randint(
        0, 256, (2, 5, *sizes), dtype=torch.uint8, generator=torch.Generator().manual_seed(draw.randrange(99))
    )
    ceil_mode = draw.random() < 0.3
    if draw.random() < 0.5:
        return ops.MaxPool(fitting, stride, padding, (), ceil_mode), x
    return ops.AvgPool(fitting, stride, padding, ceil_mode, draw.random() < 0.5, draw.choice((None, None, 5))), x


def test_windows_larger_than_the_input_are_those_of_the_reference(isa):
    draw = random.Random(1)
    for _ in range(60):
        operator, x = drawn_pool(draw)
        expected = REFERENCE.build(operator)(x, QX)
        assert torch.equal(FbgemmX86().build(operator, isa=isa)(x, QX), expected), operator
        value, result = Value("x", QX), Value("y", QX)
        plan = FbgemmX86().compile(Graph((value,), (Node(operator, (value,), (result,), "pool"),), (result,)), isa=isa)
        assert torch.equal(plan(x)[0], expected), operator


def test_the_largest_windows_of_all():
    x = torch.randint(0, 256, (1, 1, 20, 20, 20), dtype=torch.uint8)
    for operator in (
        ops.MaxPool((2**22,) * 3, (), (2**21,) * 3),
        ops.AvgPool((2**22,) * 3, (), (2**21,) * 3, False, False),
    ):
        assert torch.equal(FbgemmX86().build(operator)(x, QX), REFERENCE.build(operator)(x, QX))


@pytest.mark.parametrize("groups", [1, 6])
def test_far_steps_of_convolutions_are_those_of_the_reference(isa, groups):
    draw = random.Random(2)
    for _ in range(12):
        weight = torch.randint(-128, 128, (6, 6 // groups, 3, 3), dtype=torch.int8)
        stride, dilation = (draw.choice(((1, 1), (2, 65), (70, 3), (100, 200))) for _ in range(2))
        padding = tuple(draw.randint(gap, gap + 100) for gap in dilation)
        operator = ops.Conv(weight, per_tensor(0.1, 0, qint8), None, False, stride, padding, dilation, groups)
        x = torch.randint(0, 256, (2, 6, draw.randint(1, 9), draw.randint(1, 9)), dtype=torch.uint8)
        assert torch.equal(FbgemmX86().build(operator, isa=isa)(x, QX, QY), REFERENCE.build(operator)(x, QX, QY))


ABSURD = (0, -1, 2**24, 2**24 + 1, 2**31, 2**32, 2**62, 2**63 - 1)


@pytest.mark.parametrize("value", ABSURD)
def test_sizes_that_no_memory_holds_are_told(value):
    x = torch.randint(0, 256, (1, 4, 5, 5), dtype=torch.uint8)
    weight, q, pair = torch.ones(4, 4, 3, 3, dtype=torch.int8), per_tensor(0.1, 0, qint8), (value, value)
    out = {
        lambda field=field, kind=kind: kind(weight, q, None, False, **{field: pair})
        for kind in (ops.Conv, ops.ConvTranspose)
        for field in ("stride", "padding", "dilation", *(("output_padding",) if kind is ops.ConvTranspose else ()))
    }
    same = {
        lambda: ops.Interpolate(size=pair),
        lambda: ops.AdaptiveAvgPool(pair),
        *(
            lambda factor=factor: ops.Interpolate(scale_factor=(factor, factor))
            for factor in (1e300, 1e18, float(value))
        ),
        *(
            lambda kind=kind, sizes=sizes: kind(*sizes)
            for kind in (ops.MaxPool, ops.AvgPool)
            for sizes in ((pair, (1, 1)), ((3, 3), pair), ((3, 3), (1, 1), pair))
        ),
    }
    for makes, arguments in ((out, (x, QX, QY)), (same, (x, QX))):
        for make in makes:
            try:
                FbgemmX86().build(make())(*arguments)
            except qcore.QcoreError as error:
                assert len(str(error)) > 20
