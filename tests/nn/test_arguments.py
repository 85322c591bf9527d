"""Bad arguments of modules: each is refused with words, and nothing is half changed."""

from __future__ import annotations

import pytest
import torch

import qcore
from qcore.nn import intrinsic as nni
from qcore.nn import quantized as nnq
from qcore.nn.quantized import dynamic as nnqd

QINT8 = qcore.qint8


def quantized(*shape, dtype=QINT8):
    return qcore.quantize_per_tensor(torch.randn(shape), 0.1, 0, dtype)


def per_channel(*shape, axis):
    ones = torch.ones(shape[axis])
    return qcore.quantize_per_channel(torch.randn(shape), ones, torch.zeros(shape[axis]).long(), axis, QINT8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nnq.Conv2d(3, 4, 3, groups=2), "groups=2"),
        (lambda: nnq.Conv2d(4, 4, 3, groups=0), "groups=0"),
        (lambda: nnq.Conv2d(3, 4, 0), "kernel_size=0"),
        (lambda: nnq.Conv2d(3, 4, (3, 3, 3)), "kernel_size"),
        (lambda: nnq.Conv2d(3, 4, 3, stride=0), "stride=0"),
        (lambda: nnq.Conv2d(3, 4, 3, padding=-1), "padding=-1"),
        (lambda: nnq.Conv2d(3, 4, 3, padding="some"), "padding='some'"),
        (lambda: nnq.Conv2d(3, 4, 3, padding="same", stride=2), "stride 1"),
        (lambda: nnq.Conv2d(3, 4, 3, padding_mode="mirror"), "padding_mode='mirror'"),
        (lambda: nnq.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "reflect"),
        (lambda: nnq.Linear(3, 4, dtype=qcore.quint8), "quint8"),
        (lambda: nnq.Quantize(0.0, 0, qcore.quint8), "scale"),
        (lambda: nnq.Quantize(float("nan"), 0, qcore.quint8), "scale"),
        (lambda: nnq.Quantize(0.1, 256, qcore.quint8), "zero_point=256"),
        (lambda: nnq.Hardswish(-1.0, 0), "scale"),
        (lambda: nnq.Embedding(3, 4, dtype=QINT8), "quint8"),
        (lambda: nnq.EmbeddingBag(3, 4, mode="max"), "mode='max'"),
        (lambda: nnqd.RNNCell(3, 4, nonlinearity="gelu"), "nonlinearity='gelu'"),
        (lambda: nnqd.LSTM(3, 4, dtype=torch.float64), "float64"),
        (lambda: nni.ConvReLU2d(torch.nn.Conv2d(3, 4, 3)), "takes 2 modules"),
    ],
)
def test_constructors(make, message):
    with pytest.raises(qcore.ArgumentError, match=message):
        make()


def test_parts_of_the_wrong_class_and_projections():
    with pytest.raises(qcore.ArgumentTypeError, match="argument 1 is a Linear"):
        nni.ConvReLU2d(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(3, 4))
    with pytest.raises(qcore.UnsupportedError, match="proj_size=2"):
        nnqd.LSTM(3, 4, proj_size=2)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.randn(4, 3), None, "QTensor"),
        (quantized(4, 3, dtype=qcore.quint8), None, "dtype"),
        (quantized(3, 4), None, r"shape \(4, 3\)"),
        (per_channel(4, 3, axis=1), None, "axis 0, not 1"),
        (quantized(4, 3), torch.randn(3), r"bias must have shape \(4,\)"),
    ],
)
@pytest.mark.parametrize("kind", [nnq.Linear, nnqd.Linear])
def test_set_weight_bias(kind, weight, bias, message):
    module = kind(3, 4)
    before = module.weight().int_repr()
    with pytest.raises((qcore.ArgumentError, qcore.ArgumentTypeError), match=message):
        module.set_weight_bias(weight, bias)
    assert torch.equal(module.weight().int_repr(), before)


def test_set_weight_bias_forgets_the_kernel():
    module, x = nnq.Linear(3, 4), quantized(2, 3, dtype=qcore.quint8)
    assert module(x).int_repr().eq(0).all()
    module.set_weight_bias(quantized(4, 3), torch.full((4,), 9.0))
    assert module(x).int_repr().ne(0).any()


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 5, 8, 8), (3, 8, 8), (2, 3, 8, 8, 8)])
def test_shapes_that_do_not_fit_are_refused(shape):
    x = quantized(*shape, dtype=qcore.quint8)
    for module in (nnq.Conv2d(3, 4, 3), nnq.ConvTranspose2d(3, 4, 3), nnq.BatchNorm2d(3)):
        with pytest.raises(qcore.ArgumentError, match="shaped"):
            module(x)


def test_features_that_do_not_fit_are_refused():
    with pytest.raises((qcore.ArgumentError, ValueError)):
        nnq.Linear(3, 4)(quantized(2, 5, dtype=qcore.quint8))
    with pytest.raises((qcore.ArgumentError, ValueError)):
        nnqd.Linear(3, 4)(torch.randn(2, 5))
    for module in (nnqd.LSTM(3, 4), nnqd.GRU(3, 4), nnqd.LSTMCell(3, 4), nnqd.GRUCell(3, 4), nnqd.RNNCell(3, 4)):
        with pytest.raises(qcore.ArgumentError, match="got shape"):
            module(torch.randn(2, 5))
        with pytest.raises(qcore.ArgumentError, match="state must have shape"):
            state = torch.zeros(1, 9)
            module(torch.randn(2, 3), (state, state) if "LSTM" in type(module).__name__ else state)


@pytest.mark.parametrize("kind", [nnqd.LSTM, nnqd.GRU, qcore.nn.quantizable.LSTM])
@pytest.mark.parametrize("layers", [0, 2**15 + 1, 10**12])
def test_numbers_of_layers_that_make_no_sense_are_refused(kind, layers):
    with pytest.raises(qcore.ArgumentError, match=f"num_layers={layers} must be at"):
        kind(3, 4, num_layers=layers)


def test_statistics_of_another_length_are_refused():
    model = qcore.prepare(torch.nn.Sequential(qcore.QuantStub(), torch.nn.BatchNorm2d(4)).eval())
    model(torch.randn(2, 4, 3, 3))
    model[1].running_mean = torch.zeros(3)
    with pytest.raises(qcore.QuantizationError, match=r"'1'.*running_mean of the float layer has shape \(3,\)"):
        qcore.convert(model)


@pytest.mark.parametrize("batch", [0, 1])
def test_empty_batches_pass(batch):
    assert nnq.Linear(3, 4)(quantized(batch, 3, dtype=qcore.quint8)).shape == (batch, 4)
    assert nnqd.Linear(3, 4)(torch.randn(batch, 3)).shape == (batch, 4)
    assert nnq.Conv2d(3, 4, 3)(quantized(batch, 3, 5, 5, dtype=qcore.quint8)).shape == (batch, 4, 3, 3)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), ((2, 4), "same"), (3, "valid"), ((3, 2), (2, 1))])
def test_padding_is_that_of_the_float_convolution(mode, kernel, padding):
    torch.manual_seed(0)
    float_conv = torch.nn.Conv2d(3, 4, kernel, padding=padding, padding_mode=mode)
    conv = nnq.Conv2d(3, 4, kernel, padding=padding, padding_mode=mode)
    weight = qcore.quantize_per_tensor(float_conv.weight.detach(), 0.003, 0, QINT8)
    conv.set_weight_bias(weight, float_conv.bias)
    conv.scale, conv.zero_point = 0.02, 128
    float_conv.weight.data = weight.dequantize()
    x = qcore.quantize_per_tensor(torch.randn(2, 3, 7, 6), 0.02, 120, qcore.quint8)
    expected = float_conv(x.dequantize())
    inside = (expected > 0.02 * -128) & (expected < 0.02 * 127)
    assert conv(x).shape == expected.shape
    assert (conv(x).dequantize() - expected)[inside].abs().max() <= 0.0101
