"""Graph mode as a user calls it: results, reports, copies and files, training, and what is refused in which words."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.custom_config import ConvertCustomConfig, PrepareCustomConfig
from qcore.api.observer import MinMaxObserver, default_per_channel_weight_observer
from qcore.api.qconfig import default_dynamic_qconfig, float16_dynamic_qconfig
from qcore.api.qconfig_mapping import get_default_qat_qconfig_mapping, get_default_qconfig_mapping
from qcore.errors import ArgumentError, QuantizationError
from tests.api import eager_models
from tests.fx import nets

QCONFIG = qcore.QConfig(MinMaxObserver, default_per_channel_weight_observer)


def calibrated(model, batches, **options):
    prepared = qcore.prepare_fx(model, options.pop("mapping", QCONFIG), batches[0], **options)
    with torch.no_grad():
        for batch in batches:
            prepared(*batch)
    return prepared


def results(model, batches):
    with torch.no_grad():
        found = [model(*batch) for batch in batches]
    return [each for result in found for each in (result if isinstance(result, tuple) else (result,))]


def assert_same(one, other, batches):
    for mine, theirs in zip(results(one, batches), results(other, batches), strict=True):
        assert torch.equal(mine, theirs)


def error_ratio(model, exact, batches):
    pairs = zip(results(model, batches), results(exact, batches), strict=True)
    return max(float((a - b).square().sum() / b.square().sum()) for a, b in pairs)


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", nets.MODELS, ids=lambda kind: kind.__name__)
def test_converted_is_close_to_float_and_equal_to_the_reference_on_the_reference_backend(kind):
    model, batches = nets.made(kind), nets.batches(kind)
    prepared = calibrated(model, batches)
    converted, reference = qcore.convert_fx(prepared), qcore.convert_to_reference_fx(prepared)
    assert error_ratio(converted, model, batches) < 0.01
    assert_same(converted, qcore.lower_fx(reference, backend="reference"), batches)
    # each operation of the reference is within a step of the integers, and a few steps come together
    assert error_ratio(reference, converted, batches) < 1e-3


@pytest.mark.parametrize("kind", [eager_models.ConvNet, eager_models.Conv1dNet, eager_models.Conv3dNet], ids=str)
def test_graph_mode_gives_the_bits_of_eager_mode(kind):
    torch.manual_seed(3)
    model = kind(eager_models.QCORE).eval()
    batches = [(torch.randn(2, *kind.SHAPE),) for _ in range(3)]
    by_graph = qcore.convert_fx(calibrated(model, batches))
    eager = qcore.fuse_modules(model, kind.FUSE)
    eager.qconfig = QCONFIG
    eager = qcore.prepare(eager)
    results(eager, batches)
    assert_same(by_graph, qcore.convert(eager), batches)


def test_prepare_with_example_inputs_takes_the_graph_and_convert_both():
    model, batches = nets.made(nets.Residual), nets.batches(nets.Residual)
    prepared = qcore.prepare(model, example_inputs=batches[0], qconfig_mapping=QCONFIG)
    results(prepared, batches)
    assert_same(qcore.convert(prepared), qcore.convert_fx(calibrated(model, batches)), batches)
    model.qconfig = QCONFIG
    model.fc2.qconfig = None
    left = qcore.report(qcore.prepare(model, example_inputs=batches[0])).float_rows
    assert [row.path for row in left] == ["fc2"]


def test_the_model_given_stays_as_it_is():
    model, batches = nets.made(nets.Residual), nets.batches(nets.Residual)
    before = copy.deepcopy(model.state_dict())
    qcore.convert_fx(calibrated(model, batches))
    assert str(model) == str(nets.made(nets.Residual))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_layer_called_twice_has_the_scale_of_each_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(16, 16)

        def forward(self, x):
            return F.relu(self.fc(10 * F.relu(self.fc(x))))

    torch.manual_seed(0)
    model, batches = Twice().eval(), nets.batches(nets.Shared)
    converted = qcore.convert_fx(calibrated(model, batches))
    assert error_ratio(converted, model, batches) < 0.01
    assert converted.fc_1.scale != converted.fc.scale
    assert torch.equal(converted.fc.weight().int_repr(), converted.fc_1.weight().int_repr())


def test_recurrent_layers_and_embeddings_are_quantized_by_default():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.lstm, self.fc = nn.Embedding(20, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, indices):
            y, _ = self.lstm(self.table(indices))
            return self.fc(y[:, -1])

    torch.manual_seed(0)
    model, batches = Text().eval(), [(torch.randint(0, 20, (4, 5)),) for _ in range(3)]
    prepared = calibrated(model, batches, mapping=None)
    converted = qcore.convert_fx(prepared)
    assert {row.path for row in qcore.report(converted).quantized_rows} == {"table", "lstm", "fc"}
    assert error_ratio(converted, model, batches) < 0.01


class Recurrent(nn.Module):
    """An LSTM between layers, whose results and states are read; (steps, batch, 4)."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.lstm = nn.Linear(4, 4), nn.LSTM(4, 6, **options)
        self.last = nn.Linear(12 if options else 6, 3)
        self.quant, self.dequant = qcore.QuantStub(), qcore.DeQuantStub()

    def forward(self, x):
        y, (h, _) = self.lstm(self.first(self.quant(x)))
        return self.dequant(self.last(y[-1])), self.dequant(h)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_an_lstm_that_is_quantized_statically_has_the_bits_of_eager_mode(options):
    model, batches = Recurrent(**options).eval(), [(torch.randn(5, 3, 4),) for _ in range(3)]
    prepared = calibrated(model, batches)
    converted = qcore.convert_fx(prepared)
    assert qcore.report(converted)["lstm"].operator == "in parts" and not qcore.report(converted).float_rows
    model.qconfig = QCONFIG
    eager = qcore.prepare(model)
    results(eager, batches)
    assert_same(converted, qcore.convert(eager), batches)
    assert_same(converted, qcore.lower_fx(qcore.convert_to_reference_fx(by_pickle(prepared)), "reference"), batches)


def test_an_lstm_whose_results_are_not_taken_one_by_one_stays_dynamic():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 4)

        def forward(self, x):
            return self.lstm(x)

    prepared = qcore.prepare_fx(Whole().eval(), QCONFIG, (torch.randn(2, 3, 4),))
    assert qcore.report(prepared)["lstm"].operator == "lstm"


@pytest.mark.parametrize("qconfig", [default_dynamic_qconfig, float16_dynamic_qconfig], ids=["int8", "float16"])
def test_dynamic_qconfigs_need_no_calibration(qconfig):
    model, batches = nets.made(nets.Shared), nets.batches(nets.Shared)
    converted = qcore.convert_fx(qcore.prepare_fx(model, qconfig, batches[0]))
    assert [row.path for row in qcore.report(converted).quantized_rows] == ["fc", "fc", "last"]
    assert {row.outcome for row in qcore.report(converted)} == {"quantized", "float", "passed through"}
    assert error_ratio(converted, model, batches) < 0.02


def test_attention_is_quantized_part_by_part():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.attention, self.norm = nn.Linear(8, 8), nn.MultiheadAttention(8, 2), nn.LayerNorm(8)

        def forward(self, x):
            x = self.before(x)
            y, _ = self.attention(x, x, x, need_weights=False)
            return self.norm(x + y)

    torch.manual_seed(0)
    model, batches = Attending().eval(), [(torch.randn(5, 2, 8),) for _ in range(3)]
    converted = qcore.convert_fx(calibrated(model, batches))
    paths = {row.path for row in qcore.report(converted).quantized_rows}
    assert {f"attention.{name}" for name in ("linear_Q", "linear_K", "linear_V", "out_proj")} <= paths
    assert error_ratio(converted, model, batches) < 0.01


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_has_a_row_for_each_call():
    model, batches = nets.made(nets.Choosing), nets.batches(nets.Choosing)
    converted = qcore.convert_fx(calibrated(model, batches))
    report = qcore.report(converted)
    assert report["before"].outcome == "quantized" and report["before"].operator == "linear"
    assert report["inner.fc"].outcome == "quantized" and report["inner.norm"].outcome == "quantized"
    assert report["inner"].outcome == "passed through" and "nets.py:" in report["inner"].reason
    assert "if x.sum() > 1e9:" in report["inner"].reason
    assert str(report).splitlines()[0].startswith(f"backend {converted.qcore_backend}:")
    with pytest.raises(ArgumentError, match="was not prepared"):
        qcore.report(model)


def test_strict_refuses_what_cannot_be_traced_and_what_stays_float():
    model, batches = nets.made(nets.Choosing), nets.batches(nets.Choosing)
    with pytest.raises(QuantizationError, match=r"strict=True.*'inner'.*if x.sum\(\) > 1e9"):
        qcore.prepare_fx(model, QCONFIG, batches[0], strict=True)

    class Odd(nn.Module):
        def forward(self, x):
            return torch.exp(x)

    with pytest.raises(QuantizationError, match="exp has no quantized form"):
        qcore.prepare_fx(Odd().eval(), QCONFIG, (torch.randn(2),), strict=True)


# --- copies and files -------------------------------------------------------------------------------------------------


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle, by_torch_save])
@pytest.mark.parametrize("kind", [nets.Gated, nets.Choosing], ids=lambda kind: kind.__name__)
def test_copies_of_each_stage_work_on(copied, kind):
    model, batches = nets.made(kind), nets.batches(kind)
    mapping = qcore.QConfigMapping().set_global(QCONFIG).set_object_type(F.relu, None)
    prepared = calibrated(model, batches, mapping=None if kind is nets.Gated else mapping)
    converted = qcore.convert_fx(prepared)
    again = qcore.convert_fx(copied(prepared))
    assert_same(again, converted, batches)
    assert_same(copied(converted), converted, batches)
    assert copied(converted).qcore_backend == converted.qcore_backend
    assert qcore.report(copied(converted)) == qcore.report(converted)
    reference = copied(qcore.convert_to_reference_fx(prepared))
    assert_same(qcore.lower_fx(reference), converted, batches)


def test_state_dicts_pass_through_safe_files_into_another_model():
    batches = nets.batches(nets.Residual)
    converted = qcore.convert_fx(calibrated(nets.made(nets.Residual), batches))
    file = io.BytesIO()
    torch.save(converted.state_dict(), file)
    file.seek(0)
    other = qcore.convert_fx(calibrated(nets.made(nets.Residual, seed=5), nets.batches(nets.Residual, seed=6)))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(other, converted, batches)


def test_attributes_are_preserved_where_asked():
    model, batches = nets.made(nets.Residual), nets.batches(nets.Residual)
    model.labels = ["cat", "dog"]
    options = {"prepare_custom_config": PrepareCustomConfig().set_preserved_attributes(["labels"])}
    converted = qcore.convert_fx(calibrated(model, batches, **options), {"preserved_attributes": ["labels"]})
    assert copy.deepcopy(converted).labels == by_pickle(converted).labels == ["cat", "dog"]
    with pytest.raises(ArgumentError, match="no attribute 'colours'"):
        qcore.prepare_fx(model, QCONFIG, batches[0], {"preserved_attributes": ["colours"]})


def test_the_code_reads_well():
    converted = qcore.convert_fx(calibrated(nets.made(nets.Shared), nets.batches(nets.Shared)))
    code = converted.code
    assert "fc = self.fc(quantize)" in code and "add = self.add(" in code and code.count("dequantize()") == 1


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_with_fake_quantization_learns_and_converts():
    torch.manual_seed(0)
    images, labels = torch.randn(64, 3, 16, 16), torch.arange(64) % 2
    images[labels == 1, 0] += 1
    model = qcore.prepare_qat_fx(nets.made(nets.Residual).train(), get_default_qat_qconfig_mapping(), (images[:2],))
    assert any(type(module).__name__ == "ConvBnReLU2d" for module in model.modules())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(30):
        if step == 20:
            model.apply(qcore.api.fake_quantize.disable_observer)
            model.apply(qcore.nn.intrinsic.qat.freeze_bn_stats)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    model.eval()
    converted = qcore.convert_fx(model)
    accuracy = (converted(images).argmax(1) == labels).float().mean()
    assert accuracy >= 0.95
    # the same integers up to the order of float sums in training, which a rounding may turn
    assert error_ratio(converted, model, [(images,)]) < 0.01


# --- custom and standalone modules, quantized inputs and outputs ------------------------------------------------------


class Doubling(nn.Module):
    def forward(self, x):
        return x + x


class ObservedDoubling(Doubling):
    @classmethod
    def from_float(cls, mod):
        return cls()


class QuantizedDoubling(nn.Module):
    @classmethod
    def from_observed(cls, mod):
        return cls()

    def forward(self, x):
        assert isinstance(x, qcore.QTensor)
        return qcore.QTensor(x.int_repr(), qcore.QParams(x.dtype, 2 * x.q_scale(), x.q_zero_point()), x.backend)


class WithCustom(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.doubling, self.after = nn.Linear(8, 8), Doubling(), nn.Linear(8, 3)

    def forward(self, x):
        return self.after(self.doubling(self.before(x)))


def test_custom_modules_take_and_give_quantized_tensors():
    torch.manual_seed(0)
    model, batches = WithCustom().eval(), [(torch.randn(4, 8),) for _ in range(2)]
    config = PrepareCustomConfig().set_float_to_observed_mapping(Doubling, ObservedDoubling)
    prepared = calibrated(model, batches, prepare_custom_config=config)
    assert type(prepared.doubling) is ObservedDoubling
    mapping = ConvertCustomConfig().set_observed_to_quantized_mapping(ObservedDoubling, QuantizedDoubling)
    converted = qcore.convert_fx(prepared, mapping)
    assert type(converted.doubling) is QuantizedDoubling and converted.code.count("dequantize()") == 1
    assert error_ratio(converted, model, batches) < 0.01


def test_standalone_modules_have_a_graph_and_a_mapping_of_their_own():
    model, batches = nets.made(nets.Choosing), nets.batches(nets.Choosing)
    own = qcore.QConfigMapping().set_global(QCONFIG).set_module_name("norm", None)
    config = PrepareCustomConfig().set_standalone_module_name("after", own.set_module_name("norm", None))
    with pytest.raises(QuantizationError, match="module_name 'norm'"):
        qcore.prepare_fx(model, QCONFIG, batches[0], config)
    config = PrepareCustomConfig().set_standalone_module_class(nn.Linear, QCONFIG)
    converted = qcore.convert_fx(calibrated(model, batches, prepare_custom_config=config))
    assert isinstance(converted.before, torch.fx.GraphModule) and error_ratio(converted, model, batches) < 0.01


def test_names_in_the_config_of_a_standalone_module_are_its_own():
    model, batches = nets.made(nets.Choosing), nets.batches(nets.Choosing)
    own = PrepareCustomConfig().set_non_traceable_module_names(["fc"])
    config = PrepareCustomConfig().set_standalone_module_name("inner", QCONFIG, (), own)
    report = qcore.report(qcore.prepare_fx(model, QCONFIG, batches[0], config))
    assert report["inner.fc"].reason == "not traced, as asked" and report["inner.norm"].outcome == "quantized"
    own.set_non_traceable_module_names(["inner.fc"])
    with pytest.raises(QuantizationError, match=r"no module 'inner\.fc'; the nearest: 'fc'"):
        qcore.prepare_fx(model, QCONFIG, batches[0], config)


def test_inputs_and_outputs_can_be_quantized():
    model, batches = nets.made(nets.Shared), nets.batches(nets.Shared)
    config = PrepareCustomConfig().set_input_quantized_indexes([0]).set_output_quantized_indexes([0])
    converted = qcore.convert_fx(calibrated(model, batches, prepare_custom_config=config))
    x = qcore.quantize_per_tensor(batches[0][0], 0.05, 128, qcore.quint8)
    found = converted(x)
    assert isinstance(found, qcore.QTensor) and "dequantize" not in converted.code
    assert (found.dequantize() - model(x.dequantize())).square().sum() < 0.01 * model(x.dequantize()).square().sum()


def test_fuse_fx_fuses_and_stays_float():
    model, batches = nets.made(nets.Residual), nets.batches(nets.Residual)
    fused = qcore.fuse_fx(model)
    assert type(fused.c1).__name__ == "ConvReLU2d"
    for mine, theirs in zip(results(fused, batches), results(model, batches), strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises(QuantizationError, match=r"model.eval\(\)"):
        qcore.fuse_fx(model.train())


def test_default_mapping_is_that_of_the_backend():
    assert get_default_qconfig_mapping("reference").global_qconfig == qcore.api.qconfig.get_default_qconfig("reference")


def test_custom_modules_are_found_where_a_forward_cannot_be_traced():
    class Choosing(WithCustom):
        def forward(self, x):
            return super().forward(x) if x.sum() < 1e9 else x

    torch.manual_seed(0)
    model, batches = Choosing().eval(), [(torch.randn(4, 8),) for _ in range(2)]
    config = PrepareCustomConfig().set_float_to_observed_mapping(Doubling, ObservedDoubling)
    prepared = calibrated(model, batches, prepare_custom_config=config)
    mapping = ConvertCustomConfig().set_observed_to_quantized_mapping(ObservedDoubling, QuantizedDoubling)
    converted = qcore.convert_fx(prepared, mapping)
    assert qcore.report(converted)["doubling"].operator == "custom"
    assert any(type(module) is QuantizedDoubling for module in converted.modules())
    assert error_ratio(converted, model, batches) < 0.01
