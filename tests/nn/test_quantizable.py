"""LSTM and MultiheadAttention that are taken apart: against the float originals, and through both flows."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import qcore
from qcore import api
from qcore.api import qconfig as qconfigs
from qcore.nn import qat as nnqat
from qcore.nn import quantizable as nnqa
from qcore.nn import quantized as nnq
from tests.nn.quantizable_models import Attending, Recurrent, batches

LSTMS = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 3, "bias": False},
]


@pytest.mark.parametrize("split_gates", [False, True])
@pytest.mark.parametrize("settings", LSTMS)
def test_lstm_in_parts_computes_the_same(settings, split_gates):
    torch.manual_seed(0)
    whole = nn.LSTM(4, 5, **settings)
    parts = nnqa.LSTM.from_float(whole, split_gates=split_gates)
    x = torch.randn(3, 6, 4)
    count = settings.get("num_layers", 1) * (2 if settings.get("bidirectional") else 1)
    state = torch.randn(2, count, 3 if settings.get("batch_first") else 6, 5)
    for hidden in (None, tuple(state)):
        torch.testing.assert_close(parts(x, hidden), whole(x, hidden), rtol=1e-6, atol=1e-6)


def test_cell_in_parts_computes_the_same():
    whole = nn.LSTMCell(4, 5)
    x, state = torch.randn(3, 4), (torch.randn(3, 5), torch.randn(3, 5))
    for hidden in (None, state):
        torch.testing.assert_close(nnqa.LSTMCell.from_float(whole)(x, hidden), whole(x, hidden), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_first": True, "add_bias_kv": True}, {"bias": False, "kdim": 6, "vdim": 4, "add_zero_attn": True}],
)
@pytest.mark.parametrize("masks", ["none", "bool", "float by head", "padding", "padding by head"])
def test_attention_in_parts_computes_the_same(settings, masks):
    torch.manual_seed(0)
    whole = nn.MultiheadAttention(8, 2, **settings)
    parts = nnqa.MultiheadAttention.from_float(whole)
    arguments = {
        "none": {},
        "bool": {"attn_mask": torch.ones(4, 5, dtype=torch.bool).triu(1)},
        "float by head": {"attn_mask": torch.randn(6, 4, 5), "average_attn_weights": False},
        "padding": {"key_padding_mask": torch.arange(5).repeat(3, 1) > 3},
        "padding by head": {"key_padding_mask": torch.randn(3, 5), "attn_mask": torch.randn(6, 4, 5)},
    }[masks]
    inputs = [torch.randn(length, 3, settings.get(name, 8)) for length, name in ((4, "q"), (5, "kdim"), (5, "vdim"))]
    if settings.get("batch_first"):
        inputs = [each.transpose(0, 1) for each in inputs]
    torch.testing.assert_close(parts(*inputs, **arguments), whole(*inputs, **arguments), rtol=1e-5, atol=1e-6)
    assert parts(*inputs, need_weights=False, **arguments)[1] is None


def test_attention_without_a_batch():
    whole = nn.MultiheadAttention(8, 2)
    x = torch.randn(4, 8)
    torch.testing.assert_close(nnqa.MultiheadAttention.from_float(whole)(x, x, x), whole(x, x, x))


MODELS = [
    (Recurrent, {}),
    (Recurrent, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    (Attending, {}),
    (Attending, {"add_bias_kv": True, "batch_first": True}),
]


def calibrated(kind, settings):
    torch.manual_seed(0)
    model = kind(api, **settings).eval()
    prepared = api.prepare(model, backend="reference")
    for x in batches(kind):
        prepared(x)
    return model, prepared


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_converted_results_are_near_the_float_ones(kind, settings):
    model, prepared = calibrated(kind, settings)
    quantized = api.convert(prepared)
    x = batches(kind)[0]
    for mine, exact in zip(quantized(x), model(x), strict=True):
        assert (mine - exact).abs().max() < 0.05 * (exact.abs().max() + 1)
    assert not quantized.qcore_report.float_rows


def test_classes_before_and_after():
    _, prepared = calibrated(Recurrent, {})
    assert type(prepared.lstm) is nnqa.LSTM
    quantized = api.convert(prepared)
    assert type(quantized.lstm) is nnq.LSTM and type(prepared.lstm) is nnqa.LSTM
    assert type(quantized.lstm.layers[0].layer_fw.cell.igates) is nnq.Linear
    assert type(quantized.lstm.layers[0].layer_fw.cell.gates) is nnq.QFunctional
    assert quantized.qcore_report["lstm.layers.0.layer_fw.cell.hgates"].outcome == "quantized"


def test_configuration_is_that_of_custom_modules():
    model = Recurrent(api).eval()
    nothing = {"float_to_observed_custom_module_class": {}}
    assert type(api.prepare(model, prepare_custom_config_dict=nothing, backend="reference").lstm) is nn.LSTM
    observed = {"float_to_observed_custom_module_class": {nn.LSTM: nnqa.LSTM}}
    prepared = api.prepare(model, prepare_custom_config_dict=observed, backend="reference")
    for x in batches(Recurrent):
        prepared(x)
    quantized = {"observed_to_quantized_custom_module_class": {nnqa.LSTM: nnq.LSTM}}
    assert type(api.convert(prepared, convert_custom_config_dict=quantized).lstm) is nnq.LSTM


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_training(kind, settings):
    torch.manual_seed(0)
    model = kind(api, **settings).train()
    prepared = api.prepare_qat(model, backend="reference")
    assert any(isinstance(module, nnqat.Linear) for module in prepared.modules())
    gates = [module for module in prepared.modules() if isinstance(module, nn.Sigmoid | nn.Tanh)]
    assert all(float(gate.activation_post_process.scale) in (1 / 256, 1 / 128) for gate in gates)
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = sum((result**2).mean() for result in prepared(batches(kind)[0])[:1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    prepared.eval()
    for mine, trained in zip(api.convert(prepared)(batches(kind)[0]), prepared(batches(kind)[0]), strict=True):
        assert (mine - trained).abs().max() < 0.1 * (trained.abs().max() + 1)


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_copies_pickles_and_files(kind, settings):
    prepared = calibrated(kind, settings)[1]
    quantized = api.convert(prepared)
    x = batches(kind)[0]
    expected = quantized(x)
    file = io.BytesIO()
    torch.save(quantized.state_dict(), file)
    file.seek(0)
    other = calibrated(kind, settings)[0]
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    other = api.prepare(other, backend="reference")
    other(x)
    loaded = api.convert(other)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for each in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized)), loaded):
        assert all(torch.equal(mine, wanted) for mine, wanted in zip(each(x), expected, strict=True))
    again = pickle.loads(pickle.dumps(prepared))
    assert all(torch.equal(mine, wanted) for mine, wanted in zip(api.convert(again)(x), expected, strict=True))


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"kdim": 9, "vdim": 9, "add_bias_kv": True}])
def test_quantized_attention_gives_a_float_one_back(settings):
    model, prepared = calibrated(Attending, settings)
    quantized = api.convert(prepared)
    x = batches(Attending)[0]
    model.attention = quantized.attention.dequantize()
    for mine, exact in zip(quantized(x), model(x), strict=True):
        assert (mine - exact).abs().max() < 0.05 * (exact.abs().max() + 1)


def test_a_qconfig_of_none_or_for_dynamic_quantization_leaves_it_whole():
    model = Recurrent(api).eval()
    model.qconfig = qconfigs.default_qconfig
    model.lstm.qconfig = None
    prepared = api.prepare(model, backend="reference")
    assert type(prepared.lstm) is nn.LSTM
    assert prepared.qcore_report["lstm"].reason == "its qconfig is None"


class Results(nn.Module):
    """The results of an LSTM, without its state."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5)
        self.eval()

    def forward(self, x):
        return self.lstm(x)[0]


def test_errors_name_what_is_wrong():
    with pytest.raises(qcore.QuantizationError, match=r"'0' \(LSTM\): .*no projections"):
        api.prepare(nn.Sequential(nn.LSTM(4, 5, proj_size=2)).eval(), backend="reference")
    lstm = nnqa.LSTM(4, 5)
    with pytest.raises(qcore.ArgumentError, match=r"\(steps, batch, 4\).*got shape \(3, 3\)"):
        lstm(torch.randn(3, 3))
    with pytest.raises(qcore.ArgumentError, match=r"h_0 must have shape \(1, 2, 5\)"):
        lstm(torch.randn(3, 2, 4), (torch.zeros(1, 1, 5), torch.zeros(1, 2, 5)))
    packed = nn.utils.rnn.pack_sequence([torch.randn(3, 4)])
    with pytest.raises(qcore.ArgumentTypeError, match=r"^QuantizableLSTM takes no packed sequences"):
        lstm(packed)
    model = api.prepare(nn.Sequential(nn.LSTM(4, 5)).eval(), backend="reference")
    with pytest.raises(qcore.ArgumentTypeError, match=r"module '0' \(QuantizableLSTM\) takes no packed sequences"):
        model(packed)
    model(torch.randn(3, 2, 4))
    with pytest.raises(qcore.ArgumentTypeError, match=r"module '0' \(QuantizedLSTM\) takes no packed sequences"):
        api.convert(model)(packed)
    rules = qcore.QConfigMapping().set_global(qconfigs.get_default_qconfig("reference"))
    graph = qcore.prepare_fx(Results(), rules, (torch.randn(3, 2, 4),), backend="reference")
    with pytest.raises(qcore.QuantizationError, match=r"'lstm' a PackedSequence; .*Pad the sequences"):
        graph(packed)
    graph(torch.randn(3, 2, 4))
    with pytest.raises(qcore.ArgumentTypeError, match=r"Quantize at 'lstm': .*not PackedSequence; pad the sequences"):
        qcore.convert_fx(graph)(packed)


def test_a_loaded_lstm_names_its_path(tmp_path):
    model = api.prepare(Results(), backend="reference")
    model(torch.randn(3, 2, 4))
    qcore.save(api.convert(model), tmp_path / "lstm.qcore")
    loaded = qcore.load(tmp_path / "lstm.qcore", Results())
    with pytest.raises(qcore.ArgumentTypeError, match=r"module 'lstm' \(QuantizedLSTM\) takes no packed sequences"):
        loaded(nn.utils.rnn.pack_sequence([torch.randn(3, 4)]))


def test_more_errors_name_what_is_wrong():
    with pytest.raises(qcore.ArgumentError, match="dropout"):
        nnqa.LSTM(4, 5, dropout=2)
    with pytest.raises(qcore.ArgumentTypeError, match=r"takes an nn.LSTM; got a GRU"):
        nnqa.LSTM.from_float(nn.GRU(4, 5))
    with pytest.raises(qcore.ArgumentTypeError, match="from_observed takes an observed"):
        nnq.LSTM.from_observed(nn.LSTM(4, 5))
    attention = nnqa.MultiheadAttention(8, 2)
    x = torch.randn(4, 3, 8)
    with pytest.raises(qcore.ArgumentError, match="must divide embed_dim"):
        nnqa.MultiheadAttention(8, 3)
    with pytest.raises(qcore.ArgumentError, match="key must have 3 dimensions"):
        attention(x, torch.randn(4, 3, 7), x)
    with pytest.raises(qcore.ArgumentError, match="same length"):
        attention(x, x, torch.randn(5, 3, 8))
    with pytest.raises(qcore.ArgumentError, match="attn_mask must have shape"):
        attention(x, x, x, attn_mask=torch.zeros(4, 5))
    with pytest.raises(qcore.ArgumentTypeError, match="bool or a float dtype"):
        attention(x, x, x, attn_mask=torch.zeros(4, 4, dtype=torch.int64))
    with pytest.raises(qcore.ArgumentError, match="is_causal"):
        attention(x, x, x, is_causal=True)


@pytest.mark.parametrize("ratio", [0.96, 1.0, 1.2, 1.3, 3.0])
@pytest.mark.parametrize("settings", [{"bidirectional": True}, {"num_layers": 2}], ids=["directions", "layers"])
def test_states_that_are_joined_keep_their_values(settings, ratio):
    """The last states of an LSTM are within a step what its cells give, one of which has far greater values."""
    torch.manual_seed(0)
    model, x = Recurrent(api, **settings), batches(Recurrent)[0]
    prepared = api.prepare(model, backend="reference")
    prepared(x)
    cells = [cell for cell in prepared.modules() if isinstance(cell, nnqa.LSTMCell)]
    for cell, largest in zip(cells, (0.5, 0.5 * ratio), strict=True):
        for name in ("fgate_cx_igate_cgate", "ogate_cy"):
            observer = getattr(cell, name).activation_post_process
            observer.reset_min_max_vals()
            observer(torch.tensor([-largest, largest]))
    quantized = api.convert(prepared)
    given = []
    for cell in quantized.modules():
        if isinstance(cell, nnqa.LSTMCell):
            cell.register_forward_hook(lambda cell, inputs, result: given.append((cell, result)))
    found = quantized(x)
    last = dict(given)
    for part in (0, 1):
        states = torch.stack([result[part].dequantize() for result in last.values()])
        step = max(result[part].q_scale() for result in last.values())
        assert (found[1 + part] - states).abs().max() <= step * 1.01
