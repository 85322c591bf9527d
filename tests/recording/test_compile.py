"""torch.compile gives the same numbers; modules on floats, and exported models, are compiled as one graph."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import qcore
from qcore.nn.quantized import FloatFunctional
from tests.api.saved_models import SAVED
from tests.backends import USABLE
from tests.nn.every_module import SAMPLES, tensors

pytestmark = [
    pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's tracer and compiler need its legacy stack"),
]

recurrent = pytest.mark.skipif(
    torch.torch_version.TorchVersion(torch.__version__) < (2, 13),
    reason="compilers before torch 2.13 (2.9 is known to) break the graph at the operators of recurrent layers",
)


class Residual(nn.Module):
    """Layers, functions, and methods on quantized tensors between them, and float parts around."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = qcore.QuantStub(), qcore.DeQuantStub()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.plus = FloatFunctional()
        self.last = nn.Linear(48, 4)

    def forward(self, x):
        x = self.quant(torch.tanh(x) * 3)
        x = torch.relu(self.first(x))
        x = self.norm(self.plus.add(x, self.second(x)))
        x = torch.nn.functional.max_pool2d(x, 2)
        return torch.softmax(self.dequant(self.last(x.flatten(1))), -1)


def static(backend):
    torch.manual_seed(0)
    prepared = qcore.prepare(Residual().eval(), backend=backend)
    x = torch.randn(2, 3, 8, 8)
    prepared(x)
    return qcore.convert(prepared), x


def dynamic(backend):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)).eval()
    return qcore.quantize_dynamic(layers, backend=backend), torch.randn(2, 5, 8)


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("make", [static, dynamic])
def test_a_compiled_model_gives_the_same_numbers(make, backend):
    model, x = make(backend)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        for sample in (x, 2 * x):
            assert torch.equal(compiled(sample), model(sample))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=recurrent if any(cell in name for cell in ("LSTM", "GRU", "RNN")) else ())
        for name in SAMPLES
        if name.startswith("dynamic")
    ],
)
def test_modules_on_floats_are_in_the_graph(name):
    torch.manual_seed(0)
    module, inputs = SAMPLES[name].build(), SAMPLES[name].inputs()
    module.backend = USABLE[0]
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        found = tensors(compiled(*inputs))
        assert module._kernel is None
        assert all(torch.equal(*pair) for pair in zip(found, tensors(module(*inputs)), strict=True))


@recurrent
def test_a_dynamic_model_is_one_graph():
    model, _, inputs = SAVED["dynamic-int8"](USABLE[0])
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(*inputs), model(*inputs))


def test_an_exported_static_model_is_one_graph():
    model, _, inputs = SAVED["eager-Residual"](USABLE[0])
    torch._dynamo.reset()
    with torch.no_grad():
        exported = torch.export.export(model, inputs).module()
        compiled = torch.compile(exported, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(*inputs), model(*inputs))


def test_importing_and_running_needs_no_compiler():
    code = (
        "import sys, torch; before = set(sys.modules); import qcore;"
        "model = qcore.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 4)));"
        "model(torch.randn(1, 4)); print(sorted({'torch._dynamo', 'rich', 'pytest'} & set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
