"""What the reference backend promises beyond torch: qint8, one result for every layout, sense at the edges."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, qint32, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from tests.numerics.draws import CHANNELS_LAST, Draw

ACTIVATIONS = [quint8, qint8]


def build(operator):
    return qcore.registry.get("reference").build(operator)


def rounded(value: Fraction) -> Fraction:
    """The nearest float32; values of these tests are in its normal range."""
    return Fraction(float(torch.tensor(value.numerator / value.denominator, dtype=torch.float64).float()))


@pytest.mark.parametrize("dtype", ACTIVATIONS)
def test_linear_follows_the_written_formula(dtype):
    """Every step in exact fractions, for activations of both dtypes."""
    draw = Draw(3)
    for _ in range(20):
        weight = draw.raw((3, 17), qint8)
        qweight = draw.channel_params(qint8, 3, 0, symmetric=True)
        x, qx, out = draw.raw((2, 17), dtype), draw.params(dtype, 0.25), draw.params(dtype, draw.log_uniform(1, 100))
        bias = draw.normal((3,)) * 100
        got = build(ops.Linear(weight, qweight, bias))(x, qx, out)
        for row in range(2):
            for column in range(3):
                products = [
                    (a - qx.zero_point) * b for a, b in zip(x[row].tolist(), weight[column].tolist(), strict=True)
                ]
                scale = rounded(Fraction(qx.scale) * rounded(Fraction(float(qweight.scale[column]))))
                total = rounded(Fraction(sum(products)) + rounded(Fraction(float(bias[column])) / scale))
                value = rounded(total * rounded(scale / rounded(Fraction(out.scale))))
                expected = min(max(round(value) + out.zero_point, dtype.qmin), dtype.qmax)
                assert int(got[row, column]) == expected


@pytest.mark.parametrize("dtype", ACTIVATIONS)
@pytest.mark.parametrize("rank", [2, 3])
def test_layout_of_the_input_changes_strides_only(rank, dtype):
    draw = Draw(rank)
    qx, out = draw.params(dtype, 0.5), draw.params(dtype, 40.0)
    last = CHANNELS_LAST[rank + 2]
    x = draw.raw((2, 6, *(7,) * rank), dtype).contiguous()
    y = x.contiguous(memory_format=last)
    weight = draw.raw((4, 6, *(3,) * rank), qint8)
    ones = (1,) * rank
    conv = build(ops.Conv(weight, per_tensor(0.5, 0, qint8), None, False, ones, ones, ones, 1))
    assert conv(x, qx, out).is_contiguous(memory_format=last)
    assert torch.equal(conv(x, qx, out), conv(y, qx, out))
    pools = [
        ops.MaxPool((2,) * rank, (2,) * rank, (1,) * rank),
        ops.AvgPool((2,) * rank, (2,) * rank, (1,) * rank),
        ops.AdaptiveAvgPool((3,) * rank),
        ops.Clamp(0.0, 6.0),
    ]
    for operator in pools:
        kernel = build(operator)
        assert kernel(x, qx).is_contiguous()
        assert kernel(y, qx).is_contiguous(memory_format=last)
        assert torch.equal(kernel(x, qx), kernel(y, qx))


@pytest.mark.parametrize("operator", [ops.Add(), ops.Mul()])
def test_broadcasting_is_expansion(operator):
    draw = Draw(5)
    qa, qb, out = (draw.params(quint8, 0.1) for _ in range(3))
    a, b = draw.raw((3, 1, 5), quint8), draw.raw((4, 1), quint8)
    kernel = build(operator)
    assert torch.equal(kernel(a, qa, b, qb, out), kernel(a.expand(3, 4, 5), qa, b.expand(3, 4, 5), qb, out))


def test_dynamic_per_row_is_each_row_alone():
    draw = Draw(7)
    weight, qweight = draw.raw((5, 9), qint8), draw.channel_params(qint8, 5, 0, symmetric=True)
    x = draw.normal((2, 3, 9)) * torch.tensor([1e-6, 1.0, 1e3])[:, None]
    together = build(ops.LinearDynamic(weight, qweight, None, per_row=True))(x)
    alone = build(ops.LinearDynamic(weight, qweight, None))
    assert torch.equal(together, torch.stack([torch.stack([alone(row) for row in part]) for part in x]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_dynamic_refuses_what_has_no_range(bad):
    kernel = build(ops.LinearDynamic(torch.ones(2, 3, dtype=torch.int8), per_tensor(1.0, 0, qint8)))
    with pytest.raises(qcore.ArgumentError, match="NaN or infinity"):
        kernel(torch.tensor([[1.0, bad, 0.0]]))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_dynamic_of_nothing_is_nothing(shape):
    kernel = build(ops.LinearDynamic(torch.ones(2, 3, dtype=torch.int8), per_tensor(1.0, 0, qint8)))
    assert kernel(torch.zeros(shape)).shape == (*shape[:-1], 2)


def test_empty_batches():
    q = per_tensor(0.1, 3, quint8)
    image = torch.zeros(0, 2, 5, 5, dtype=torch.uint8)
    weight = torch.ones(4, 2, 3, 3, dtype=torch.int8)
    conv = ops.Conv(weight, per_tensor(1.0, 0, qint8), None, False, (1, 1), (0, 0), (1, 1), 1)
    assert build(conv)(image, q, q).shape == (0, 4, 3, 3)
    assert build(ops.Linear(torch.ones(4, 3, dtype=torch.int8), per_tensor(1.0, 0, qint8)))(
        torch.zeros(0, 3, dtype=torch.uint8), q, q
    ).shape == (0, 4)
    assert build(ops.AvgPool((2, 2)))(image, q).shape == (0, 2, 2, 2)
    assert build(ops.AdaptiveAvgPool((1, 1)))(image, q).shape == (0, 2, 1, 1)
    assert build(ops.Add())(image, q, image, q, q).shape == image.shape
    assert build(ops.Quantize())(image.float(), q).shape == image.shape


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_weights_without_elements_are_refused(shape):
    with pytest.raises(qcore.ArgumentError, match="no elements"):
        build(ops.Linear(torch.zeros(shape, dtype=torch.int8), per_tensor(1.0, 0, qint8)))


def test_accumulation_limit_is_declared():
    backend, qweight = qcore.registry.get("reference"), per_tensor(1.0, 0, qint8)
    fits = ops.Linear(torch.ones(1, 65793, dtype=torch.int8), qweight)
    assert backend.supports(fits, (quint8,))
    verdict = backend.supports(ops.Linear(torch.ones(1, 65794, dtype=torch.int8), qweight), (quint8,))
    assert not verdict
    assert "65793" in verdict.reason
    x = torch.full((1, 65793), 255, dtype=torch.uint8)
    lowest = ops.Linear(torch.full((1, 65793), -128, dtype=torch.int8), qweight)
    out = per_tensor(float(2**24), 255, quint8)
    assert build(lowest)(x, per_tensor(1.0, 0, quint8), out).item() == 255 - 128


@pytest.mark.parametrize("dtype", [quint8, qint8, qint32])
def test_quantize_saturates_to_the_proper_end(dtype):
    inf = float("inf")
    x = torch.tensor([inf, -inf, 3e38, -3e38, 2.0**31, -(2.0**31) - 256, float("nan")])
    top, bottom = dtype.qmax, dtype.qmin
    expected = [top, bottom, top, bottom, top, bottom, top]
    assert build(ops.Quantize())(x, per_tensor(1.0, 0, dtype)).tolist() == expected
    channels = per_channel(torch.ones(7), torch.zeros(7).long(), 0, dtype)
    assert build(ops.Quantize())(x, channels).tolist() == expected


@pytest.mark.parametrize("dtype", ACTIVATIONS)
def test_huge_results_saturate_to_the_proper_end(dtype):
    """Beyond int32, where torch wraps."""
    tiny = per_tensor(1e-30, dtype.qmin, dtype)
    coarse = per_tensor(1.0, 0, dtype)
    ends = torch.tensor([1, -1] if dtype.is_signed else [1, 0]).to(dtype.storage)
    for zero_point in (dtype.qmin, dtype.qmax):
        out = per_tensor(tiny.scale, zero_point, dtype)
        low = dtype.qmin if dtype.is_signed else zero_point
        assert build(ops.Add())(ends, coarse, ends, coarse, out).tolist() == [dtype.qmax, low]
        assert build(ops.Cat())([ends], [coarse], out).tolist() == [dtype.qmax, low]


def test_threads_do_not_change_results():
    draw = Draw(9)
    weight, qweight = draw.raw((64, 512), qint8), draw.channel_params(qint8, 64, 0, symmetric=True)
    x, qx, out = draw.raw((256, 512), quint8), draw.params(quint8, 0.1), draw.params(quint8, 3.0)
    kernel, threads = build(ops.Linear(weight, qweight)), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(kernel(x, qx, out))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results[1:])
