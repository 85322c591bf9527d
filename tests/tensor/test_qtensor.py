"""What a quantized tensor says of itself, and how it prints, against torch's."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given

from qcore.errors import ArgumentError, UnsupportedError
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor
from tests.tensor.pairs import Pair, integers, pair, per_channel_pairs, per_tensor_pairs, stable

ATTRIBUTES = [
    "shape",
    "dtype",
    "ndim",
    "is_quantized",
    "requires_grad",
    "device",
    "layout",
    "is_cuda",
    "nbytes",
    "itemsize",
]
METHODS = [
    "size",
    "dim",
    "numel",
    "nelement",
    "stride",
    "element_size",
    "is_floating_point",
    "is_complex",
    "is_contiguous",
    "type",
    "qscheme",
    "q_scale",
    "q_zero_point",
    "storage_offset",
    "is_shared",
    "is_pinned",
    "__len__",
    "ndimension",
    "get_device",
]


@stable
@given(twins=per_tensor_pairs())
def test_attributes_equal_torch(twins: Pair) -> None:
    ours, theirs = twins
    assert isinstance(ours, torch.Tensor)
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in METHODS:
        assert getattr(ours, name)() == getattr(theirs, name)(), name
    assert ours.size(0) == theirs.size(-ours.ndim)
    assert ours.stride(-1) == theirs.stride(-1)
    assert torch.is_floating_point(ours) == torch.is_floating_point(theirs)
    assert torch.q_scale(ours) == torch.q_scale(theirs)
    assert torch.equal(torch.int_repr(ours), torch.int_repr(theirs))
    assert ours.untyped_storage().nbytes() == theirs.untyped_storage().nbytes()


@stable
@given(twins=per_tensor_pairs())
def test_prints_as_torch_does(twins: Pair) -> None:
    assert repr(twins.ours) == _ours(repr(twins.theirs))


@stable
@given(twins=per_channel_pairs())
def test_prints_as_torch_does_per_channel(twins: Pair) -> None:
    assert repr(twins.ours).split() == _ours(repr(twins.theirs)).split()


def _ours(text: str) -> str:
    return text.replace("dtype=torch.q", "dtype=qcore.q").replace("_scheme=torch.", "_scheme=qcore.")


def test_prints_an_empty_tensor() -> None:
    twins = pair(torch.zeros(0, 3, dtype=torch.uint8), per_tensor(0.5, 1, quint8))
    assert repr(twins.ours) == _ours(repr(twins.theirs))


def test_prints_without_numbers_on_meta() -> None:
    x = pair(torch.zeros(2, dtype=torch.uint8), per_tensor(0.5, 1, quint8)).ours.to("meta")
    assert repr(x).startswith("tensor(..., size=(2,), dtype=qcore.quint8")


def test_prints_whatever_the_default_dtype() -> None:
    x = pair(torch.zeros(2, dtype=torch.uint8), per_tensor(0.5, 1, quint8)).ours
    usual = repr(x)
    torch.set_default_dtype(torch.float64)
    try:
        assert repr(x) == usual
    finally:
        torch.set_default_dtype(torch.float32)


def test_per_channel_attributes() -> None:
    scales, zero_points = torch.tensor([0.1, 0.2]), torch.tensor([1, 2])
    ours, theirs = pair(integers((3, 2), qint8, 0), per_channel(scales, zero_points, 1, qint8))
    assert ours.q_per_channel_axis() == theirs.q_per_channel_axis() == 1
    assert torch.equal(ours.q_per_channel_scales(), theirs.q_per_channel_scales())
    assert torch.equal(ours.q_per_channel_zero_points(), theirs.q_per_channel_zero_points())
    assert ours.qscheme() == theirs.qscheme() == torch.per_channel_affine
    ours.q_per_channel_scales().fill_(9.0)
    assert torch.equal(ours.q_per_channel_scales(), theirs.q_per_channel_scales())


def test_the_wrong_scheme_is_told() -> None:
    x = pair(integers((3, 2), qint8, 0), per_tensor(0.1, 0, qint8)).ours
    y = QTensor(x.raw, per_channel(torch.ones(3), torch.zeros(3).int(), 0, qint8))
    for name in ("q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis"):
        with pytest.raises(UnsupportedError, match=rf"{name}\(\) is for tensors quantized per channel.*use q_"):
            getattr(x, name)()
    for name in ("q_scale", "q_zero_point"):
        with pytest.raises(UnsupportedError, match=rf"{name}\(\) is for tensors quantized per tensor.*q_per_chan"):
            getattr(y, name)()


def test_gradients_are_refused() -> None:
    x = pair(integers((3, 2), qint8, 0), per_tensor(0.1, 0, qint8)).ours
    with pytest.raises(RuntimeError, match="gradients"):
        x.requires_grad_()
    assert x.requires_grad_(False) is x
    with pytest.raises(RuntimeError, match="gradients"):
        torch.nn.Parameter(x)


def test_raw_access_is_refused_with_a_way_out() -> None:
    x = pair(integers((3, 2), qint8, 0), per_tensor(0.1, 0, qint8)).ours
    for access in (x.numpy, x.tolist, lambda: numpy.asarray(x), lambda: torch.from_dlpack(x), x.storage):
        with pytest.raises(UnsupportedError, match=r"int_repr\(\)"):
            access()


def test_cpp_code_that_reads_the_wrapper_fails_without_a_crash() -> None:
    x = pair(integers((3, 2), qint8, 0), per_tensor(0.1, 0, qint8)).ours
    with pytest.raises(RuntimeError, match="data"):
        torch.from_dlpack(torch._C._to_dlpack(x))
    with pytest.raises(ArgumentError, match="data"):
        torch.tensor([x[0, 0], x[0, 1]])


def test_inference_mode() -> None:
    with torch.inference_mode():
        x = pair(integers((3, 2), qint8, 0), per_tensor(0.1, 0, qint8)).ours
        row = x[1]
        row[0] = 0.5
        assert x[1, 0].item() == pytest.approx(0.5)
        assert x.relu().dequantize().min() == 0


def test_traced_code_calls_methods_on_it() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.reshape(2, -1).relu(), x.view(2, -1)], 1).dequantize()

    x = pair(integers((2, 3, 2), qint8, 0), per_tensor(0.1, 0, qint8)).ours
    assert torch.equal(torch.fx.symbolic_trace(function)(x), function(x))


def test_assert_close() -> None:
    x = pair(integers((2, 3), qint8, 0), per_tensor(0.1, 0, qint8)).ours
    torch.testing.assert_close(x, x.clone())
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(x, torch.zeros_like(x))
