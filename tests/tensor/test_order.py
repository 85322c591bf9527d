"""Comparisons, extremes and sorting against torch's quantized tensors."""

from __future__ import annotations

import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcore.errors import UnsupportedError
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor
from tests.tensor.pairs import Pair, assert_same, integers, pair, per_channel_pairs, per_tensor_pairs, stable

COMPARISONS = ("eq", "ne", "ge", "gt", "le", "lt")


@pytest.mark.parametrize("name", COMPARISONS)
@stable
@given(twins=per_tensor_pairs(), data=st.data())
def test_comparisons_equal_torch(name: str, twins: Pair, data: st.DataObject) -> None:
    ours, theirs = twins
    other = data.draw(per_tensor_pairs(shape=st.just(tuple(ours.shape))))
    floats = other.ours.dequantize()
    method, symbol = operator.methodcaller, getattr(operator, name)
    assert_same(method(name, other.ours)(ours), method(name, other.theirs)(theirs))
    assert_same(method(name, 0.5)(ours), method(name, 0.5)(theirs))
    assert_same(symbol(ours, 1), symbol(theirs, 1))
    assert_same(symbol(ours, floats), symbol(theirs, floats))
    assert_same(symbol(floats, ours), symbol(floats, theirs))
    out = torch.empty(0, dtype=torch.bool)
    assert_same(getattr(torch, name)(ours, other.ours, out=out), method(name, other.theirs)(theirs))


@stable
@given(twins=per_channel_pairs())
def test_comparisons_per_channel_equal_torch(twins: Pair) -> None:
    assert_same(twins.ours >= 0.25, twins.theirs >= 0.25)
    assert_same(twins.ours == twins.ours.dequantize(), twins.theirs == twins.theirs.dequantize())


@stable
@given(twins=per_tensor_pairs(), data=st.data())
def test_extremes_and_sorting_equal_torch(twins: Pair, data: st.DataObject) -> None:
    ours, theirs = twins
    dim = data.draw(st.integers(-ours.ndim, ours.ndim - 1))
    keepdim, descending = data.draw(st.booleans()), data.draw(st.booleans())
    assert_same(ours.max(), theirs.max())
    assert_same(ours.min(), theirs.min())
    assert_same(ours.max(dim, keepdim), theirs.max(dim, keepdim))
    assert_same(ours.min(dim, keepdim), theirs.min(dim, keepdim))
    assert_same(
        ours.sort(stable=True, dim=dim, descending=descending), theirs.sort(stable=True, dim=dim, descending=descending)
    )
    assert_same(ours.sort(dim, descending)[0], theirs.sort(dim, descending)[0])
    k = data.draw(st.integers(1, ours.shape[dim]))
    values, indices = ours.topk(k, dim, largest=descending)
    assert_same(values, theirs.topk(k, dim, largest=descending)[0])
    assert torch.equal(ours.int_repr().gather(dim, indices), values.int_repr())


def test_results_with_indices_have_names() -> None:
    x = pair(torch.tensor([3, 9, 5], dtype=torch.uint8), per_tensor(0.5, 1, quint8)).ours
    assert x.max(0).values.item() == 4.0
    assert x.max(0).indices.item() == 1
    assert x.sort().indices.tolist() == [0, 2, 1]
    assert x.topk(2).values.dequantize().tolist() == [4.0, 2.0]
    assert x.argsort().tolist() == [0, 2, 1]


@stable
@given(twins=per_tensor_pairs())
def test_equal_is_of_integers_and_parameters(twins: Pair) -> None:
    ours, theirs = twins
    assert ours.equal(ours.clone())
    assert theirs.equal(theirs.clone())
    assert torch.equal(ours, ours.clone())
    assert not ours.equal(ours.dequantize())
    assert not ours.equal(QTensor(ours.raw, per_tensor(ours.q_scale() * 2, ours.q_zero_point(), ours.dtype)))
    assert not ours.equal(QTensor(ours.raw + 1, ours.qparams))


def test_equal_per_channel() -> None:
    def make(scale: float, axis: int = 0) -> QTensor:
        scales = torch.tensor([0.1, scale])
        return QTensor(integers((2, 2), qint8, 0), per_channel(scales, torch.tensor([0, 1]), axis, qint8))

    assert make(0.2).equal(make(0.2))
    assert not make(0.2).equal(make(0.3))
    assert not make(0.2).equal(make(0.2, axis=1))


@pytest.mark.parametrize("name", ["max", "min", "sort", "topk", "mean"])
def test_order_per_channel_is_refused(name: str) -> None:
    x = QTensor(integers((2, 2), qint8, 0), per_channel(torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, qint8))
    with pytest.raises(UnsupportedError, match=r"per-channel quantized tensor is not defined; dequantize\(\) first"):
        getattr(x, name)(*([1] if name == "topk" else []))


def test_item_and_truth() -> None:
    x = pair(torch.tensor(7, dtype=torch.uint8), per_tensor(0.5, 1, quint8)).ours
    assert (x.item(), float(x), int(x), bool(x), f"{x:.1f}") == (3.0, 3.0, 3, True, "3.0")
    assert 3.0 in x.reshape(1)
