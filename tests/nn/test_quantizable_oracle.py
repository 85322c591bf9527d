"""LSTM and MultiheadAttention through prepare and convert, against torch's own flow: bit for bit."""

from __future__ import annotations

import warnings

import pytest
import torch

from qcore import api
from qcore.api import qconfig as qconfigs
from tests import oracle
from tests.nn.quantizable_models import Attending, Recurrent, batches

pytestmark = pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing() or "-")

# What differs from torch, and is left out here: with batch_first, torch's attention mixes up heads and steps; with
# add_bias_kv, it rounds the extra key and value twice.
CASES = [
    (Recurrent, {}),
    (Recurrent, {"num_layers": 2, "bias": False}),
    (Recurrent, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    (Attending, {}),
    (Attending, {"bias": False}),
    (Attending, {"add_zero_attn": True}),
]


def pair(kind, settings, preset):
    import torch.ao.quantization as their_api

    models = []
    for package, presets in ((api, qconfigs), (their_api, their_api)):
        torch.manual_seed(0)
        model = kind(package, **settings)
        model.qconfig = getattr(presets, preset)
        models.append(model)
    return models


@pytest.mark.parametrize("preset", ["default_qconfig", "default_per_channel_qconfig"])
@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_static_quantization(kind, settings, preset):
    import torch.ao.quantization as their_api

    ours, theirs = (model.eval() for model in pair(kind, settings, preset))
    with oracle.engine(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = api.prepare(ours), their_api.prepare(theirs)
        for x in batches(ours):
            for mine, their in zip(ours(x), theirs(x), strict=True):
                assert torch.equal(mine, their)
        ours, theirs = api.convert(ours), their_api.convert(theirs)
        for x in batches(kind):
            for mine, their in zip(ours(x), theirs(x), strict=True):
                assert torch.equal(mine, their)
