"""torch.jit.trace is refused, since native kernels are invisible to it; torch.compile gives the same numbers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import qcore
from qcore.nn.quantized import FloatFunctional
from tests.backends import USABLE
from tests.nn.every_module import SAMPLES, tensors

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning"),
    pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's tracer and compiler need its legacy stack"),
]

KERNELS = [name for name in SAMPLES if not name.endswith("ReLU6")]
"""Those that run a kernel; torch's own clamp can be recorded."""


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
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    return qcore.quantize_dynamic(layer, backend=backend), torch.randn(2, 5, 8)


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("make", [static, dynamic])
def test_a_compiled_model_gives_the_same_numbers(make, backend):
    model, x = make(backend)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        for sample in (x, 2 * x):
            assert torch.equal(compiled(sample), model(sample))


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("name", KERNELS)
def test_no_module_can_be_traced(name, backend):
    module, inputs = SAMPLES[name].build(), SAMPLES[name].inputs()
    module.backend = backend

    class Whole(nn.Module):
        def forward(self, x):
            return tensors(module(*inputs))[0] + x

    with pytest.raises(qcore.UnsupportedError, match=r"torch\.jit\.trace cannot record"):
        torch.jit.trace(Whole(), torch.ones(1), check_trace=False)


def test_operators_on_quantized_tensors_cannot_be_traced():
    def function(x):
        return qcore.quantize_per_tensor(x, 0.1, 0, qcore.quint8).dequantize()

    with pytest.raises(qcore.UnsupportedError, match="cannot record quantize"):
        torch.jit.trace(function, torch.ones(3), check_trace=False)


def test_importing_and_running_needs_no_compiler():
    code = (
        "import sys, torch; before = set(sys.modules); import qcore;"
        "model = qcore.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 4)));"
        "model(torch.randn(1, 4)); print(sorted({'torch._dynamo', 'rich', 'pytest'} & set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
