"""Layers in every form: weights that hooks make, half precision, activations without a kernel, hooks, keywords."""

from __future__ import annotations

import copy
import inspect
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

import qcore

X2 = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def snr(right, got):
    assert right.shape == got.shape
    right, got = right.detach().double(), got.detach().double()
    return float(10 * torch.log10(right.pow(2).sum() / ((right - got).pow(2).sum() + 1e-30)))


def stubs(*layers):
    return nn.Sequential(qcore.QuantStub(), *layers, qcore.DeQuantStub()).eval()


def eager(model, *inputs, inplace=False):
    prepared = qcore.prepare(model, inplace=inplace)
    with torch.no_grad():
        prepared(*inputs)
    return qcore.convert(prepared, inplace=inplace)


def graph(model, *inputs):
    prepared = qcore.prepare(model, example_inputs=inputs)
    with torch.no_grad():
        prepared(*inputs)
    return qcore.convert(prepared)


# --- weights that hooks make ----------------------------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def old(function):
    def wrap(layer, name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(layer, name)

    return wrap


WRAPS = {
    "l1": lambda layer, name: prune.l1_unstructured(layer, name, 0.5),
    "twice": lambda layer, name: [prune.random_unstructured(layer, name, 0.3) for _ in range(2)],
    "structured": lambda layer, name: prune.ln_structured(layer, name, 0.5, n=2, dim=0),
    "old weight norm": old(torch.nn.utils.weight_norm),
    "old spectral norm": old(torch.nn.utils.spectral_norm),
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "own": lambda layer, name: parametrize.register_parametrization(layer, name, Doubled()),
}
LAYERS = {
    "Linear": (lambda: nn.Linear(6, 5), "weight", torch.randn(4, 6)),
    "LSTM": (lambda: nn.LSTM(6, 5), "weight_hh_l0", torch.randn(4, 2, 6)),
    "GRU": (lambda: nn.GRU(6, 5), "weight_ih_l0", torch.randn(4, 2, 6)),
    "GRUCell": (lambda: nn.GRUCell(6, 5), "weight_hh", torch.randn(4, 6)),
    "Embedding": (lambda: nn.Embedding(9, 5), "weight", torch.tensor([1, 3, 8])),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3), "weight", X2),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3), "weight", X2),
}


def first_of(result):
    return result[0] if isinstance(result, tuple) else result


def wrapped(layer, wrap):
    torch.manual_seed(0)
    make, name, x = LAYERS[layer]
    model = nn.Sequential(make()).eval()
    WRAPS[wrap](model[0], name)
    model.eval()
    with torch.no_grad():
        right = first_of(model(x))
    return model, x, right


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("layer", [name for name in LAYERS if "Conv" not in name])
def test_dynamic_layers_hold_the_weights_that_hooks_make(layer, wrap):
    model, x, right = wrapped(layer, wrap)
    dtype = qcore.quint8 if layer == "Embedding" else qcore.qint8
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for inplace in (False, True):
        got = qcore.quantize_dynamic(model, dtype=dtype, inplace=inplace)
        assert got.qcore_report["0"].outcome == "quantized"
        assert snr(right, first_of(got(x))) > 25
        if not inplace:
            assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
            with torch.no_grad():
                assert torch.equal(first_of(model(x)), right)


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("layer", ["Linear", "Conv2d", "ConvTranspose2d"])
def test_static_layers_hold_the_weights_that_hooks_make(layer, wrap):
    model, x, right = wrapped(layer, wrap)
    assert snr(right, graph(model, x)(x)) > 20
    for inplace in (False, True):
        model, x, right = wrapped(layer, wrap)
        assert snr(right, eager(stubs(model[0]), x, inplace=inplace)(x)) > 20
    if "Conv" in layer:
        model, x, right = wrapped(layer, wrap)
        folded = qcore.fuse_modules(nn.Sequential(model[0], nn.BatchNorm2d(4).eval()).eval(), ["0", "1"])
        torch.testing.assert_close(folded(x), right / (1 + 1e-5) ** 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrap", WRAPS)
def test_training_refuses_weights_that_hooks_make_and_changes_nothing(wrap):
    model, x, right = wrapped("Conv2d", wrap)
    for prepare in (lambda m: qcore.prepare_qat(m, inplace=True), lambda m: qcore.prepare_qat_fx(m, None, (x,))):
        with pytest.raises(qcore.QuantizationError, match=r"weight of module '0'.*remove"):
            prepare(model.train())
    with torch.no_grad():
        assert torch.equal(model.eval()(x), right)


def test_a_weight_that_foreign_code_sets_is_refused():
    layer = nn.Linear(4, 3)
    weight = layer.weight.detach()
    del layer.weight
    layer.weight = weight
    layer.register_forward_pre_hook(lambda module, args: setattr(module, "weight", weight * 2))
    with pytest.raises(qcore.QuantizationError, match=r"module '0'.*weight.*pre-hook"):
        qcore.quantize_dynamic(nn.Sequential(layer).eval())


@pytest.mark.parametrize("kind", [nn.LazyLinear, nn.LazyConv2d])
def test_lazy_layers_are_refused_in_words(kind):
    layer = kind(4) if kind is nn.LazyLinear else kind(4, 3)
    model = nn.Sequential(layer).eval()
    flows = [lambda: qcore.prepare(model), lambda: qcore.prepare(model, example_inputs=(X2,))]
    for flow in [*flows, *([lambda: qcore.quantize_dynamic(model)] if kind is nn.LazyLinear else [])]:
        with pytest.raises(qcore.QuantizationError, match=r"module '0' \(Lazy.*call the model once"):
            flow()


# --- half precision -------------------------------------------------------------------------------------------------

HALVES = (torch.bfloat16, torch.float16, torch.float64)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layer", [name for name in LAYERS if "Conv" not in name])
def test_dynamic_layers_give_the_dtype_of_the_float_ones(layer, dtype, tmp_path):
    torch.manual_seed(0)
    make, _, x = LAYERS[layer]
    model = nn.Sequential(make()).to(dtype).eval()
    x = x.to(dtype) if x.is_floating_point() else x
    got = qcore.quantize_dynamic(model, dtype=qcore.quint8 if layer == "Embedding" else qcore.qint8)
    with torch.no_grad():
        right, found = first_of(model(x)), first_of(got(x))
    assert found.dtype == dtype and snr(right, found) > 25
    qcore.save(got, tmp_path / "half.qcore")
    again = first_of(qcore.load(tmp_path / "half.qcore")(x))
    assert again.dtype == dtype and torch.equal(again, found)
    assert torch.equal(first_of(copy.deepcopy(got)(x)), found)


@pytest.mark.parametrize("dtype", HALVES)
def test_parts_of_half_precision_compiled(dtype):
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8).to(dtype), nn.Linear(8, 4)

        def forward(self, x):
            return self.c(F.gelu(self.b(F.relu(self.a(x)).to(dtype))).float())

    torch.manual_seed(0)
    model, x = Parts().eval(), torch.randn(5, 6)
    quantized = qcore.quantize_dynamic(model)
    found = quantized(x)
    assert snr(model(x), found) > 25
    assert torch.equal(qcore.compile(quantized, (x,))(x), found) or snr(found, qcore.compile(quantized, (x,))(x)) > 60
    whole = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU()).to(dtype).eval()
    got = qcore.quantize_dynamic(whole)
    y = qcore.compile(got, (x.to(dtype),))(x.to(dtype))
    assert y.dtype == dtype and torch.equal(y, got(x.to(dtype)))


@pytest.mark.parametrize("dtype", HALVES)
def test_static_quantization_of_half_precision_is_refused_or_left_float_with_the_reason(dtype):
    net = lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3).to(dtype)).eval()  # noqa: E731
    x = X2.to(dtype)
    for flow in (lambda: qcore.prepare(net()), lambda: qcore.prepare_qat(net().train())):
        with pytest.raises(qcore.QuantizationError, match=r"'1'.*\.float\(\)"):
            flow()
    model = net()
    converted = graph(model, x)
    assert all(row.outcome == "float" and "float32" in row.reason for row in converted.qcore_report)
    with torch.no_grad():
        assert torch.equal(converted(x), model(x))


# --- layers without a kernel between quantized ones -----------------------------------------------------------------


def activations():
    """Every class in torch's file of activations that takes one tensor, and further layers without weights."""
    given = {"Threshold": (0.1, -0.2), "Softmax": (1,), "LogSoftmax": (1,), "Softmin": (1,), "GLU": (1,)}
    found = [kind for kind in vars(nn.modules.activation).values() if inspect.isclass(kind)]
    for kind in found:
        own = issubclass(kind, nn.Module) and kind.__module__ == nn.modules.activation.__name__
        if own and kind is not nn.MultiheadAttention:
            yield kind(*given.get(kind.__name__, ()))
    yield from (nn.LPPool2d(2, 2), nn.AdaptiveMaxPool2d(2), nn.CircularPad2d(1), nn.LocalResponseNorm(2))
    yield from (nn.AdaptiveAvgPool2d(2), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.ConstantPad2d(1, 0.3))
    yield from (
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.Dropout2d(),
        nn.Unfold(2),
        nn.PixelShuffle(2),
        nn.Upsample(None, 2),
    )


@pytest.mark.parametrize("act", list(activations()), ids=lambda act: type(act).__name__)
def test_layers_between_stubs_are_near_and_reported_as_they_are(act, tmp_path):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    model, x = stubs(layer, act), torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        right = model(x)
    model = eager(model, x)
    assert snr(right, model(x)) > 22
    before = model[:2](x)
    row, given = model.qcore_report["2"], model[2](before)
    assert isinstance(given, qcore.QTensor) == (row.outcome != "float")
    assert row.outcome == ("in float" if isinstance(model[2], qcore.nn.quantized.InFloat) else row.outcome)
    assert row.outcome in ("quantized", "in float", "passed through")
    floats = before.dequantize()
    if row.outcome == "in float":
        torch.testing.assert_close(model[2](floats), act(floats))
    qcore.save(model, tmp_path / "act.qcore")
    assert torch.equal(qcore.load(tmp_path / "act.qcore")(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


class Masked(nn.Module):
    def forward(self, x):
        return torch.where(x.relu() > 0.1, x.relu(), float("-inf"))


def test_results_that_no_range_holds_stay_float():
    model, x = stubs(nn.Linear(6, 6), Masked()), torch.randn(4, 6)
    converted = eager(model, x)
    row = converted.qcore_report["2"]
    assert row.outcome == "float" and "gives floats" in row.reason
    assert not isinstance(converted[:3](x), qcore.QTensor)
    right, got = model(x), converted(x)
    assert torch.equal(right.isinf(), got.isinf()) and snr(right[right.isfinite()], got[got.isfinite()]) > 25


# --- hooks, keywords, attributes ------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.b, self.r = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        return self.r(self.b(self.c(x)))


@pytest.mark.parametrize("kwargs", [False, True])
@pytest.mark.parametrize("trains", [False, True])
def test_hooks_of_fused_layers_run_once(trains, kwargs):
    model, seen = nn.Sequential(qcore.QuantStub(), Block(), qcore.DeQuantStub()).train(trains), []
    model[1].c.register_forward_pre_hook(lambda *given: seen.append(("pre", len(given))), with_kwargs=kwargs)
    model[1].r.register_forward_hook(lambda *given: seen.append(("post", len(given))), with_kwargs=kwargs)
    expected = [("pre", 2 + kwargs), ("post", 3 + kwargs)]
    fuse = qcore.fuse_modules_qat if trains else qcore.fuse_modules
    fused = fuse(model, ["1.c", "1.b", "1.r"])
    prepared = qcore.prepare_qat(fused) if trains else qcore.prepare(fused)
    converted = None
    for each in (model, fused, prepared, "converted"):
        if each == "converted":
            each = converted = qcore.convert(prepared.eval())
        seen.clear()
        each(X2)
        assert seen == expected
    assert converted is not None


@pytest.mark.parametrize("gammas", [[0.0, 0, 0, 0], [0.0, 1, -1, 1e-3]])
def test_batch_norm_with_gammas_at_zero_trains_as_without_rounding(gammas):
    torch.manual_seed(0)
    model = nn.Sequential(qcore.QuantStub(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), qcore.DeQuantStub()).train()
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor(gammas))
    right, weights = copy.deepcopy(model), torch.randn(4, 4, 4, 4)
    trained = qcore.prepare_qat(qcore.fuse_modules_qat(model, ["1", "2"]))
    (trained(X2) * weights).sum().backward()
    (right(X2) * weights).sum().backward()
    found = trained[1].bn.weight.grad
    assert found.isfinite().all() and snr(right[2].weight.grad[:1], found[:1]) > 20
    converted = qcore.convert(trained.eval())
    assert converted(X2).isfinite().all()


def test_layers_are_called_by_the_keywords_of_the_float_ones():
    torch.manual_seed(0)
    linear, lstm = nn.Linear(6, 5), nn.LSTM(6, 5)
    model = nn.ModuleDict({"linear": linear, "lstm": lstm, "cell": nn.LSTMCell(6, 5)}).eval()
    got, x = qcore.quantize_dynamic(model), torch.randn(4, 2, 6)
    state = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    assert snr(linear(x), got["linear"](input=x)) > 25
    assert snr(lstm(input=x, hx=state)[0], got["lstm"](input=x, hx=state)[0]) > 25
    table = qcore.quantize_dynamic(nn.Sequential(nn.Embedding(9, 4)), dtype=qcore.quint8)
    assert torch.equal(table[0](input=torch.tensor([3])), table(torch.tensor([3])))


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_layers_without_a_batch(kind, state):
    torch.manual_seed(0)
    model = nn.Sequential(kind(6, 5)).eval()
    got, cell = qcore.quantize_dynamic(model), "Cell" in kind.__name__
    x = torch.randn(6) if cell else torch.randn(4, 6)
    one = torch.randn(5) if cell else torch.randn(1, 5)
    args = (x, ((one, -one) if "LSTM" in kind.__name__ else one)) if state else (x,)
    found, right = got[0](*args), model[0](*args)
    for a, b in zip(_flat(right), _flat(found), strict=True):
        assert snr(a, b) > 25


def _flat(value):
    return [each for part in value for each in _flat(part)] if isinstance(value, tuple) else [value]


def test_an_lstm_in_parts_takes_sequences_without_a_batch():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.d, self.l = qcore.QuantStub(), qcore.DeQuantStub(), nn.LSTM(6, 5, 2, bidirectional=True)

        def forward(self, x):
            self.l.flatten_parameters()
            y, (h, c) = self.l(self.q(x))
            return self.d(y), self.d(h), self.d(c)

    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(7, 6)
    with torch.no_grad():
        for name, each in model.l.named_parameters():
            each *= 3 if "reverse" in name else 0.5 if "l0" in name else 1
    for right, got in zip(model(x), eager(model, x)(x), strict=True):
        assert snr(right, got) > 20


def test_a_quantized_weight_stands_for_its_numbers_in_functions():
    class Tied(nn.Module):
        def __init__(self, bias):
            super().__init__()
            self.fc = nn.Linear(6, 6, bias=bias)

        def forward(self, x):
            return F.linear(self.fc(x), self.fc.weight, self.fc.bias) + self.fc.weight.mean()

    torch.manual_seed(0)
    for bias in (True, False):
        model, x = Tied(bias).eval(), torch.randn(32, 6)
        quantized = qcore.quantize_dynamic(model)
        right, got = model(x), quantized(x)
        assert (right - got).pow(2).sum() < 1e-3 * right.pow(2).sum()  # 30 dB
        weight = quantized.fc.weight
        assert weight.dtype is torch.float32 and weight.shape == (6, 6) and isinstance(weight(), qcore.QTensor)
    with pytest.raises(AttributeError, match=r"module 'fc'.*has no bias, whose 'view' is asked for"):
        quantized.fc.bias.view(-1)


class Doubling(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class Renamed(nn.Linear):
    """Its arithmetic is that of its base."""


def test_subclasses_and_replaced_forwards_are_quantized_only_where_they_compute_the_same():
    model = nn.Sequential(Doubling(6, 5), Renamed(5, 4), nn.Linear(4, 3)).eval()
    model[2].forward = lambda x: x.sum()
    x = torch.randn(2, 6)
    for quantized in (qcore.quantize_dynamic(model),):
        rows = quantized.qcore_report
        assert [rows[str(n)].outcome for n in range(3)] == ["float", "quantized", "float"]
        assert "forward" in rows["0"].reason and "forward" in rows["2"].reason
        torch.testing.assert_close(quantized(x), model(x), rtol=0.1, atol=0.1)


def test_layers_keep_what_users_added_to_them():
    layer = nn.Linear(6, 5).eval()
    layer.note, layer.extra = "mine", nn.Identity()
    layer.register_buffer("mask", torch.ones(5))
    for made in (
        qcore.quantize_dynamic(nn.Sequential(layer))[0],
        eager(stubs(layer), torch.randn(3, 6))[1],
    ):
        assert made.note == "mine" and torch.equal(made.mask, torch.ones(5)) and isinstance(made.extra, nn.Identity)
