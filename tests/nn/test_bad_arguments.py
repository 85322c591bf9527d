"""Functions and modules called with what they cannot take: an error of ours, in words, on every backend; no crash."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore
from qcore.nn.quantized import functional as F
from tests.backends import USABLE
from tests.nn.every_module import SAMPLES

NAN, INFINITE = float("nan"), float("inf")
SPATIAL = (5, 6, 7)


def quantized(*shape, dtype=qcore.quint8, backend=None):
    x = qcore.quantize_per_tensor(torch.randn(shape), 0.05, 113 if dtype == qcore.quint8 else 0, dtype)
    x.backend = backend
    return x


def by_channel(*shape, axis=1):
    size = shape[axis]
    return qcore.quantize_per_channel(torch.randn(shape), torch.ones(size), torch.zeros(size).int(), axis, qcore.qint8)


def image(rank, backend):
    return quantized(2, 4, *SPATIAL[:rank], backend=backend)


POOLS = {"avg_pool2d": 2, "avg_pool3d": 3, "max_pool1d": 1, "max_pool2d": 2}
POOL_ARGUMENTS = [
    {"kernel_size": 0},
    {"kernel_size": -1},
    {"kernel_size": 99},
    {"kernel_size": "2"},
    {"kernel_size": None},
    {"kernel_size": 1.5},
    {"kernel_size": (1, 2, 3, 4)},
    {"kernel_size": 2, "stride": 0},
    {"kernel_size": 2, "stride": -1},
    {"kernel_size": 2, "padding": -1},
    {"kernel_size": 2, "padding": 2},
]


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("name", POOLS)
def test_pooling(name, backend):
    function, x = getattr(F, name), image(POOLS[name], backend)
    for arguments in POOL_ARGUMENTS:
        with pytest.raises(qcore.QcoreError, match=name):
            function(x, **arguments)
    for wrong in (x.dequantize(), None, quantized(4, backend=backend), x[:, :0], by_channel(2, 4, 5, 6)):
        with pytest.raises(qcore.QcoreError):
            function(wrong, 2)
    assert function(x[:0], 2).shape[0] == 0


@pytest.mark.parametrize("backend", USABLE)
def test_options_of_pooling(backend):
    with pytest.raises(qcore.ArgumentError, match="divisor_override=0"):
        F.avg_pool2d(image(2, backend), 2, divisor_override=0)
    with pytest.raises(qcore.ArgumentError, match="dilation=0"):
        F.max_pool2d(image(2, backend), 2, dilation=0)
    for function, rank in ((F.adaptive_avg_pool2d, 2), (F.adaptive_avg_pool3d, 3)):
        for size in (-1, 0, "1", 1.5, (1, 2, 3, 4)):
            with pytest.raises(qcore.ArgumentError, match="output_size"):
                function(image(rank, backend), size)
        with pytest.raises(qcore.ArgumentError, match="shaped"):
            function(quantized(4, backend=backend), 2)


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"size": 4, "scale_factor": 2.0},
        {"size": -4},
        {"size": 0},
        {"size": (1, 2, 3)},
        {"size": "4"},
        {"scale_factor": -1.0},
        {"scale_factor": 0.0},
        {"scale_factor": NAN},
        {"scale_factor": 1e30},
        {"size": 4, "mode": "bicubic"},
        {"size": 4, "align_corners": True},
    ],
)
def test_resampling(arguments, backend):
    with pytest.raises(qcore.QcoreError):
        F.interpolate(image(2, backend), **arguments)
    with pytest.raises(qcore.QcoreError), pytest.warns(FutureWarning, match="old name"):
        F.upsample(image(2, backend), **arguments)


@pytest.mark.parametrize("backend", USABLE)
def test_linear(backend):
    x, weight = quantized(3, 5, backend=backend), quantized(4, 5, dtype=qcore.qint8)
    for arguments in (
        (x.dequantize(), weight),
        (x, torch.randn(4, 5)),
        (x, quantized(4, 6, dtype=qcore.qint8)),
        (x, quantized(4, 5)),
        (x, quantized(4, 5, 1, dtype=qcore.qint8)),
        (x, by_channel(4, 5, axis=1)),
        (by_channel(3, 5), weight),
        (quantized(backend=backend), weight),
        (quantized(3, 5, dtype=qcore.qint32, backend=backend), weight),
        (x, weight, torch.randn(3)),
        (x, weight, torch.ones(4).int()),
        (x, weight, torch.full((4,), NAN)),
        (x, weight, "bias"),
        (x, weight, None, 0.0, 0),
        (x, weight, None, NAN, 0),
        (x, weight, None, INFINITE, 0),
        (x, weight, None, 0.1, 256),
        (x, weight, None, 0.1, -1),
        (x, weight, None, 0.1, 1.5),
        (x, weight, None, 0.1, None),
    ):
        with pytest.raises(qcore.QcoreError):
            F.linear(*arguments)


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv(rank, backend):
    function, x = getattr(F, f"conv{rank}d"), image(rank, backend)
    shape = (6, 4, *(3,) * rank)
    weight = quantized(*shape, dtype=qcore.qint8)
    for options in (
        {"stride": 0},
        {"stride": 1.5},
        {"stride": (1,) * 4},
        {"padding": -1},
        {"padding": "some"},
        {"padding": 10**9},
        {"dilation": 0},
        {"dilation": 99},
        {"groups": 0},
        {"groups": 3},
        {"padding_mode": "mirror"},
        {"scale": 0.0},
        {"scale": NAN},
        {"zero_point": 300},
        {"dtype": torch.float32},
        {"dtype": qcore.qint32},
    ):
        with pytest.raises(qcore.QcoreError):
            function(x, weight, None, **options)
    for arguments in (
        (x.dequantize(), weight, None),
        (x[:, :3], weight, None),
        (quantized(3, 5, backend=backend), weight, None),
        (quantized(2, 4, *(1,) * rank, backend=backend), weight, None),
        (by_channel(*x.shape), weight, None),
        (x, weight.dequantize(), None),
        (x, quantized(*shape), None),
        (x, quantized(6, 4, *(0,) * rank, dtype=qcore.qint8), None),
        (x, weight, torch.randn(7)),
        (x, weight, torch.full((6,), NAN)),
    ):
        with pytest.raises(qcore.QcoreError):
            function(*arguments)


@pytest.mark.parametrize("backend", USABLE)
def test_functions_of_one_variable(backend):
    x = image(2, backend)
    for function in (F.elu, F.celu, F.hardswish):
        for scale, zero_point in ((0.0, 0), (-1.0, 0), (NAN, 0), (0.1, 256), (0.1, -1)):
            with pytest.raises(qcore.ArgumentError):
                function(x, scale, zero_point)
        with pytest.raises(qcore.QcoreError):
            function(by_channel(2, 4), 0.1, 0)
    for function in (F.elu, F.celu):
        for alpha in (NAN, "1"):
            with pytest.raises(qcore.ArgumentError, match="alpha"):
                function(x, 0.1, 0, alpha)
    with pytest.raises(qcore.ArgumentError, match="alpha=0"):
        F.celu(x, 0.1, 0, 0.0)
    for wrong in (NAN, "1"):
        for function in (F.clamp, F.hardtanh, F.threshold):
            with pytest.raises(qcore.ArgumentError, match="NaN"):
                function(x, wrong, 1.0)
        with pytest.raises(qcore.ArgumentError, match="negative_slope"):
            F.leaky_relu(x, wrong)
    with pytest.raises(qcore.ArgumentError, match="above max_val"):
        F.hardtanh(x, 2.0, 1.0)
    for arguments in ((0.1, False, 0.1), (0.1, True, 0.1, 0), (0.1, False, 0.0, 0)):
        with pytest.raises(qcore.ArgumentError):
            F.leaky_relu(x, *arguments)


ANY_SHAPE = (nn.ReLU6, nn.Hardswish, nn.ELU, nn.LeakyReLU)
STATIC = [name for name in SAMPLES if name.startswith("static-") and "Stub" not in name and "Embedding" not in name]


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("name", STATIC)
def test_static_modules(name, backend):
    module, (x,) = SAMPLES[name].build(), SAMPLES[name].inputs()
    module.backend = backend
    wrong = [None, "x", x.dequantize(), x.raw, by_channel(*x.shape), quantized(*x.shape, dtype=qcore.qint32)]
    if not isinstance(SAMPLES[name].module(), ANY_SHAPE):
        wrong += [quantized(), quantized(11, 11, 11)]
    for each in wrong:
        with pytest.raises(qcore.QcoreError):
            module(each)
    assert module(x[:0]).shape[0] == 0


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("name", [name for name in SAMPLES if name.startswith("dynamic-") and "Embedding" not in name])
def test_dynamic_modules(name, backend):
    module, (x,) = SAMPLES[name].build(), SAMPLES[name].inputs()
    module.backend = backend
    for each in (
        None,
        "x",
        torch.randn(()),
        torch.randn(*x.shape[:-1], 11),
        quantized(*x.shape),
        x * NAN,
        x + INFINITE,
    ):
        with pytest.raises(qcore.QcoreError):
            module(each)


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("name", [name for name in SAMPLES if "Embedding" in name])
def test_embeddings(name, backend):
    module, inputs = SAMPLES[name].build(), SAMPLES[name].inputs()
    module.backend = backend
    for wrong in (-1, 7, 10**12):
        with pytest.raises(qcore.ArgumentError):
            module(torch.full_like(inputs[0], wrong), *inputs[1:])
    for wrong in (None, "x", inputs[0].float(), quantized(3)):
        with pytest.raises(qcore.QcoreError):
            module(wrong, *inputs[1:])
