"""Writing into quantized tensors: copy_, fill_, assignment, resize_, against torch's where it has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError, UnsupportedError
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor
from tests import oracle
from tests.tensor.pairs import Pair, assert_same, integers, pair, per_channel_pairs, per_tensor_pairs, stable

SHAPE = (2, 3, 4)
floats = torch.linspace(-3, 5, 24).reshape(SHAPE)
MASK = torch.arange(24).reshape(SHAPE) % 3 == 0
WRITES: dict[str, Callable[[Any], Any]] = {
    "copy_ of floats": lambda x: x.copy_(floats),
    "copy_ of itself": lambda x: x.copy_(x.clone()),
    "fill_": lambda x: x.fill_(1.7),
    "fill_ of a view": lambda x: x[1].fill_(-0.4),
    "number at a place": lambda x: x.__setitem__((0, 1, 2), 0.8),
    "floats in a row": lambda x: x.__setitem__(0, floats[1]),
    "quantized row": lambda x: x.__setitem__(0, x[1]),
    "mask": lambda x: x.__setitem__(MASK, 0.8),
    "indices": lambda x: x.__setitem__((torch.tensor([0, 1]), torch.tensor([2, 0])), floats[0, :2]),
    "masked_fill_": lambda x: x.masked_fill_(MASK, -0.7),
    "resize_": lambda x: x.resize_(3, 2),
    "resize_as_": lambda x: x.resize_as_(torch.quantize_per_tensor(torch.ones(2, 2), 1.0, 0, torch.quint8)),
    "ones_like": lambda x: x.copy_(torch.ones_like(x)),
    "full_like": lambda x: x.copy_(torch.full_like(x, 0.6)),
}


@pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing())
@pytest.mark.parametrize("name", WRITES)
@stable
@given(twins=per_tensor_pairs(shape=st.just(SHAPE)))
def test_writes_equal_torch(name: str, twins: Pair) -> None:
    with oracle.engine():
        WRITES[name](twins.theirs)
        WRITES[name](twins.ours)
    assert_same(twins.ours, twins.theirs)


@stable
@given(twins=per_channel_pairs(shape=st.just(SHAPE)))
def test_writes_per_channel_equal_torch(twins: Pair) -> None:
    for write in ("copy_ of floats", "fill_"):
        WRITES[write](twins.theirs)
        WRITES[write](twins.ours)
        assert_same(twins.ours, twins.theirs)


@stable
@given(twins=per_tensor_pairs(shape=st.just(SHAPE)), data=st.data())
def test_copy_takes_the_parameters_of_a_quantized_source(twins: Pair, data: st.DataObject) -> None:
    other = data.draw(per_tensor_pairs(shape=st.just(SHAPE), dtypes=st.just(twins.ours.dtype)))
    twins.theirs.copy_(other.theirs)
    twins.ours.copy_(other.ours)
    assert_same(twins.ours, twins.theirs)
    assert twins.ours.data_ptr() != other.ours.data_ptr()


def test_every_view_sees_new_parameters() -> None:
    x = make(0.5, 0)
    row, alias = x[0], x.detach()
    x.copy_(make(0.25, 3))
    assert (row.q_scale(), alias.q_scale(), row.q_zero_point()) == (0.25, 0.25, 3)
    assert torch.equal(row.dequantize(), x.dequantize()[0])


def test_a_view_requantizes_instead_of_changing_its_base() -> None:
    """torch writes the source's integers under the base's parameters there: wrong numbers."""
    x, other = make(0.5, 0), make(0.25, 8)
    before = x.dequantize()
    x[0].copy_(other[0])
    x[1] = other[0]
    assert x.q_scale() == 0.5
    wanted = (other.dequantize()[0] / 0.5).round().clamp(0, 255) * 0.5
    assert torch.equal(x.dequantize()[0], wanted)
    assert torch.equal(x.dequantize()[1], wanted)
    assert not torch.equal(before, x.dequantize())


def test_assignment_to_strided_views_and_by_expansion() -> None:
    """torch refuses both for quantized tensors."""
    x = make(0.5, 9)
    x[:, 1] = 0.8
    x[:, 2] = floats[1, 0]
    assert x[:, 1].dequantize().unique().tolist() == [1.0]
    assert torch.equal(x[:, 2].dequantize(), (floats[1, 0] / 0.5).round().mul(0.5).expand(2, 4))
    assert x[:, 0].equal(make(0.5, 9)[:, 0])


def test_zero_is_the_zero_point() -> None:
    x = make(0.5, 9)
    assert bool((x.zero_().int_repr() == 9).all())
    assert bool((torch.zeros_like(make(0.5, 7)).int_repr() == 7).all())
    assert torch.empty_like(x).q_zero_point() == 9


def test_resize_grows_the_storage() -> None:
    x = make(0.5, 0)
    assert x.resize_(9, 9, 9) is x
    assert x.shape == (9, 9, 9)
    assert x.stride() == (81, 9, 1)
    assert x.untyped_storage().nbytes() >= 729
    assert x[8].fill_(2.0).dequantize().unique().tolist() == [2.0]
    assert x.clone().shape == (9, 9, 9)


def test_quantized_values_at_indices_are_requantized() -> None:
    x, other = make(0.5, 0), make(0.25, 8)
    x[torch.tensor([0, 1])] = other
    assert torch.equal(x.dequantize(), (other.dequantize() / 0.5).round().clamp(0, 255) * 0.5)


@pytest.mark.parametrize(
    ("write", "kind", "words"),
    [
        (lambda x: x.copy_(torch.ones(2, 3, 4, dtype=torch.float64)), ArgumentTypeError, "float32 or quantized source"),
        (lambda x: x.copy_(torch.ones(2, 3, 4).int()), ArgumentTypeError, "float32 or quantized source"),
        (lambda x: x.copy_(torch.ones(4)), ArgumentError, r"shape \(2, 3, 4\) from one of shape \(4,\)"),
        (
            lambda x: x.copy_(QTensor(x.raw.char(), per_tensor(0.5, 0, qint8))),
            ArgumentTypeError,
            "one dtype and scheme",
        ),
        (lambda x: torch.ones(2, 3, 4).copy_(x), UnsupportedError, r"dequantize\(\)"),
        (lambda x: torch.ones(2, 3, 4).__setitem__(0, x[0]), UnsupportedError, r"dequantize\(\)"),
        (lambda x: torch.ones(2, 3, 4).masked_fill_(MASK, x[0, 0, 0]), UnsupportedError, "masked_fill_"),
        (
            lambda x: x.index_put_((torch.tensor([0]),), torch.ones(3, 4), accumulate=True),
            UnsupportedError,
            "accumulate",
        ),
        (lambda x: torch.empty_like(x, dtype=torch.float32), UnsupportedError, "keeps its dtype"),
        (lambda x: x.t_(), UnsupportedError, "t_"),
        (lambda x: x.set_(x), UnsupportedError, "set_"),
    ],
)
def test_refused_writes_change_nothing(write: Callable[[QTensor], Any], kind: type[QcoreError], words: str) -> None:
    x = make(0.5, 0)
    before = x.clone()
    with pytest.raises(kind, match=words):
        write(x)
    assert x.equal(before)
    assert x.stride() == before.stride()


def test_refused_writes_per_channel() -> None:
    x = QTensor(integers(SHAPE, qint8, 0), per_channel(torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, qint8))
    for write in (lambda: x.resize_(2, 2), lambda: x.masked_fill_(MASK, 1.0), lambda: x.__setitem__(MASK, 1.0)):
        with pytest.raises(UnsupportedError, match="per-channel"):
            write()


def make(scale: float, zero_point: int) -> QTensor:
    return pair(integers(SHAPE, quint8, int(1 / scale)), per_tensor(scale, zero_point, quint8)).ours
