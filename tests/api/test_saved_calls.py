"""Files hold what graphs call, of torch's functions on tensors; nothing that reads where its arguments say."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

import qcore
from qcore.fx.callables import functions, methods

CALLS = {
    "fields of several results": lambda y: y.max(1, keepdim=True).values + y.sort(1).indices,
    "fft": lambda y: torch.fft.rfft(y).abs(),
    "linalg": lambda y: torch.linalg.vector_norm(y, dim=-1),
    "special": lambda y: torch.special.expit(y),
    "unflatten": lambda y: y.unflatten(-1, (2, 2)),
    "math": lambda y: y / math.sqrt(y.size(-1)),
    "complex": lambda y: (y * 1j).imag,
    "made": lambda y: y + y.new_tensor([1.0, 2.0, 3.0, 4.0]),
}


class Model(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call
        self.fc = nn.Linear(4, 4)

    def forward(self, x, more=None):
        y = self.fc(x)
        return self.call(y if more is None else y + more["a"] * more["b"])


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("more", [(), (OrderedDict(a=torch.ones(4), b=2.0),)], ids=["", "with a container"])
def test_a_graph_comes_back_with_what_it_calls(name, more, tmp_path):
    inputs = (torch.randn(3, 4), *more)
    prepared = qcore.prepare(Model(CALLS[name]).eval(), example_inputs=inputs, backend="reference")
    prepared(*inputs)
    model = qcore.convert(prepared)
    qcore.save(model, tmp_path / "model.qcore")
    again = qcore.load(tmp_path / "model.qcore")
    assert torch.equal(model(*inputs), again(*inputs))
    assert [(p, n) for p, n, _ in again.qcore_fixed] == [(p, n) for p, n, _ in model.qcore_fixed]
    if more:
        with pytest.raises(qcore.ArgumentError, match="was made for more="):
            again(inputs[0], dict(more[0]))


def test_layers_that_stay_float_keep_their_dtype(tmp_path):
    model = qcore.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1)).eval().double())
    qcore.save(model, tmp_path / "model.qcore")
    assert qcore.load(tmp_path / "model.qcore")[1].weight.dtype is torch.float64


def test_nothing_that_reads_where_its_arguments_say_is_on_the_list():
    assert not {name for name in (*functions(), *methods()) if "ctc_loss" in name or "as_strided" in name}
