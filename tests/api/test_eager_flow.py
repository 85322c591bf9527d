"""prepare, convert, quantize and quantize_dynamic: backends, reports, errors, and what must stay untouched."""

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
from qcore.nn import quantized as nnq
from qcore.nn.quantized import dynamic as nnqd
from qcore.registry import registry
from tests.api.eager_models import QCORE, ConvNet


@pytest.fixture
def net():
    torch.manual_seed(0)
    return api.fuse_modules(ConvNet(QCORE).eval(), ConvNet.FUSE)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(4, *ConvNet.SHAPE)


def converted(net, inputs, **options):
    prepared = api.prepare(net, backend="reference", **options)
    prepared(inputs)
    return api.convert(prepared)


def state(model):
    return pickle.dumps([(name, type(module).__name__) for name, module in model.named_modules()]), {
        key: value.clone() for key, value in model.state_dict().items()
    }


def unchanged(model, before):
    names, values = before
    now = state(model)
    return now[0] == names and all(torch.equal(now[1][key], value) for key, value in values.items())


# --- what one gets --------------------------------------------------------------------------------------------------


def test_the_default_qconfig_of_the_backend_gives_a_close_model(net, inputs):
    model = converted(net, inputs)
    expected = net(inputs)
    assert isinstance(model.c1, nnq.Conv2d) and isinstance(model.f1, nnq.Linear)
    assert (model(inputs) - expected).abs().max() < 0.05 * expected.abs().max()


def test_the_report_has_a_row_for_each_layer(net, inputs):
    report = converted(net, inputs).qcore_report
    assert report.backend == "reference"
    assert report["c1"].outcome == "quantized" and report["c1"].operator == "conv + relu"
    assert report["c1"].float_type == "ConvReLU2d" and report["c1"].backend == "reference"
    assert report["pool"].outcome == "passed through"
    assert not report.float_rows and not report.refused_rows
    text = str(report)
    assert "c1" in text and "conv + relu" in text and "reference" in text


def test_prepared_and_converted_models_survive_copies_and_pickles(net, inputs):
    prepared = api.prepare(net, backend="reference")
    prepared(inputs)
    prepared = pickle.loads(pickle.dumps(copy.deepcopy(prepared)))
    model = api.convert(prepared)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(inputs), model(inputs))
        assert twin.qcore_backend == "reference" and str(twin.qcore_report) == str(model.qcore_report)
        assert twin.c1.backend == "reference"


def test_a_safe_file_restores_a_converted_model(net, inputs):
    model = converted(net, inputs)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    fresh = converted(net, 2 * inputs)
    assert not torch.equal(fresh(inputs), model(inputs))
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(fresh(inputs), model(inputs))


def test_quantize_does_all_steps(net, inputs):
    data = [(inputs, None), (inputs, None)]
    model = api.quantize(net, api.default_eval_fn, [data], backend="reference")
    assert torch.equal(model(inputs), converted(net, inputs)(inputs))


def test_converting_leaves_no_trace_of_preparing(net, inputs):
    model = converted(net, inputs)
    assert not any(hasattr(module, "qconfig") for module in model.modules())
    assert not any("activation_post_process" in name for name, _ in model.named_modules())


def test_a_module_used_twice_is_converted_once(inputs):
    shared = nn.Linear(4, 4)
    model = api.QuantWrapper(nn.Sequential(shared, nn.ReLU(), shared))
    prepared = api.prepare(model, backend="reference")
    prepared(torch.randn(2, 4))
    body = api.convert(prepared).module
    assert body[0] is body[2] and isinstance(body[0], nnq.Linear)


def test_forward_hooks_of_the_user_stay(net, inputs):
    seen = []
    net.f2.register_forward_hook(lambda module, args, output: seen.append(type(module)))
    converted(net, inputs)(inputs)
    assert seen[-1] is nnq.Linear


def test_parametrized_weights_are_taken_as_computed():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = api.quantize_dynamic(nn.Sequential(layer), backend="reference")
    assert isinstance(model[0], nnqd.Linear)
    assert (model[0].weight().dequantize() - layer.weight).abs().max() < 0.01


# --- backends -------------------------------------------------------------------------------------------------------


class Renamed(type(registry.get("reference"))):
    """The reference under another name, without a kernel for convolutions."""

    name = "renamed"
    fallback = False

    def capability(self):
        specs = [spec for spec in super().capability().ops if spec.operator.name != "conv"]
        return qcore.Capability(tuple(specs))


class Plugin:
    @qcore.hookimpl
    def qcore_backend(self):
        return Renamed()


@pytest.fixture
def renamed():
    registry.register(Plugin(), "renamed")
    yield "renamed"
    registry.unregister("renamed")


def test_two_backends_in_one_process(net, inputs, renamed):
    first = converted(net, inputs)
    prepared = api.prepare(net, backend=renamed)
    prepared(inputs)
    second = api.convert(prepared)
    assert (first.f2.backend, second.f2.backend) == ("reference", "renamed")
    assert torch.equal(first(inputs), second(inputs))


def test_a_fallback_is_told_with_its_reason(net, inputs, renamed):
    report = api.prepare(net, backend=renamed).qcore_report
    fallback = report["c1"]
    assert fallback.backend != "renamed" and "conv is not among its operators" in fallback.reason
    assert fallback in report.fallback_rows and report["f2"].backend == "renamed"


def test_a_missing_backend_is_an_error_before_anything_changes(net):
    before = state(net)
    for call in (api.prepare, api.quantize_dynamic):
        with pytest.raises(qcore.BackendError, match="pip install"):
            call(net, inplace=True, backend="nowhere")
    assert unchanged(net, before) and not hasattr(net, "qcore_backend")


def test_a_qconfig_that_no_backend_runs_is_an_error_that_names_both(net):
    net.c2.qconfig = qconfigs.QConfig(
        activation=qconfigs.default_qconfig.activation,
        weight=qconfigs.MinMaxObserver.with_args(dtype=qcore.quint8),
    )
    before = state(net)
    with pytest.raises(qcore.QuantizationError, match=r"'c2'.*reference.*QConfig"):
        api.prepare(net, inplace=True, backend="reference")
    assert unchanged(net, before)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_converting_without_calibration_names_the_layer_and_changes_nothing(net):
    prepared = api.prepare(net, backend="reference")
    before = state(prepared)
    with pytest.raises(qcore.QuantizationError, match=r"quant.*never calibrated"):
        api.convert(prepared, inplace=True)
    assert unchanged(prepared, before)


def test_a_part_that_saw_no_data_is_named(net, inputs):
    prepared = api.prepare(net, backend="reference")
    prepared(inputs)
    prepared.f2.activation_post_process.reset_min_max_vals()
    with pytest.raises(qcore.QuantizationError, match="'f2'"):
        api.convert(prepared)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_statistics_that_are_not_finite_are_refused_with_the_path(net, inputs, value):
    prepared = api.prepare(net, backend="reference")
    inputs[0, 0, 0, 0] = value
    with pytest.raises(qcore.QuantizationError, match="quant"):
        prepared(inputs)
        api.convert(prepared)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_not_finite_are_refused_with_the_path(net, inputs, name, value):
    prepared = api.prepare(net, backend="reference")
    prepared(inputs)
    getattr(prepared.f1[0], name).data.view(-1)[0] = value
    with pytest.raises(qcore.QuantizationError, match="'f1'"):
        api.convert(prepared)


def test_converting_a_model_that_was_not_prepared_is_an_error(net):
    with pytest.raises(qcore.QuantizationError, match="prepare"):
        api.convert(net)


def test_a_missing_stub_is_named(inputs):
    torch.manual_seed(0)
    model = api.prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), backend="reference")
    model(inputs)
    with pytest.raises(qcore.QuantizationError, match=r"'0'.*QuantStub"):
        api.convert(model)(inputs)


def test_inplace_false_leaves_the_model_untouched(net, inputs):
    before = state(net)
    converted(net, inputs)
    api.quantize_dynamic(net, backend="reference")
    assert unchanged(net, before) and not hasattr(net, "qcore_report")


def test_inplace_true_works_on_the_model_itself(net, inputs):
    assert api.prepare(net, inplace=True, backend="reference") is net
    net(inputs)
    assert api.convert(net, inplace=True) is net
    assert isinstance(net.c1, nnq.Conv2d)


# --- what is left float ---------------------------------------------------------------------------------------------


class Doubling(nn.Linear):
    """A Linear that computes something else."""

    def forward(self, input):
        return 2 * super().forward(input)


def mixed():
    return nn.Sequential(
        nn.Linear(4, 4), Doubling(4, 4), nn.Conv1d(4, 4, 1), nn.LayerNorm(4), nn.MultiheadAttention(4, 2)
    )


def test_quantize_dynamic_reports_all_that_it_leaves_float():
    report = api.quantize_dynamic(mixed(), backend="reference").qcore_report
    assert [row.path for row in report.quantized_rows] == ["0"]
    assert "a forward of its own" in report["1"].reason
    assert "Conv1d has no dynamically quantized form" in report["2"].reason
    assert [row.path for row in report.refused_rows] == ["1", "2", "4"]


def test_strict_lists_all_that_would_stay_float():
    model = mixed()
    before = state(model)
    with pytest.raises(qcore.QuantizationError) as caught:
        api.quantize_dynamic(model, backend="reference", inplace=True, strict=True)
    assert all(part in str(caught.value) for part in ("1 (Doubling)", "2 (Conv1d)", "4 (MultiheadAttention)"))
    assert unchanged(model, before)
    for layer in (model[1], model[2], model[4]):
        layer.qconfig = None
    assert isinstance(api.quantize_dynamic(model, backend="reference", strict=True)[0], nnqd.Linear)


def test_strict_prepare_lists_a_layer_without_a_quantized_form():
    model = api.QuantWrapper(nn.Sequential(nn.Linear(4, 4), nn.GRU(4, 4)))
    with pytest.raises(qcore.QuantizationError, match=r"module.1 \(GRU\)"):
        api.prepare(model, backend="reference", strict=True)


def test_a_qconfig_of_none_leaves_a_layer_float_and_says_so(inputs):
    model = nn.Sequential(QCORE.QuantStub(), nn.Conv2d(3, 4, 3), QCORE.DeQuantStub(), nn.Conv2d(4, 4, 3))
    model[3].qconfig = None
    model.qconfig = qconfigs.default_qconfig
    model = converted(model, inputs)
    assert type(model[3]) is nn.Conv2d and model.qcore_report["3"].reason == "its qconfig is None"
    assert model(inputs).shape == (4, 4, 8, 8)


# --- rules ----------------------------------------------------------------------------------------------------------


def test_quantize_dynamic_takes_names_types_and_qconfigs():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.LSTM(4, 4)})
    by_name = api.quantize_dynamic(model, {"a"}, backend="reference")
    assert [type(by_name[key]) for key in "abc"] == [nnqd.Linear, nn.Linear, nn.LSTM]
    by_type = api.quantize_dynamic(model, {nn.Linear: qconfigs.default_dynamic_qconfig, "b": None}, backend="reference")
    assert [type(by_type[key]) for key in "abc"] == [nnqd.Linear, nn.Linear, nn.LSTM]
    assert by_type["a"].reduce_range and not by_name["a"].reduce_range and by_name["a"].per_row
    half = api.quantize_dynamic(model, dtype=torch.float16, backend="reference")
    assert half["a"].float16 and half["c"].float16


def test_a_name_that_is_not_there_is_an_error_with_the_nearest():
    model = nn.ModuleDict({"encoder": nn.Linear(4, 4), "decoder": nn.Linear(4, 4)})
    with pytest.raises(qcore.QuantizationError, match=r"'encodr'.*'encoder'"):
        api.quantize_dynamic(model, {"encodr"}, backend="reference")


def test_a_class_that_is_not_there_is_reported():
    report = api.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear, nn.GRU}, backend="reference").qcore_report
    assert [(row.float_type, row.reason) for row in report.float_rows] == [
        ("GRU", "the model has no module of this class")
    ]


def test_embeddings_by_dtype():
    bag = nn.EmbeddingBag(10, 8, mode="sum")
    for dtype in (qcore.quint8, qcore.quint4x2):
        model = api.quantize_dynamic(nn.Sequential(bag), dtype=dtype, backend="reference")
        assert model[0].weight().dtype == dtype


def test_a_root_that_is_a_layer_is_returned_swapped():
    layer = nn.Linear(4, 4)
    model = api.quantize_dynamic(layer, backend="reference")
    assert isinstance(model, nnqd.Linear) and model.qcore_backend == "reference" and type(layer) is nn.Linear


def test_a_transformer_runs_after_quantize_dynamic():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    quantized = api.quantize_dynamic(model, backend="reference")
    assert isinstance(quantized.linear1, nnqd.Linear)
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        assert (quantized(x) - model(x)).abs().max() < 0.1
    plain = nn.TransformerEncoder(model, 2, enable_nested_tensor=False).eval()
    stack = nn.TransformerEncoder(model, 2).eval()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        expected = plain(x, src_key_padding_mask=padding)[:, :3]
        found = api.quantize_dynamic(stack, backend="reference")(x, src_key_padding_mask=padding)[:, :3]
        assert (found - expected).abs().max() < 0.1


# --- the small functions --------------------------------------------------------------------------------------------


def test_propagate_qconfig_by_type_name_and_inheritance():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2)), "b": nn.Linear(2, 2), "c": nn.ReLU()})
    first, second = qconfigs.default_qconfig, qconfigs.default_per_channel_qconfig
    api.propagate_qconfig_(model, {"a": first, nn.Linear: second})
    assert model["a"].qconfig == first and model["b"].qconfig == second and model["c"].qconfig is None
    assert model["a"][0].qconfig == second


def test_observers_are_inserted_listed_and_swapped():
    model = nn.Sequential(nn.Linear(2, 2), nn.MaxPool2d(2))
    model.qconfig = qconfigs.default_qconfig
    api.propagate_qconfig_(model)
    api.add_observer_(model)
    model[0](torch.randn(3, 2))
    found = {}
    api.get_observer_dict(model, found)
    assert list(found) == ["0.activation_post_process"]
    swapped = api.swap_module(model[0], {nn.Linear: nnq.Linear})
    assert isinstance(swapped, nnq.Linear) and api.swap_module(model[1], {}) is model[1]


def test_prepare_keeps_to_the_allowed_classes_and_observes_others(inputs):
    model = api.QuantWrapper(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU())))
    options = {"allow_list": {QCORE.QuantStub, nn.Linear}, "observer_non_leaf_module_list": {nn.Sequential}}
    prepared = api.prepare(model, backend="reference", **options)
    prepared(inputs)
    observed = [name for name, _ in prepared.named_modules() if name.endswith("activation_post_process")]
    assert observed == [f"{path}.activation_post_process" for path in ("quant", "module.1", "module")]
    assert prepared.qcore_report["module.0"].reason == "its class is not in allow_list"


def test_add_quant_dequant_wraps_leaves_with_a_qconfig():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].qconfig = qconfigs.default_qconfig
    model = api.add_quant_dequant(model)
    assert type(model[0]) is nn.Linear and isinstance(model[1], api.QuantWrapper)
    x = torch.randn(3, 2)
    assert torch.equal(model[1](x), model[1].module(x))


class Observed(nn.Module):
    """A custom module, observed."""

    @classmethod
    def from_float(cls, mod):
        return cls()

    def forward(self, x):
        return x


class Quantized(nn.Module):
    """A custom module, quantized."""

    @classmethod
    def from_observed(cls, mod):
        return cls()

    def forward(self, x):
        return x


class Custom(nn.Module):
    """A custom module, with a child that must be left alone."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x)


def test_custom_modules_by_their_own_classes():
    model = nn.Sequential(Custom())
    prepared = api.prepare(
        model,
        prepare_custom_config_dict={"float_to_observed_custom_module_class": {Custom: Observed}},
        backend="reference",
    )
    assert type(prepared[0]) is Observed
    config = {"observed_to_quantized_custom_module_class": {Observed: Quantized}}
    assert type(api.convert(prepared, convert_custom_config_dict=config)[0]) is Quantized


class QuantizedCustom(nn.Module):
    """A class of the user's own for quantize_dynamic."""

    @classmethod
    def from_float(cls, mod):
        assert mod.qconfig is qconfigs.default_dynamic_qconfig
        return cls()


def test_quantize_dynamic_takes_classes_of_the_users_own():
    model = api.quantize_dynamic(
        nn.ModuleDict({"table": Custom(), "top": nn.Linear(2, 2)}),
        {Custom: qconfigs.default_dynamic_qconfig},
        mapping={Custom: QuantizedCustom},
        backend="reference",
    )
    assert type(model["table"]) is QuantizedCustom and type(model["top"]) is nn.Linear
    assert [row.path for row in model.qcore_report.quantized_rows] == ["table"]


def test_fuse_modules_refuses_with_words():
    ours = ConvNet(QCORE)
    for group, message in (
        (["c1", "nowhere"], "nowhere"),
        (["r1", "c1"], "no fusion of ReLU, Conv2d"),
        (["c1", "b1", "r1"], "eval"),
    ):
        before = state(ours.train())
        with pytest.raises(qcore.QcoreError, match=message):
            api.fuse_modules(ours, [["f1", "fr"], group], inplace=True)
        assert unchanged(ours, before)


def test_embeddings_in_prepare_take_a_qconfig_of_their_own():
    model = nn.Sequential(nn.Embedding(10, 8))
    model.qconfig = qconfigs.default_qconfig
    report = api.prepare(model, backend="reference").qcore_report
    assert "float_qparams_weight_only_qconfig" in report["0"].reason
    model.qconfig = qconfigs.float_qparams_weight_only_qconfig
    converted = api.convert(api.prepare(model, backend="reference"))
    indices = torch.arange(10)
    assert (converted(indices) - model[0](indices)).abs().max() < 0.02
    assert converted.qcore_report["0"].operator == "embedding"
