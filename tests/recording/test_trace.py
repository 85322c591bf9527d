"""torch.jit.trace and torch.jit.script of converted models: the same numbers, also saved, in a fresh process."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.qconfig import get_default_qconfig
from qcore.nn.quantized import FloatFunctional
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


def sample(name):
    """A module and its inputs; then the module between integers, and those."""
    torch.manual_seed(0)
    module, inputs = SAMPLES[name].build(), SAMPLES[name].inputs()
    module.backend = USABLE[0]
    first = inputs[0]
    whole = Plain(module, first.qparams if isinstance(first, qcore.QTensor) else None)
    return module, inputs, whole, (integers(first), *inputs[1:])


@pytest.mark.parametrize("name", SAMPLES)
def test_a_trace_of_every_module_computes_the_same_on_integers(name):
    module, inputs, whole, plain = sample(name)
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
    scripted = reloaded(qcore.script(model))
    for sign in (1, -1):
        x = sign * torch.rand(3, 2, 4)
        with torch.no_grad():
            assert torch.equal(scripted(x), model(x))
            assert torch.equal(scripted(x[:, :1]), model(x[:, :1]))


def test_tables_are_scripted():
    model, _, inputs = SAVED["tables-8"](USABLE[0])
    assert torch.equal(qcore.script(model)(*inputs), model(*inputs))


@pytest.mark.parametrize(
    "name", [name for name in MODELS if name.startswith(("eager", "graph")) and name != "eager-Residual"]
)
def test_static_models_are_scripted(name):
    model, _, inputs = SAVED[name](USABLE[0])
    with torch.no_grad():
        model(*inputs)
        scripted = reloaded(qcore.script(model))
        assert "qcore::" in str(scripted.inlined_graph)
        for given in (inputs, tuple(x.flip(0)[:2] for x in inputs)):
            assert_equal(tensors(scripted(*given)), tensors(model(*given)))


def test_averages_of_scripted_models_are_within_a_step():
    model, _, inputs = SAVED["eager-Residual"](USABLE[0])
    with torch.no_grad():
        expected, found = model(*inputs), qcore.script(model)(*inputs)
    step_at_the_averages = model.cat.scale * model.fc.weight().dequantize().abs().sum(1)
    assert ((found - expected).abs() <= step_at_the_averages + model.fc.scale).all()


class Branching(nn.Module):
    """Control flow on values, functions between layers, and methods of functionals, one of them never called."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = qcore.QuantStub(), qcore.DeQuantStub()
        self.first, self.second, self.never = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(4, 4)
        self.sum, self.times, self.join = FloatFunctional(), FloatFunctional(), FloatFunctional()
        self.last = nn.Linear(8, 5)

    def forward(self, x, other: bool = False):
        loud = bool(x.sum() > 0)
        x = self.quant(x)
        y = F.relu(self.first(x))
        y = self.sum.add(y, self.second(y))
        y = self.times.mul(y, y) if loud else self.times.mul_scalar(y, 2.0)
        y = F.max_pool2d(y, 2).mean([2, 3])
        if other:
            y = self.never(y)
        return self.dequant(self.last(self.join.cat([y, y], 1)))


@pytest.fixture
def branching():
    torch.manual_seed(0)
    model = Branching().eval()
    model.qconfig = get_default_qconfig()
    model.never.qconfig = None
    prepared = qcore.prepare(model)
    prepared(torch.rand(8, 3, 6, 6))
    return qcore.convert(prepared)


def test_control_flow_of_static_models_is_scripted(branching):
    x = torch.rand(2, 3, 6, 6)
    with torch.no_grad():
        expected = branching(x)
        scripted = reloaded(qcore.script(branching))
        assert torch.equal(scripted(x), expected)
        assert torch.equal(scripted(x[:1, :, :4]), branching(x[:1, :, :4]))


def test_what_was_not_called_before_scripting_says_so_when_called(branching):
    scripted = qcore.script(branching)
    with pytest.raises(torch.jit.Error, match="was not called so before: run the model once on an example"):
        scripted(torch.rand(1, 3, 4, 4))


def test_a_module_called_with_different_scales_is_refused_by_script_in_words():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.dequant, self.layer = qcore.QuantStub(), qcore.DeQuantStub(), nn.Linear(4, 4)

        def forward(self, x):
            return self.dequant(self.layer(self.layer(self.quant(x))))

    model = Twice().eval()
    model.qconfig = get_default_qconfig()
    prepared = qcore.prepare(model)
    prepared(torch.rand(8, 4))
    converted = qcore.convert(prepared)
    converted(torch.rand(8, 4))
    with pytest.raises(qcore.UnsupportedError, match=r"module 'layer'.*different scales.*torch\.jit\.trace"):
        qcore.script(converted)


def test_scripting_leaves_the_model_as_it_is(branching):
    modules = list(branching.named_modules())
    branching(torch.rand(1, 3, 6, 6))
    qcore.script(branching)
    assert list(branching.named_modules()) == modules
    with pytest.raises(qcore.UnsupportedError, match=r"change this model.*qcore\.script"):
        torch.jit.script(branching)
    assert list(branching.named_modules()) == modules


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_tensor_quantized_per_channel_is_refused_in_words():
    def function(x):
        return qcore.quantize_per_channel(x, torch.ones(2), torch.zeros(2), 0, qcore.qint8).dequantize()

    with pytest.raises(qcore.UnsupportedError, match="quantized per channel cannot be traced"):
        torch.jit.trace(function, torch.ones(2, 3), check_trace=False)


def resized(x, y):
    return F.interpolate(y[:, :, ::2, ::2], size=x.shape[-2:])


def scaled(x, y):
    return F.interpolate(y, scale_factor=(x.shape[2] / 4, x.size(3) / 4))


def pooled(x, y):
    return F.avg_pool2d(y, x.shape[2:])


def pooled_by_one_size(x, y):
    return F.max_pool2d(y, x.size(2) // 2)


def pooled_to(x, y):
    return F.adaptive_avg_pool2d(y, (x.shape[2] // 2, 1))


class BySizes(nn.Module):
    """A convolution, and a function of its result whose arguments are sizes of the input."""

    def __init__(self, body):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, 4, 1), body

    def forward(self, x):
        return self.body(x, self.conv(x))


@pytest.mark.parametrize("body", [resized, scaled, pooled, pooled_by_one_size, pooled_to])
def test_sizes_of_the_input_are_arguments_in_traces_and_exports(body):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    prepared = qcore.prepare(BySizes(body).eval(), example_inputs=(x,), backend=USABLE[0])
    prepared(x)
    model = qcore.convert(prepared)
    traced = torch.jit.trace(model, (x,))
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    for given in (x, torch.randn(3, 3, 8, 8)):
        assert torch.equal(traced(given), model(given))
        assert torch.equal(exported(given), model(given))
