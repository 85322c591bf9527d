"""Recurrent modules whose inputs and states are quantized row by row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore
from qcore.api.observer import PlaceholderObserver, default_per_channel_weight_observer
from tests.backends import USABLE
from tests.nn.every_module import tensors

BY_ROW = qcore.QConfig(
    PlaceholderObserver.with_args(dtype=qcore.quint8, is_dynamic=True, qscheme=qcore.per_channel_affine),
    default_per_channel_weight_observer,
)
MODELS = {
    "LSTM": lambda: nn.LSTM(5, 20, 2, bidirectional=True, batch_first=True),
    "GRU": lambda: nn.GRU(5, 20, batch_first=True),
    "LSTMCell": lambda: nn.LSTMCell(5, 20),
    "GRUCell": lambda: nn.GRUCell(5, 20),
    "RNNCell": lambda: nn.RNNCell(5, 20),
}


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_does_not_depend_on_its_neighbours(name, backend):
    torch.manual_seed(0)
    model = qcore.quantize_dynamic(nn.Sequential(MODELS[name]()).eval(), {"": BY_ROW}, backend=backend)
    x = torch.randn(4, 7, 5) if name in ("LSTM", "GRU") else torch.randn(4, 5)
    x[2] *= 100
    loaded = qcore.quantize_dynamic(nn.Sequential(MODELS[name]()).eval(), backend=backend)
    loaded.load_state_dict(model.state_dict())
    for each in (model, loaded):
        together, alone = tensors(each(x))[0], tensors(each(x[:1]))[0]
        assert torch.equal(together[:1], alone)
    model[0].per_row = False
    model[0].backend = backend
    assert not torch.equal(tensors(model(x))[0][:1], alone)
