"""What drawn models have found in graph mode: each cause, with values drawn anew for each seed."""

from __future__ import annotations

import copy
import math
import random

import pytest
import torch
from torch import nn

import qcore
from qcore.api.fake_quantize import disable_observer
from qcore.api.qconfig import get_default_dynamic_qconfig, get_default_qat_qconfig, get_default_qconfig
from qcore.api.qconfig_mapping import get_default_qat_qconfig_mapping, get_default_qconfig_mapping


def converted(model, x, *others, backend="reference"):
    prepared = qcore.prepare(model.eval(), example_inputs=(x, *others), backend=backend)
    prepared(x, *others)
    return qcore.convert(prepared)


def near(model, found, x, *others):
    right = model(x, *others)
    assert (right - found(x, *others)).abs().max() < 0.05 * right.abs().max()


@pytest.mark.parametrize("seed", range(12))
def test_an_activation_called_several_times_is_several_operations(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(rng.randint(2, 4)))
            self.act = getattr(nn, rng.choice(["GELU", "Sigmoid", "Tanh", "Hardswish", "ReLU", "SiLU", "ELU"]))()

        def forward(self, x):
            for layer in self.layers:
                x = self.act(layer(x))
            return x

    model, x = Model().eval(), torch.randn(16, 6)
    near(model, converted(model, x), x)


@pytest.mark.parametrize("name", ["dim", "size", "numel", "chunk", "stride", "relu", "add"])
def test_an_argument_named_as_a_method_is_an_argument(name):
    space = {"nn": nn, "torch": torch}
    code = f"def forward(self, x, {name}=1): return torch.relu(self.b(self.a(x)))"
    exec(code, space)
    model = type("Model", (nn.Module,), {"forward": space["forward"]})()
    model.a, model.b = nn.Linear(6, 6), nn.Linear(6, 6)
    x = torch.randn(16, 6)
    near(model, converted(model, x, 1), x, 1)


def test_a_layer_called_by_keyword():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x):
            return self.a(input=x).relu()

    model, x = Model(), torch.randn(16, 6)
    near(model, converted(model, x), x)


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d])
@pytest.mark.parametrize(("groups", "out"), [(2, 4), (2, 2), (4, 4)])
def test_a_batch_norm_behind_a_transposed_convolution_in_groups(kind, groups, out):
    torch.manual_seed(groups + out)
    norm = (nn.BatchNorm1d if kind is nn.ConvTranspose1d else nn.BatchNorm2d)(out)
    nn.init.normal_(norm.weight), norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    model = nn.Sequential(kind(8, out, 3, groups=groups), norm).eval()
    x = torch.randn(2, 8, *[5] * (1 if kind is nn.ConvTranspose1d else 2))
    assert torch.allclose(qcore.fuse_fx(model)(x), model(x), atol=1e-5)


def test_a_batch_norm_of_three_dimensions_is_not_one_of_features():
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)).eval()
    model[1].running_mean.normal_(), model[1].running_var.uniform_(0.2, 3)
    x = torch.randn(8, 6, 6)
    near(model, converted(model, x), x)


def test_in_training_a_product_with_a_number_clips_nothing():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x):
            return self.a(x) * math.pi

    x = torch.randn(16, 6)
    prepared = qcore.prepare_qat_fx(Model().train(), example_inputs=(x,))
    prepared(x)
    prepared.eval()
    near(prepared, qcore.convert_fx(copy.deepcopy(prepared)), x)


def test_compile_leaves_what_it_cannot_trace_to_modules():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x):
            return self.a(x / max(1.0, float(x.abs().mean())))

    x = torch.randn(16, 6)
    model = qcore.quantize_dynamic(Model().eval())
    found = qcore.compile(model, (x,))
    assert torch.equal(found(x), model(x))
    assert "not compiled, as it cannot be traced" in str(qcore.report(found))
    assert "not compiled" not in str(qcore.report(model))


def test_fewer_pieces_than_the_example_had_are_told():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2)

        def forward(self, x):
            return self.a(torch.stack(list(x.chunk(4, 1))).sum(0))

    compiled = qcore.compile(qcore.quantize_dynamic(Model().eval()), (torch.randn(3, 8),))
    with pytest.raises(qcore.QcoreError, match="pieces"):
        compiled(torch.randn(3, 5))


BETWEEN = {
    "nothing": lambda y: y,
    "transpose": lambda y: y.transpose(0, 1),
    "slice": lambda y: y[1:],
    "product": lambda y: y * 0.5,
    "quotient": lambda y: y / 2,
    "sum": lambda y: y + 0.5,
    "relu": torch.relu,
    "cat": lambda y: torch.cat([y, y], 2)[..., :8],
}


@pytest.mark.parametrize("is_qat", [False, True])
@pytest.mark.parametrize("between", BETWEEN)
def test_an_lstm_in_parts_takes_what_is_moved_or_scaled_before_it(between, is_qat):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.LSTM(8, 8), nn.LSTM(8, 4)

        def forward(self, x):
            return self.second(BETWEEN[between](self.first(x)[0]))[0]

    torch.manual_seed(0)
    model, x = Two(), torch.randn(5, 3, 8)
    mapping = get_default_qat_qconfig_mapping() if is_qat else get_default_qconfig_mapping()
    make = get_default_qat_qconfig if is_qat else get_default_qconfig
    mapping.set_object_type(nn.LSTM, make())
    prepare = qcore.prepare_qat_fx if is_qat else qcore.prepare_fx
    prepared = prepare(copy.deepcopy(model).train(is_qat), mapping, (x,)).eval()
    for _ in range(2):
        prepared(x)
    prepared.apply(disable_observer)
    right = prepared(x) if is_qat else model.eval()(x)  # averages of ranges clip a state that grows; both models clip
    quantized = qcore.convert_fx(prepared)
    assert {row.outcome for row in quantized.qcore_report if row.float_type == "LSTM"} == {"quantized"}
    assert (quantized(x) - right).pow(2).sum() < 0.01 * right.pow(2).sum()  # 20 dB


@pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's tracer needs its legacy stack")
@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::DeprecationWarning")
@pytest.mark.parametrize("bias", [True, False])
def test_weights_of_quantized_layers_that_code_reads_itself(bias):
    """What records a call records the weight."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6, bias=bias), nn.Linear(6, 6)

        def forward(self, x):
            y = torch.tanh(x)
            return torch.nn.functional.linear(y, self.a.weight, self.a.bias) + self.b(self.a(y))

    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(16, 6)
    found = qcore.quantize_dynamic(model, backend="reference")
    near(model, found, x)
    right = found(x)
    assert torch.equal(torch.jit.trace(found, (x,), check_trace=False)(x), right)
    assert torch.equal(torch.export.export(found, (x,)).module()(x), right)


def test_a_call_leaves_the_state_as_it_was():
    """Though code outside of the parts that are compiled reads what a layer there holds, and calls the layer."""

    class Looped(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x):
            for _ in range(min(2, x.shape[0] + 1)):
                x = x * 0.9
            x = x.to(torch.bfloat16).type_as(x)
            return torch.nn.functional.linear(x, self.a.weight, self.a.bias) + self.a(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.looped, self.norm = Looped(), nn.LayerNorm(6)
            self.rest = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))

        def forward(self, x):
            return self.norm(self.rest(x)) + self.looped(x)

    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(16, 6)
    found = converted(model, x, backend="auto")
    before = list(found.state_dict())
    near(model, found, x)
    assert list(found.state_dict()) == before


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("with_norm", [False, True])
def test_what_no_kernel_runs_is_left_float_where_only_a_default_asks_for_it(with_norm):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(6) if with_norm else nn.Identity()
            self.lstm = nn.LSTM(6, 4, proj_size=3)

        def forward(self, x):
            return self.lstm(self.norm(x))[0]

    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(5, 2, 6)
    found = converted(model, x)
    (row,) = (row for row in found.qcore_report if row.path == "lstm")
    assert row.outcome == "float" and "no kernel projects" in row.reason
    near(model, found, x)
    mapping = get_default_qconfig_mapping("reference").set_object_type(
        nn.LSTM, get_default_dynamic_qconfig("reference")
    )
    with pytest.raises(qcore.QuantizationError, match=r"'lstm'.*no kernel projects"):
        qcore.prepare_fx(model, mapping, (x,), backend="reference")


class Flattening(nn.Module):
    """A forward that cannot be traced, which calls a method of a layer's own."""

    def __init__(self, kind):
        super().__init__()
        self.layer = kind(4, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        assert x.abs().max() < 1e6
        self.layer.flatten_parameters()
        return self.last(self.layer(x)[0])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("is_root", [True, False])
def test_code_around_a_layer_calls_its_methods(kind, is_root):
    torch.manual_seed(0)
    model, x = Flattening(kind).eval(), torch.randn(5, 3, 4)
    model = model if is_root else nn.Sequential(nn.Linear(4, 4), model).eval()
    right = model(x)
    for prepare in (
        lambda: qcore.prepare(model, example_inputs=(x,)),
        lambda: qcore.prepare_qat_fx(copy.deepcopy(model).train(), None, (x,)).eval(),
    ):
        prepared = prepare()
        prepared(x)
        found = qcore.convert(prepared)(x)
        assert 10 * torch.log10(right.square().sum() / (right - found).square().sum()) > 20
