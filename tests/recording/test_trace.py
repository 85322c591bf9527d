"""torch.jit.trace and torch.jit.script of converted models: the same numbers, also saved, in a fresh process."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
from torch import nn

import qcore
from tests.api.saved_models import SAVED
from tests.backends import USABLE
from tests.nn.every_module import SAMPLES, tensors

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::DeprecationWarning"),
    pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's tracer needs its legacy stack"),
]

MODELS = ["eager-ConvNet", "eager-Residual", "eager-Activations", "graph-Residual", "graph-Gated", "graph-Shared"]
MODELS += ["parts", "dynamic-int8", "dynamic-float16", "tables-4", "plain"]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def reloaded(script):
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_of_a_model_computes_the_same(name):
    model, _, inputs = SAVED[name](USABLE[0])
    with torch.no_grad():
        traced = reloaded(torch.jit.trace(model, inputs))
        assert "qcore::" in str(traced.inlined_graph)
        other = tuple(x.flip(0) for x in inputs)
        for given in (inputs, other):
            assert_equal(tensors(traced(*given)), tensors(model(*given)))


def integers(value):
    return value.int_repr() if isinstance(value, qcore.QTensor) else value


class Plain(nn.Module):
    """A module of one input with plain tensors at both ends."""

    def __init__(self, module, qparams):
        super().__init__()
        self.module = module
        self.qparams = qparams

    def forward(self, *inputs):
        first = inputs[0] if self.qparams is None else qcore.QTensor(inputs[0], self.qparams, self.module.backend)
        result = self.module(first, *inputs[1:])
        return tuple(integers(each) for each in tensors(result))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_trace_of_every_module_computes_the_same_on_integers(name):
    torch.manual_seed(0)
    module, inputs = SAMPLES[name].build(), SAMPLES[name].inputs()
    module.backend = USABLE[0]
    first = inputs[0]
    whole = Plain(module, first.qparams if isinstance(first, qcore.QTensor) else None)
    plain = (integers(first), *inputs[1:])
    with torch.no_grad():
        traced = torch.jit.trace(whole, plain, check_trace=False)
        assert_equal(traced(*plain), tensors(module(*inputs)))


@pytest.mark.parametrize("name", ["eager-ConvNet", "dynamic-int8"])
def test_a_trace_runs_in_a_process_that_imports_qcore(name, tmp_path):
    model, _, inputs = SAVED[name](USABLE[0])
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(model, inputs), tmp_path / "model.pt")
        torch.save((inputs, model(*inputs)), tmp_path / "expected.pt")
    code = (
        "import sys, torch, qcore; folder = sys.argv[1]; model = torch.jit.load(folder + '/model.pt');"
        "inputs, expected = torch.load(folder + '/expected.pt'); print(torch.equal(model(*inputs), expected))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_sizes_are_not_fixed_by_a_trace():
    model, _, (x,) = SAVED["eager-ConvNet"](USABLE[0])
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        assert torch.equal(traced(x[:2]), model(x[:2]))


class Scripted(nn.Module):
    """Control flow around layers on floats, of which a trace would keep one branch."""

    def __init__(self):
        super().__init__()
        self.enter, self.lstm, self.out = nn.Linear(4, 6), nn.LSTM(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        y = self.enter(x)
        if float(x.sum()) > 0:
            y = -y
        return self.out(self.lstm(y)[0])


@pytest.mark.parametrize("dtype", [qcore.qint8, torch.float16])
def test_layers_on_floats_are_scripted(dtype):
    model = qcore.quantize_dynamic(Scripted().eval(), dtype=dtype)
    scripted = reloaded(torch.jit.script(model))
    for sign in (1, -1):
        x = sign * torch.rand(3, 2, 4)
        with torch.no_grad():
            assert torch.equal(scripted(x), model(x))
            assert torch.equal(scripted(x[:, :1]), model(x[:, :1]))


def test_tables_are_scripted():
    model, _, inputs = SAVED["tables-8"](USABLE[0])
    assert torch.equal(torch.jit.script(model)(*inputs), model(*inputs))


def test_layers_on_quantized_tensors_are_refused_by_script_in_words():
    model, _, _ = SAVED["eager-ConvNet"](USABLE[0])
    with pytest.raises(qcore.UnsupportedError, match=r"torch\.jit\.script has no quantized tensors.*torch\.jit\.trace"):
        torch.jit.script(model)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_tensor_quantized_per_channel_is_refused_in_words():
    def function(x):
        return qcore.quantize_per_channel(x, torch.ones(2), torch.zeros(2), 0, qcore.qint8).dequantize()

    with pytest.raises(qcore.UnsupportedError, match="quantized per channel cannot be traced"):
        torch.jit.trace(function, torch.ones(2, 3), check_trace=False)
