"""Operators that run kernels, against torch's quantized tensors, and those that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from qcore.errors import UnsupportedError
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor
from tests import oracle
from tests.tensor.pairs import Pair, assert_same, integers, pair, per_tensor_pairs, stable

SHAPE = (2, 3, 6, 5)
RANGED = st.sampled_from((quint8, qint8))
COMPUTE: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: x.relu(),
    "torch.relu": torch.relu,
    "F.relu": F.relu,
    "nn.ReLU in place": lambda x: nn.ReLU(inplace=True)(x.clone()),
    "relu_": lambda x: x.clone().relu_(),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.7, 1.2),
    "hardtanh_": lambda x: F.hardtanh_(x.clone(), -0.7, 1.2),
    "clamp": lambda x: x.clamp(-0.6, 2.1),
    "clamp from below": lambda x: x.clamp(min=0.3),
    "clamp from above": lambda x: torch.clamp(x, max=0.3),
    "sigmoid": torch.sigmoid,
    "tanh": lambda x: x.tanh(),
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky_relu_": lambda x: F.leaky_relu_(x.clone(), 0.2),
    "max_pool1d": lambda x: F.max_pool1d(x[0], 2),
    "max_pool2d": lambda x: F.max_pool2d(x, (3, 2), stride=1, padding=1, dilation=(1, 2)),
    "max_pool2d, ceil_mode": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "nn.MaxPool2d": nn.MaxPool2d(2),
}
AVERAGES: dict[str, Callable[[Any], Any]] = {
    "avg_pool1d": lambda x: F.avg_pool1d(x[0], 2),
    "avg_pool1d, strided": lambda x: F.avg_pool1d(x[0], 3, 1, 1, True, False),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool2d, ceil_mode": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
    "avg_pool2d, divisor": lambda x: F.avg_pool2d(x, (2, 3), divisor_override=7),
    "avg_pool3d": lambda x: F.avg_pool3d(x[None], 2, padding=1),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x[0], 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, None)),
    "adaptive_avg_pool3d": lambda x: F.adaptive_avg_pool3d(x[None], (1, 3, 2)),
    "nn.AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(1),
    "mean": lambda x: x.mean((2, 3)),
    "mean, keepdim": lambda x: x.mean(-1, keepdim=True),
    "mean of all": lambda x: x.mean(),
}


@pytest.mark.parametrize("name", COMPUTE)
@stable
@given(twins=per_tensor_pairs(shape=st.just(SHAPE), dtypes=RANGED))
def test_kernels_equal_torch(name: str, twins: Pair) -> None:
    with oracle.engine():
        theirs = COMPUTE[name](twins.theirs)
    ours = COMPUTE[name](twins.ours)
    assert ours.q_scale() == theirs.q_scale()
    assert ours.q_zero_point() == theirs.q_zero_point()
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert torch.equal(ours.int_repr(), theirs.int_repr())


@pytest.mark.parametrize("name", AVERAGES)
@stable
@given(twins=per_tensor_pairs(shape=st.just(SHAPE), dtypes=RANGED))
def test_averages_are_the_nearest_integers(name: str, twins: Pair) -> None:
    """Of the exact averages in float64; to which side ties go is for the numerics tests."""
    x = twins.ours
    ours = AVERAGES[name](x)
    exact = AVERAGES[name](x.int_repr().double() - x.q_zero_point()) + x.q_zero_point()
    exact = exact.clamp(x.dtype.qmin, x.dtype.qmax)
    assert (ours.q_scale(), ours.q_zero_point(), ours.shape) == (x.q_scale(), x.q_zero_point(), exact.shape)
    assert bool(((ours.int_repr() - exact).abs() <= 0.5 + 1e-9).all())


@stable
@given(twins=per_tensor_pairs(shape=st.just((2, 3, 4)), dtypes=st.just(quint8)), data=st.data())
def test_cat_requantizes_to_the_first(twins: Pair, data: st.DataObject) -> None:
    other = data.draw(per_tensor_pairs(shape=st.just((2, 2, 4)), dtypes=st.just(quint8)))
    with oracle.engine():
        theirs = torch.cat([twins.theirs, other.theirs], 1)
    assert_same(torch.cat([twins.ours, other.ours], 1), theirs)
    assert_same(torch.concat([twins.ours, other.ours], axis=1), theirs)


@pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing())
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("how", [{"size": (7, 3)}, {"scale_factor": 2}])
@stable
@given(twins=per_tensor_pairs(shape=st.just(SHAPE), dtypes=st.just(quint8)))
def test_interpolate_equals_torch(mode: str, how: dict[str, Any], twins: Pair) -> None:
    with oracle.engine():
        theirs = F.interpolate(twins.theirs, mode=mode, **how)
    assert_same(F.interpolate(twins.ours, mode=mode, **how), theirs)


def test_in_place_writes_show_in_views() -> None:
    x = pair(integers(SHAPE, quint8, 0), per_tensor(0.1, 100, quint8)).ours
    row = x[0]
    torch.relu_(x)
    assert int(row.int_repr().min()) == 100
    F.hardtanh(x, 0.0, 1.0, inplace=True)
    assert int(row.int_repr().max()) == 110


REFUSED: dict[str, tuple[Callable[[QTensor], Any], str]] = {
    "add": (lambda x: x + x, "FloatFunctional"),
    "add of a float": (lambda x: torch.ones(SHAPE) + x, r"add.*with a float tensor.*QuantStub"),
    "add of a number": (lambda x: x + 1, "FloatFunctional"),
    "in-place add to a float": (lambda x: torch.ones(SHAPE).add_(x), "FloatFunctional"),
    "mul": (lambda x: x * 2.0, "FloatFunctional"),
    "sub": (lambda x: 1 - x, "FloatFunctional"),
    "matmul": (lambda x: x @ x.transpose(2, 3), "FloatFunctional"),
    "exp": (torch.exp, r"exp.*dequantize\(\)"),
    "softmax": (lambda x: x.softmax(1), r"softmax.*dequantize\(\)"),
    "sum": (torch.sum, r"sum.*dequantize\(\)"),
    "where": (lambda x: torch.where(x > 0, x, x), "where"),
    "conv of floats": (nn.Conv2d(3, 2, 1), "conv2d: a quantized tensor reached a float layer.*DeQuantStub"),
    "linear of floats": (nn.Linear(5, 2), "linear: a quantized tensor reached a float layer.*DeQuantStub"),
    "batch_norm of floats": (nn.BatchNorm2d(3), "batch_norm: a quantized tensor reached a float layer.*DeQuantStub"),
    "elu": (F.elu, "elu"),
    "hardswish": (F.hardswish, "hardswish"),
    "cat with floats": (lambda x: torch.cat([x, torch.ones(SHAPE)]), "cat of qcore.quint8, torch.float32"),
    "cat with floats first": (lambda x: torch.cat([torch.ones(SHAPE), x]), "cat of torch.float32, qcore.quint8"),
    "mean to floats": (lambda x: x.mean(1, dtype=torch.float32), "mean"),
    "indices of max_pool": (lambda x: F.max_pool2d(x, 2, return_indices=True), "max_pool2d_with_indices"),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), "bicubic"),
    "index by quantized": (lambda x: torch.ones(3)[x], "index"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_quantized_meaning_is_refused(name: str) -> None:
    call, words = REFUSED[name]
    x = pair(integers(SHAPE, quint8, 0), per_tensor(0.1, 100, quint8)).ours
    with pytest.raises(UnsupportedError, match=words):
        call(x)


@pytest.mark.parametrize("call", [F.relu, F.relu6, torch.sigmoid, lambda x: x.clamp(0, 1), lambda x: torch.cat([x, x])])
def test_kernels_per_channel_are_refused(call: Callable[[QTensor], Any]) -> None:
    x = QTensor(integers((2, 2), qint8, 0), per_channel(torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, qint8))
    with pytest.raises(UnsupportedError, match=r"per-channel quantized tensor is not defined; dequantize\(\) first"):
        call(x)
