"""prepare_qat, training and convert on their own."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import qcore
from qcore import api
from qcore.api import fake_quantize as fq
from qcore.api import qconfig as qconfigs
from qcore.nn import qat as nnqat
from qcore.nn import quantized as nnq
from qcore.nn.intrinsic import qat as nniqat
from qcore.nn.intrinsic import quantized as nniq
from tests.api.eager_models import QCORE, ConvNet, Stubbed


class Perceptron(Stubbed):
    """Linear with batch norm, and LinearReLU; input (batch, 6)."""

    FUSE = [["f1", "b1"], ["f2", "r2"]]
    SHAPE = (6,)

    def __init__(self, api):
        super().__init__(api)
        self.f1, self.b1, self.f2, self.r2 = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU()
        self.f3 = nn.Linear(8, 3)

    def body(self, x):
        return self.f3(self.r2(self.f2(self.b1(self.f1(x)))))


def train(model, shape, steps=3):
    """A few steps; each loss, and at last the result in eval mode."""
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        result = model(torch.randn(16, *shape))
        loss = (result**2).mean() + result.mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    model.eval()
    return losses


def fitted():
    torch.manual_seed(0)
    model = api.fuse_modules_qat(ConvNet(QCORE).train(), ConvNet.FUSE)
    prepared = api.prepare_qat(model, backend="reference")
    train(prepared, ConvNet.SHAPE)
    return model, prepared


def test_classes_and_report():
    model, prepared = fitted()
    assert type(prepared.c1) is nniqat.ConvBnReLU2d
    assert type(prepared.c2) is nniqat.ConvReLU2d
    assert type(prepared.f2) is nnqat.Linear
    assert not any(isinstance(module, fq.FakeQuantizeBase) for module in model.modules())
    quantized = api.convert(prepared)
    assert type(quantized.c1) is nniq.ConvReLU2d
    assert type(quantized.c3) is nnq.Conv2d
    assert {row.outcome for row in quantized.qcore_report} == {"quantized", "passed through"}
    assert quantized.qcore_backend == "reference"


def test_results_in_fixed_ranges_are_rounded_in_training_too():
    model = nn.Sequential(
        qcore.QuantStub(), nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 4), nn.Tanh(), nn.Sigmoid(), qcore.DeQuantStub()
    ).train()
    model.qconfig = qconfigs.get_default_qat_qconfig("reference")
    model[5].qconfig = None
    prepared = api.prepare_qat(model, backend="reference")
    x = torch.randn(8, 4)
    inside = prepared[:4](x)
    for layer, step in ((prepared[2], 1 / 256), (prepared[4], 1 / 128)):
        result = layer(inside)
        assert torch.equal(result, torch.round(result / step) * step)
    assert not hasattr(prepared[5], "activation_post_process")
    for removed in (True, False):
        quantized = api.convert(prepared, remove_qconfig=removed)
        assert quantized[:5](x).q_scale() == 1 / 128
        assert quantized[2]._forward_hooks == {}


def test_quantized_weights_are_the_learned_ones():
    model = Perceptron(QCORE).train()
    model.qconfig = qcore.QConfig(fq.default_fake_quant, fq.default_per_channel_weight_fake_quant)
    prepared = api.prepare_qat(model, backend="reference")
    train(prepared, Perceptron.SHAPE)
    layer = prepared.f2
    layer.weight_fake_quant.disable_observer()
    quantized = api.convert(prepared).f2
    torch.testing.assert_close(quantized.weight().dequantize(), layer.quantized_weight(), rtol=1e-6, atol=1e-6)


def test_converted_result_is_near_the_trained_one():
    _, prepared = fitted()
    x = torch.randn(16, *ConvNet.SHAPE)
    quantized = api.convert(prepared)
    step = quantized.f2.scale
    assert (quantized(x) - prepared(x)).abs().max() <= 3 * step


def test_prepared_models_survive_copies_pickles_and_files():
    model, prepared = fitted()
    x = torch.randn(4, *ConvNet.SHAPE)
    expected = api.convert(prepared)(x)
    file = io.BytesIO()
    torch.save(prepared.state_dict(), file)
    file.seek(0)
    loaded = api.prepare_qat(model, backend="reference")
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared)), loaded.eval()):
        assert torch.equal(api.convert(other)(x), expected)


def test_quantize_qat_in_one_call():
    torch.manual_seed(0)
    model = Perceptron(QCORE)
    quantized = api.quantize_qat(model, train, [Perceptron.SHAPE], backend="reference")
    assert type(quantized.f2) is nnq.Linear
    assert type(model.f2) is nn.Linear


def test_quantize_qat_leaves_the_model_as_it_was():
    model = Perceptron(QCORE).eval()
    before = copy.deepcopy(model.state_dict())
    api.quantize_qat(model, lambda prepared: prepared(torch.randn(4, *Perceptron.SHAPE)), [], backend="reference")
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_inplace_keeps_the_model():
    model = Perceptron(QCORE).train()
    assert api.prepare_qat(model, inplace=True, backend="reference") is model
    assert type(model.f2) is nnqat.Linear


def test_hooks_move_along():
    model = Perceptron(QCORE).train()
    calls = []
    model.f2.register_forward_hook(lambda *_: calls.append(1))
    prepared = api.prepare_qat(model, backend="reference")
    prepared(torch.randn(3, 6))
    assert calls == [1]


def test_eval_mode_is_refused():
    with pytest.raises(qcore.QuantizationError, match="in training mode"):
        api.prepare_qat(Perceptron(QCORE).eval())


def test_errors_change_nothing():
    model = Perceptron(QCORE).train()
    model.f3.qconfig = qconfigs.default_embedding_qat_qconfig
    before = str(model)
    with pytest.raises(qcore.QuantizationError, match="f3"):
        api.prepare_qat(model, inplace=True, strict=True, backend="reference")
    assert str(model) == before


def test_layers_without_a_qconfig_stay():
    model = Perceptron(QCORE).train()
    model.qconfig = qconfigs.default_qat_qconfig
    model.f2.qconfig = None
    prepared = api.prepare_qat(model, backend="reference")
    assert type(prepared.f2) is nn.Linear
    assert type(prepared.f3) is nnqat.Linear


def test_tables_are_trained_and_converted():
    model = nn.Sequential(nn.EmbeddingBag(10, 8, mode="sum")).train()
    model.qconfig = qconfigs.default_embedding_qat_qconfig
    prepared = api.prepare_qat(model, backend="reference")
    assert type(prepared[0]) is nnqat.EmbeddingBag
    bags = torch.tensor([[1, 5], [9, 9]])
    prepared(bags).sum().backward()
    quantized = api.convert(prepared.eval())
    assert type(quantized[0]) is nnq.EmbeddingBag
    torch.testing.assert_close(quantized(bags), prepared(bags))
