"""quantize_per_tensor, quantize_per_channel, dequantize against torch's, in all their forms, and their errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError
from qcore.tensor.dtypes import per_channel_affine_float_qparams, qint8, qint32, quint8
from qcore.tensor.functions import dequantize, quantize_per_channel, quantize_per_tensor
from tests.tensor.pairs import Pair, assert_same, per_channel_pairs, per_tensor_pairs, stable

THEIRS = {quint8: torch.quint8, qint8: torch.qint8, qint32: torch.qint32}
x = torch.linspace(-3, 5, 24).reshape(2, 3, 4)


def theirs(function: Callable[..., Any], *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


@stable
@given(twins=per_tensor_pairs(), seed=st.integers(0, 99))
def test_per_tensor_equals_torch(twins: Pair, seed: int) -> None:
    q = twins.ours
    floats = torch.randn(q.shape, generator=torch.Generator().manual_seed(seed)) * 20
    expected = theirs(torch.quantize_per_tensor, floats, q.q_scale(), q.q_zero_point(), THEIRS[q.dtype])
    ours = quantize_per_tensor(floats, q.q_scale(), q.q_zero_point(), q.dtype)
    assert_same(ours, expected)
    assert torch.equal(q.dequantize(), twins.theirs.dequantize())
    assert torch.equal(torch.dequantize(q), q.dequantize())
    assert_same(quantize_per_tensor(floats, q.q_scale(), q.q_zero_point(), THEIRS[q.dtype]), expected)


@stable
@given(twins=per_channel_pairs(), seed=st.integers(0, 99))
def test_per_channel_equals_torch(twins: Pair, seed: int) -> None:
    q = twins.ours
    floats = torch.randn(q.shape, generator=torch.Generator().manual_seed(seed)) * 20
    parameters = (q.q_per_channel_scales(), q.q_per_channel_zero_points(), q.q_per_channel_axis())
    assert_same(
        quantize_per_channel(floats, *parameters, q.dtype),
        theirs(torch.quantize_per_channel, floats, *parameters, THEIRS[q.dtype]),
    )
    assert torch.equal(q.dequantize(), twins.theirs.dequantize())


def test_float_zero_points() -> None:
    scales, zero_points = torch.tensor([0.1, 0.25]), torch.tensor([-3.5, 0.2])
    ours = quantize_per_channel(x[:, 0], scales, zero_points, 0, quint8)
    expected = theirs(torch.quantize_per_channel, x[:, 0], scales, zero_points, 0, torch.quint8)
    assert ours.qscheme() == per_channel_affine_float_qparams == expected.qscheme()
    assert torch.equal(ours.int_repr(), expected.int_repr())
    assert torch.equal(ours.dequantize(), expected.dequantize())


def test_tensors_as_scale_and_zero_point() -> None:
    ours = quantize_per_tensor(x, torch.tensor(0.1), torch.tensor(3), quint8)
    assert_same(ours, theirs(torch.quantize_per_tensor, x, torch.tensor(0.1), torch.tensor(3), torch.quint8))
    assert quantize_per_tensor(x, torch.tensor([0.1]), torch.tensor([3]), quint8).equal(ours)


def test_lists() -> None:
    scales, zero_points = torch.tensor([0.1, 0.2]), torch.tensor([3, 4])
    ours = quantize_per_tensor([x, x[0]], scales, zero_points, quint8)
    expected = theirs(torch.quantize_per_tensor, [x, x[0]], scales, zero_points, torch.quint8)
    assert_same(ours, expected)
    assert all(torch.equal(a, b.dequantize()) for a, b in zip(dequantize(ours), expected, strict=True))


def test_dequantize_passes_floats() -> None:
    assert dequantize(x) is x


def test_memory_format_and_gradients() -> None:
    image = torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    q = quantize_per_tensor(image, 0.1, 3, quint8)
    assert q.is_contiguous(memory_format=torch.channels_last)
    assert q.dequantize().is_contiguous(memory_format=torch.channels_last)
    assert not q.requires_grad
    assert not q.dequantize().requires_grad


@pytest.mark.parametrize("empty", [(0,), (2, 0, 3)])
def test_empty(empty: tuple[int, ...]) -> None:
    q = quantize_per_tensor(torch.empty(empty), 0.1, 3, quint8)
    assert q.dequantize().shape == empty
    assert q.relu().shape == empty


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: quantize_per_tensor(x, 0.1, 3, torch.float32), ArgumentTypeError, "dtype=torch.float32"),
        (lambda: quantize_per_tensor(x, 0.0, 3, quint8), ArgumentError, "scale=0.0"),
        (lambda: quantize_per_tensor(x, float("nan"), 3, quint8), ArgumentError, "scale=nan"),
        (lambda: quantize_per_tensor(x, -1.0, 3, quint8), ArgumentError, "scale=-1.0"),
        (lambda: quantize_per_tensor(x, 0.1, 256, quint8), ArgumentError, r"zero_point=256.*\[0, 255\]"),
        (lambda: quantize_per_tensor(x.double(), 0.1, 3, quint8), ArgumentTypeError, "float32 tensor, not"),
        (
            lambda: quantize_per_tensor(quantize_per_tensor(x, 1.0, 3, quint8), 1.0, 3, quint8),
            ArgumentTypeError,
            "quint8",
        ),
        (lambda: quantize_per_tensor(x, torch.ones(2), 3, quint8), ArgumentError, r"scale must be.*shape \(2,\)"),
        (lambda: quantize_per_tensor([x], torch.ones(2), torch.ones(2), quint8), ArgumentError, "each of 1 tensors"),
        (lambda: quantize_per_channel(x, torch.ones(3), torch.zeros(3), 3, qint8), ArgumentError, r"axis=3.*\[0, 3\)"),
        (lambda: quantize_per_channel(x, torch.ones(3), torch.zeros(3), -1, qint8), ArgumentError, "axis=-1"),
        (
            lambda: quantize_per_channel(x, torch.ones(3), torch.zeros(3).int(), 0, qint8),
            ArgumentError,
            r"\(2,\) is needed",
        ),
        (
            lambda: quantize_per_channel(x, torch.ones(2), torch.zeros(1).int(), 0, qint8),
            ArgumentError,
            "1-D tensors of one",
        ),
        (
            lambda: quantize_per_channel(x, torch.tensor([1, 0.0]), torch.zeros(2).int(), 0, qint8),
            ArgumentError,
            "channel 1",
        ),
        (lambda: quantize_per_channel(x, torch.ones(2), torch.tensor([0, 300]), 0, qint8), ArgumentError, "channel 1"),
    ],
)
def test_bad_arguments(call: Callable[[], Any], kind: type[QcoreError], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()
