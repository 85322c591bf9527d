"""What holds for every prepared module, for calibration and for training: copies, pickles and files convert alike."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import qcore
from qcore import api
from qcore.api import qconfig as qconfigs
from qcore.nn import catalog
from qcore.nn import quantized as nnq
from tests.nn.every_module import STATIC, tensors

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


class Adding(nn.Module):
    """Two uses of FloatFunctional."""

    def __init__(self) -> None:
        super().__init__()
        self.plus, self.times = nnq.FloatFunctional(), nnq.FloatFunctional()

    def forward(self, x):
        return self.times.mul(self.plus.add(x, x), x)


class Called(nn.Module):
    """A module between stubs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.quant, self.module, self.dequant = qcore.QuantStub(), module, qcore.DeQuantStub()

    def forward(self, *inputs):
        if inputs[0].is_floating_point():
            inputs = tuple(map(self.quant, inputs))
        return self.dequant(self.module(*inputs))


MAKERS = {kind: made for kind, made in STATIC.items() if kind not in (qcore.QuantStub, qcore.DeQuantStub)}
MAKERS[nnq.FloatFunctional] = (Adding, STATIC[nn.ReLU6][1])
STAGES = [("static", kind) for kind in MAKERS] + [("qat", kind) for kind in catalog.mapping("qat")]


def test_every_class_of_the_catalogue_is_here():
    stubs = {qcore.QuantStub, qcore.DeQuantStub}
    assert set(MAKERS) == set(catalog.mapping("static")) - stubs
    assert set(catalog.mapping("qat")) <= set(MAKERS)


def float_inputs(kind):
    return tuple(x.dequantize() if x.is_quantized else x for x in MAKERS[kind][1]())


def prepared(stage, kind, seed=0):
    """A prepared module that saw data."""
    torch.manual_seed(seed)
    model = Called(MAKERS[kind][0]())
    if issubclass(kind, EMBEDDINGS):
        weight_only = qconfigs.float_qparams_weight_only_qconfig
        model.module.qconfig = qconfigs.default_embedding_qat_qconfig if stage == "qat" else weight_only
    if stage == "qat":
        model = api.prepare_qat(model.train(), backend="reference")
    else:
        model = api.prepare(model.eval(), backend="reference")
    model(*float_inputs(kind))
    return model.eval()


def with_state_of(model, other):
    """`other` with the state dict of a model, by a file that is read without running anything of it."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return other


@pytest.mark.parametrize(("stage", "kind"), STAGES, ids=lambda each: getattr(each, "__name__", each))
def test_copies_pickles_and_safe_files_convert_alike(stage, kind):
    model = prepared(stage, kind)
    for module in model.modules():
        if hasattr(module, "disable_observer"):
            module.disable_observer()
    inputs = float_inputs(kind)
    results = tensors(model(*inputs))
    loaded = with_state_of(model, prepared(stage, kind, seed=1))
    converted = api.convert(model)
    expected = tensors(converted(*inputs))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert all(map(torch.equal, tensors(api.convert(other)(*inputs)), expected))
        assert all(map(torch.equal, tensors(other(*inputs)), results))
    loaded = with_state_of(converted, api.convert(prepared(stage, kind, seed=2)))
    for other in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted)), loaded):
        assert all(map(torch.equal, tensors(other(*inputs)), expected))
