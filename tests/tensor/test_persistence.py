"""Copies, files, modules and processes that hold quantized tensors."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError
from qcore.tensor.dtypes import DTYPES, qint8, quint4x2, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor, rebuild_qtensor
from tests.tensor.pairs import Pair, integers, per_channel_pairs, per_tensor_pairs, stable


def per_tensor_example(backend: str | None = None) -> QTensor:
    return QTensor(integers((2, 3), quint8, 0), per_tensor(0.1, 3, quint8), backend)


def per_channel_example() -> QTensor:
    return QTensor(integers((2, 3), qint8, 0), per_channel(torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, qint8))


def through_file(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "torch.save and load": through_file,
}


@pytest.mark.parametrize("way", WAYS)
@stable
@given(twins=st.one_of(per_tensor_pairs(), per_channel_pairs()))
def test_round_trip(way: str, twins: Pair) -> None:
    back = WAYS[way](twins.ours)
    assert back.equal(twins.ours)
    assert back.stride() == twins.ours.stride()
    assert back.data_ptr() != twins.ours.data_ptr()


@pytest.mark.parametrize("way", WAYS)
def test_round_trip_keeps_backend_and_every_dtype(way: str) -> None:
    assert WAYS[way](per_tensor_example("some_backend")).backend == "some_backend"
    for dtype in DTYPES:
        x = QTensor(torch.ones(2, dtype=dtype.storage), per_tensor(0.5, 1, dtype))
        assert WAYS[way](x).equal(x)
    floating = QTensor(torch.ones(2, 2, dtype=torch.uint8), per_channel(torch.ones(2), torch.rand(2), 0, quint4x2))
    assert WAYS[way](floating).equal(floating)


@pytest.mark.parametrize("way", WAYS)
def test_shared_storage_stays_shared(way: str) -> None:
    x = per_tensor_example()
    both, view = WAYS[way]([x, x[0]])
    if way == "pickle":
        # as plain tensors, which share through torch.save and deepcopy only
        assert view.equal(x[0])
        return
    both.fill_(1.0)
    assert view.dequantize().tolist() == pytest.approx([1.0] * 3)


def test_copy_shows_the_same_integers() -> None:
    x = per_tensor_example()
    assert copy.copy(x).data_ptr() == x.data_ptr()


class Holder(nn.Module):
    def __init__(self, buffer: QTensor, parameter: QTensor) -> None:
        super().__init__()
        self.register_buffer("buffer", buffer)
        self.parameter = nn.Parameter(parameter, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.buffer.dequantize() + self.parameter.dequantize()


def holder(scale: float = 0.1) -> Holder:
    return Holder(per_channel_example(), QTensor(integers((2, 3), quint8, 1), per_tensor(scale, 3, quint8)))


def test_modules_hold_it() -> None:
    module = holder()
    assert [name for name, _ in module.named_parameters()] == ["parameter"]
    assert [name for name, _ in copy.deepcopy(module).named_parameters()] == ["parameter"]
    assert set(module.state_dict()) == {"buffer", "parameter"}
    other = holder(0.7)
    kept = other.parameter
    other.load_state_dict(through_file(module.state_dict()))
    assert other.parameter is kept
    assert other.parameter.equal(module.parameter)
    assert other.buffer.equal(module.buffer)
    other.load_state_dict(module.state_dict(), assign=True)
    assert other.parameter.data_ptr() == module.parameter.data_ptr()


def test_conversion_of_a_module_leaves_it_alone() -> None:
    module = holder()
    for convert in (module.float, module.double, module.half, lambda: module.to(torch.bfloat16), module.cpu):
        assert convert().parameter.equal(holder().parameter)
        assert module.buffer.equal(holder().buffer)
    module.to(memory_format=torch.channels_last)
    assert torch.equal(module(torch.zeros(2, 3)), holder()(torch.zeros(2, 3)))


def test_meta_device() -> None:
    module = holder().to("meta")
    assert module.buffer.device.type == module.buffer.raw.device.type == "meta"
    assert module.buffer.q_per_channel_scales().device.type == "meta"
    assert per_tensor_example().to("meta").shape == (2, 3)


def test_shared_memory() -> None:
    x = per_tensor_example()
    assert x.share_memory_() is x
    assert x.is_shared()
    assert holder().share_memory().parameter.is_shared()


def test_setting_data() -> None:
    x = per_tensor_example()
    x.data = QTensor(torch.zeros(5, dtype=torch.int8), per_tensor(0.5, 1, qint8))
    assert (x.shape, x.dtype, x.q_scale()) == ((5,), qint8, 0.5)
    assert x.reshape(5, 1).dequantize().tolist() == [[-0.5]] * 5
    with pytest.raises(ArgumentTypeError, match="from a QTensor, not Tensor"):
        x.data = torch.ones(5)


def test_compiled_code_runs_uncompiled_around_quantized_tensors() -> None:
    def function(x: Tensor) -> Tensor:
        return x.reshape(2, -1).t().dequantize() * 2

    for x in (per_tensor_example("reference"), per_tensor_example()):
        compiled = torch.compile(function, backend="aot_eager")
        assert torch.equal(compiled(x), function(x))


raw = torch.zeros(2, 3, dtype=torch.uint8)
ones = torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("parts", "kind", "words"),
    [
        (("x", "quint8", 1.0, 0, None), ArgumentTypeError, "plain tensor, not str"),
        ((per_tensor_example(), "quint8", 1.0, 0, None), ArgumentTypeError, "plain tensor, not QTensor"),
        ((raw, "float32", 1.0, 0, None), ArgumentTypeError, "float32"),
        ((raw, 7, 1.0, 0, None), ArgumentTypeError, "7"),
        ((raw.char(), "quint8", 1.0, 0, None), ArgumentTypeError, "torch.uint8, not torch.int8"),
        ((raw, "quint8", "1", 0, None), ArgumentTypeError, "a float scale"),
        ((raw, "quint8", 1.0, 0.5, None), ArgumentTypeError, "an int zero point"),
        ((raw, "quint8", 0.0, 0, None), ArgumentError, "scale=0.0"),
        ((raw, "quint8", 1.0, 256, None), ArgumentError, "zero_point=256"),
        ((raw, "quint8", 1.0, 0, 0), ArgumentTypeError, "tensors of scales"),
        ((raw, "quint8", ones, ones, "0"), ArgumentTypeError, "an axis"),
        ((raw, "quint8", ones, ones, 2), ArgumentError, "axis 2"),
        ((raw, "quint8", ones, ones, -1), ArgumentError, "axis -1"),
        ((raw, "quint8", ones, ones, 1), ArgumentError, "2 scales"),
        ((raw, "quint8", ones, ones[:1], 0), ArgumentError, "1-D tensors of one"),
        ((raw, "quint8", ones * float("nan"), ones.int(), 0), ArgumentError, "scale nan"),
        ((raw, "quint8", 1.0, 0, None, 5), ArgumentTypeError, "a name or None"),
    ],
)
def test_hostile_files_are_refused(parts: tuple[Any, ...], kind: type[QcoreError], words: str) -> None:
    with pytest.raises(kind, match=words):
        rebuild_qtensor(*parts)
