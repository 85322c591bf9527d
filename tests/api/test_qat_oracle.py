"""prepare_qat, training and convert against torch's own flow."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qcore import api
from qcore.api import fake_quantize as fq
from qcore.api import qconfig as qconfigs
from qcore.nn.qat import dynamic as nnqatd
from qcore.nn.quantized import dynamic as nnqd
from tests import oracle
from tests.api.eager_models import MODELS, Residual, Stubbed, twins
from tests.api.test_qat import Perceptron, train


class WithoutConv1d(Stubbed):
    """1-D convolutions that torch trains too: it has no QAT form of a plain Conv1d; input (batch, 5, 16)."""

    FUSE = [["c1", "b1", "r1"], ["c2", "b2"]]
    SHAPE = (5, 16)

    def __init__(self, api):
        super().__init__(api)
        self.c1, self.b1, self.r1 = nn.Conv1d(5, 6, 3, padding=2), nn.BatchNorm1d(6), nn.ReLU()
        self.c2, self.b2 = nn.Conv1d(6, 4, 2, stride=2), nn.BatchNorm1d(4)

    def body(self, x):
        return self.b2(self.c2(self.r1(self.b1(self.c1(x)))))


class ResidualRelu(Residual):
    """Residual without ReLU6: torch fake-quantizes that a second time in training, with a scale that is never used."""

    def __init__(self, api):
        super().__init__(api)
        self.relu6 = nn.ReLU()


TRAINED = [kind for kind in MODELS if kind.__name__ not in ("Conv1dNet", "Residual")]
TRAINED += [ResidualRelu, Perceptron, WithoutConv1d]


CONFIGS = {
    "per tensor, 7 bits": ("default_qat_qconfig", ()),
    "fused": ("default_qat_qconfig_v2", ()),
    "fused, per channel": (None, ("default_fused_act_fake_quant", "default_fused_per_channel_wt_fake_quant")),
}


def config(name, configs, fake_quants):
    preset, parts = CONFIGS[name]
    return getattr(configs, preset) if preset else configs.QConfig(*(getattr(fake_quants, part) for part in parts))


@pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing() or "-")
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", TRAINED, ids=lambda kind: kind.__name__)
def test_training_and_conversion_equal_torchs(kind, name):
    import torch.ao.quantization as their_api
    from torch.ao.quantization import fake_quantize as their_fq

    ours, theirs = (model.train() for model in twins(kind, 0))
    ours.qconfig = config(name, qconfigs, fq)
    theirs.qconfig = config(name, their_api, their_fq)
    with oracle.engine():
        if kind.FUSE:
            ours = api.fuse_modules_qat(ours, kind.FUSE)
            theirs = their_api.fuse_modules_qat(theirs, kind.FUSE)
        ours = api.prepare_qat(ours)
        theirs = their_api.prepare_qat(theirs)
        assert train(ours, kind.SHAPE) == train(theirs, kind.SHAPE)
        x = torch.randn(16, *kind.SHAPE)
        assert torch.equal(ours(x), theirs(x))
        quantized, their_quantized = api.convert(ours), their_api.convert(theirs)
        if oracle.saturates() and "7 bits" not in name:
            pytest.skip("torch's engine saturates on this CPU")
        assert torch.equal(quantized(x), their_quantized(x))


def test_dynamic_training_equals_torchs():
    their_qatd = pytest.importorskip("torch.ao.nn.qat.dynamic", reason="torch's own modules are the oracle")
    import torch.ao.quantization as their_api
    from torch.ao.quantization import qconfig as their_qconfigs

    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).train()

    ours, theirs = net(), net()
    ours.qconfig = qconfigs.default_dynamic_qat_qconfig
    theirs.qconfig = their_qconfigs.default_dynamic_qat_qconfig
    ours = api.prepare_qat(ours, {nn.Linear: nnqatd.Linear}, backend="reference")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = their_api.prepare_qat(theirs, {nn.Linear: their_qatd.Linear})
    assert type(ours[0]) is nnqatd.Linear
    assert train(ours, (6,)) == train(theirs, (6,))
    x = torch.randn(5, 6)
    assert torch.equal(ours(x), theirs(x))
    quantized = api.convert(ours)
    assert type(quantized[2]) is nnqd.Linear
    assert F.mse_loss(quantized(x), ours(x)) < 1e-3
