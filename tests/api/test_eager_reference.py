"""convert(is_reference=True): float arithmetic with the weights and roundings of the integers."""

from __future__ import annotations

import copy

import pytest
import torch

from qcore import api
from qcore.fx.modules import ReferenceModule
from tests.api.eager_models import QCORE, ConvNet
from tests.nn.quantizable_models import Recurrent


def residual():
    """Convolutions, an addition and pooling."""
    model = ConvNet(QCORE).eval()
    return api.fuse_modules(model, ConvNet.FUSE), torch.randn(8, *ConvNet.SHAPE)


def recurrent():
    """An LSTM, taken apart."""
    return Recurrent(api).eval(), torch.randn(5, 3, 6)


def trained():
    """The convolutions, trained with fake quantization."""
    model = api.fuse_modules_qat(ConvNet(QCORE).train(), ConvNet.FUSE)
    return model, torch.randn(8, *ConvNet.SHAPE)


def prepared(make):
    """A calibrated model, and an input."""
    torch.manual_seed(0)
    model, x = make()
    ready = (api.prepare_qat if model.training else api.prepare)(model, backend="reference")
    ready(x)
    return ready.eval(), x


def first(result):
    return result[0] if isinstance(result, list) else result


# sums of floats round, next to ties, another way; sigmoid and tanh are not rounded
@pytest.mark.parametrize(("make", "share"), [(residual, 0.9), (recurrent, 0.3), (trained, 0.9)])
def test_computes_as_the_integers_do(make, share):
    ready, x = prepared(make)
    integers, floats = api.convert(ready), api.convert(ready, is_reference=True)
    expected, found = first(integers(x)), first(floats(x))
    step = (expected - expected.roll(1)).abs()
    step = step[step > 0].min()
    off = (found - expected).abs() / step
    assert off.max() < 3 and (off < 0.01).float().mean() > share
    assert (first(ready(x)) - found).abs().max() > 0
    assert all("reference form" in row.reason for row in floats.qcore_report if row.outcome == "quantized")


def test_weights_are_those_of_the_integers():
    ready, x = prepared(residual)
    integers, floats = api.convert(ready), api.convert(ready, is_reference=True)
    layers = {path: module for path, module in floats.named_modules() if isinstance(module, ReferenceModule)}
    assert {"c1", "c2", "f2"} <= set(layers)
    for path, layer in layers.items():
        weight = getattr(integers.get_submodule(path), "weight", None)
        if callable(weight):
            assert torch.equal(layer.weight, weight().dequantize())
            assert torch.equal(layer.get_quantized_weight().int_repr(), weight().int_repr())
    assert torch.equal(copy.deepcopy(floats)(x), floats(x))


def test_hooks_stay_and_observers_go():
    ready, x = prepared(residual)
    calls = []
    ready.f2.register_forward_hook(lambda *_: calls.append("f2"))
    ready.c1.register_forward_hook(lambda *_: calls.append("c1"))
    floats = api.convert(ready, is_reference=True, remove_qconfig=False)
    floats(x)
    assert sorted(calls) == ["c1", "f2"]
    assert not any(hasattr(module, "calculate_qparams") for module in floats.modules())
