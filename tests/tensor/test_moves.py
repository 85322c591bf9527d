"""Views, copies and indexing against torch's quantized tensors, and where per-channel parameters go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from qcore.errors import UnsupportedError
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor
from tests import oracle
from tests.tensor.pairs import Pair, assert_same, integers, pair, per_channel_pairs, per_tensor_pairs, stable

SHAPE = (2, 3, 4, 6)
MOVES: dict[str, Callable[[Any], Any]] = {
    "view": lambda x: x.view(6, 24),
    "view with -1": lambda x: x.view(2, -1),
    "view_as": lambda x: x.view_as(x),
    "as_strided": lambda x: x.as_strided((2, 3), (1, 2), 5),
    "expand": lambda x: x[:1].expand(5, 3, 4, 6),
    "expand_as": lambda x: x[:1].expand_as(x),
    "flatten": lambda x: x.flatten(1),
    "ravel": lambda x: x.ravel(),
    "unflatten": lambda x: x.unflatten(2, (2, 2)),
    "select": lambda x: x.select(1, 2),
    "narrow": lambda x: x.narrow(3, 1, 4),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, -1),
    "movedim": lambda x: x.movedim(0, 2),
    "mT": lambda x: x.mT,
    "t": lambda x: x[0, 0].t(),
    "squeeze": lambda x: x[:1].squeeze(),
    "squeeze of one": lambda x: x[:1].squeeze(0),
    "unsqueeze": lambda x: x.unsqueeze(-1),
    "split": lambda x: x.split(2, 2),
    "split with sizes": lambda x: x.split([1, 2], 1),
    "chunk": lambda x: x.chunk(3, 3),
    "tensor_split": lambda x: x.tensor_split(2),
    "unbind": lambda x: x.unbind(1),
    "iteration": list,
    "index": lambda x: x[1],
    "slices": lambda x: x[:, 1:, ::2, None],
    "ellipsis": lambda x: x[..., -1],
    "index by tensor": lambda x: x[torch.tensor([1, 0, 1])],
    "index by mask": lambda x: x[torch.tensor([True, False])],
    "index_select": lambda x: x.index_select(2, torch.tensor([3, 1])),
    "reshape": lambda x: x.reshape(-1),
    "reshape of a transposed": lambda x: x.transpose(0, 1).reshape(-1),
    "contiguous": lambda x: x.transpose(0, 1).contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "to channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "clone": lambda x: x.clone(),
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "to cpu": lambda x: x.to("cpu"),
    "cpu": lambda x: x.cpu(),
    "flip": lambda x: x.flip(0, 2),
    "repeat": lambda x: x.repeat(2, 1, 1, 3),
    "tile": lambda x: x.tile(2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "unfold": lambda x: x.unfold(3, 3, 2),
    "diagonal": lambda x: x.diagonal(),
    "stack": lambda x: torch.stack([x, x], 1),
    "stack at the end": lambda x: torch.stack([x, x], -1),
    "cat": lambda x: torch.cat([x, x[:, 1:]], 1),
    "constant pad": lambda x: F.pad(x, (1, 2, 0, 1)),
    "constant pad by a value": lambda x: F.pad(x, (1, 0), value=1.3),
    "reflection pad": lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect"),
    "reflection pad, 1-D": lambda x: F.pad(x[0], (2, 1), mode="reflect"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    # torch's kernel for quantized tensors takes quint8 only
    "channel_shuffle": lambda x: F.channel_shuffle(x, 3) if x.dtype == quint8 else x,
    "embedding": lambda x: F.embedding(torch.tensor([[1, 0]]), x[0, 0]),
    "dropout in evaluation": lambda x: F.dropout(x, training=False),
}


@pytest.mark.parametrize("name", MOVES)
@stable
@given(twins=per_tensor_pairs(shape=st.just(SHAPE)))
def test_moves_equal_torch(name: str, twins: Pair) -> None:
    with oracle.engine():
        theirs = MOVES[name](twins.theirs)
    assert_same(MOVES[name](twins.ours), theirs)


@stable
@given(twins=per_channel_pairs(shape=st.lists(st.integers(2, 5), min_size=1, max_size=4).map(tuple)), data=st.data())
def test_per_channel_slices_equal_torch(twins: Pair, data: st.DataObject) -> None:
    dim = data.draw(st.integers(0, twins.ours.ndim - 1))
    start = data.draw(st.integers(0, twins.ours.shape[dim] - 1))
    length = data.draw(st.integers(1, twins.ours.shape[dim] - start))
    ours, theirs = twins.ours.narrow(dim, start, length), twins.theirs.narrow(dim, start, length)
    assert_same(ours, theirs)
    assert torch.equal(ours.dequantize(), theirs.dequantize())
    assert_same(twins.ours.unsqueeze(dim), twins.theirs.unsqueeze(dim))
    assert_same(twins.ours.clone(), twins.theirs.clone())
    assert_same(twins.ours.detach(), twins.theirs.detach())


def test_clone_keeps_the_memory_layout_of_a_permuted_tensor() -> None:
    """torch's clone keeps that of plain tensors, and makes quantized ones contiguous; ours keeps it always."""
    x = pair(integers(SHAPE, quint8, 0), per_tensor(0.5, 3, quint8)).ours.permute(0, 2, 3, 1)
    assert x.clone().stride() == x.stride()
    assert x.clone().equal(x)


NOT_PER_CHANNEL = ("cat", "stack", "stack at the end", "as_strided")
CHANNEL_MOVES = [name for name in MOVES if name not in NOT_PER_CHANNEL and "pad" not in name]


@pytest.mark.parametrize("name", CHANNEL_MOVES)
@pytest.mark.parametrize("axis", range(4))
def test_each_element_keeps_its_meaning_per_channel(name: str, axis: int) -> None:
    """Moving and then dequantizing equals dequantizing and then moving, or the operation is refused with words."""
    channels = SHAPE[axis]
    raw = integers(SHAPE, qint8, axis)
    # powers of two, so that the per-tensor and the per-channel formula for dequantization round alike
    scales = 2.0 ** -torch.arange(channels, dtype=torch.float64)
    x = QTensor(raw, per_channel(scales, torch.arange(channels), axis, qint8))
    try:
        moved = MOVES[name](x)
    except UnsupportedError as error:
        assert "dequantize() first" in str(error)
        return
    expected = MOVES[name](x.dequantize())
    for ours, theirs in zip(_list(moved), _list(expected), strict=True):
        assert torch.equal(ours.dequantize(), theirs)


def test_axis_follows_a_permutation() -> None:
    x = QTensor(integers((2, 3, 4), qint8, 0), per_channel(torch.tensor([0.1, 0.2, 0.3]), torch.zeros(3), 1, qint8))
    assert x.permute(1, 0, 2).q_per_channel_axis() == 0
    assert x.transpose(1, 2).q_per_channel_axis() == 2
    assert x.flip(1).q_per_channel_scales().tolist() == [0.30000001192092896, 0.20000000298023224, 0.10000000149011612]


def test_channels_spread_over_axes_are_refused() -> None:
    x = QTensor(integers((2, 6), qint8, 0), per_channel(torch.rand(6) + 0.1, torch.zeros(6).long(), 1, qint8))
    with pytest.raises(UnsupportedError, match=r"several axes.*dequantize\(\) first"):
        x.view(2, 2, 3)
    with pytest.raises(UnsupportedError, match="as_strided of a per-channel quantized tensor"):
        x.as_strided((2, 2), (1, 1))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1], lambda x: x[:, 1:], lambda x: x.view(-1), lambda x: x.t(), lambda x: x.reshape(3, 2),
        lambda x: x.detach(), lambda x: x.unbind(1)[0], lambda x: x.expand(4, 2, 3), lambda x: x.unsqueeze(0),
        lambda x: x.data, lambda x: x.split(1)[1],
    ],
)  # fmt: skip
def test_views_share_storage(view: Callable[[Tensor], Tensor]) -> None:
    x = QTensor(torch.zeros(2, 3, dtype=torch.uint8), per_tensor(0.5, 0, quint8))
    shown = view(x)
    assert shown.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    x.fill_(7.0)
    assert bool((shown.int_repr() == 14).all())


def test_copies_do_not_share_storage() -> None:
    x = QTensor(torch.zeros(2, 3, dtype=torch.uint8), per_tensor(0.5, 0, quint8))
    for copied in (x.clone(), x.int_repr(), x[[0, 1]], x.repeat(1, 1), torch.cat([x])):
        assert copied.data_ptr() != x.data_ptr()


def test_the_backend_goes_on_to_results() -> None:
    x = QTensor(torch.zeros(2, 3, dtype=torch.uint8), per_tensor(0.5, 0, quint8), "reference")
    for result in (x[0], x.clone(), x.t(), torch.cat([x, x]), x.relu(), x.max(), x.sort()[0], torch.empty_like(x)):
        assert result.backend == "reference"


def test_conversion_is_refused() -> None:
    x = pair(torch.zeros(2, dtype=torch.uint8), per_tensor(0.5, 0, quint8)).ours
    for convert in (
        lambda: x.float(), lambda: x.double(), lambda: x.to(torch.float32), lambda: x.to("cpu", torch.float16),
        lambda: x.int(), lambda: x.type(torch.float32), lambda: torch.ones(2).to(x), lambda: torch.ones(2).type_as(x),
        lambda: x.new_tensor([1.0]),
    ):  # fmt: skip
        with pytest.raises(UnsupportedError, match="quantize"):
            convert()


def _list(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, tuple | list) else [result]
