"""Wrong uses of graph mode: each is an error that names what was given, what is allowed, and what to do."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn

import qcore
from qcore.api.custom_config import ConvertCustomConfig, PrepareCustomConfig
from qcore.api.observer import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from qcore.errors import ArgumentError, ArgumentTypeError, BackendError, QuantizationError, UnsupportedError
from tests.api.test_quantize_fx import (
    QCONFIG,
    Doubling,
    ObservedDoubling,
    QuantizedDoubling,
    WithCustom,
    calibrated,
)
from tests.fx import nets


def residual(**options):
    model, batches = nets.made(nets.Residual), nets.batches(nets.Residual)
    mapping = options.pop("mapping", QCONFIG)
    return qcore.prepare_fx(model, mapping, options.pop("example_inputs", batches[0]), **options)


def custom(setter, *arguments):
    """prepare_fx of Residual with a PrepareCustomConfig of one setting."""
    return lambda: residual(prepare_custom_config=getattr(PrepareCustomConfig(), setter)(*arguments))


def rule(name, *arguments):
    mapping = qcore.QConfigMapping().set_global(QCONFIG)
    return getattr(mapping, name)(*arguments, QCONFIG)


WRONG = {
    "mistyped name": (lambda: residual(mapping=rule("set_module_name", "dephtwise")), QuantizationError, "'depthwise'"),
    "mistyped regex": (lambda: residual(mapping=rule("set_module_name_regex", "conv.*")), QuantizationError, "'c1'"),
    "absent type": (lambda: residual(mapping=rule("set_object_type", nn.Conv3d)), QuantizationError, "'Conv2d'"),
    "absent function": (
        lambda: residual(mapping=rule("set_object_type", operator.mul)), QuantizationError, "object_type mul",
    ),
    "type of modules around others": (
        lambda: qcore.prepare_fx(
            nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))).eval(),
            rule("set_object_type", nn.Sequential), (torch.ones(1, 4),),
        ),
        QuantizationError, "object_type Sequential: .* they call none; .*name their paths, with set_module_name",
    ),
    "absent call": (
        lambda: residual(mapping=rule("set_module_name_object_type_order", "", torch.cat, 1)),
        QuantizationError, "no such call",
    ),
    "no example inputs": (lambda: residual(example_inputs=None), ArgumentError, r"torch.randn\(1, 3, 224, 224\),\)"),
    "example inputs without a tuple": (
        lambda: residual(example_inputs=torch.randn(1, 3, 16, 16)), ArgumentError, "tuple of inputs.*got Tensor",
    ),
    "training mode": (
        lambda: qcore.prepare_fx(nets.made(nets.Residual).train(), QCONFIG, (torch.ones(1),)),
        QuantizationError, r"call model.eval\(\)",
    ),
    "eval mode for training": (
        lambda: qcore.prepare_qat_fx(nets.made(nets.Residual), None, (torch.ones(1),)),
        QuantizationError, r"call model.train\(\)",
    ),
    "dtype that the backend lacks": (
        lambda: residual(mapping=qcore.QConfig(MinMaxObserver.with_args(dtype=qcore.qint32), QCONFIG.weight)),
        QuantizationError, "'c1'.*cannot run its qconfig.*qint32",
    ),
    "missing backend": (lambda: residual(backend="fbgem"), BackendError, "fbgem"),
    "preparing twice": (
        lambda: qcore.prepare_fx(residual(), QCONFIG, nets.batches(nets.Residual)[0]),
        QuantizationError, "prepared already",
    ),
    "converting a float model": (
        lambda: qcore.convert_fx(nets.made(nets.Residual)), QuantizationError, "call prepare_fx first",
    ),
    "converting without calibration": (lambda: qcore.convert_fx(residual()), QuantizationError, "'c1'.*calibrat"),
    "observer instead of its class": (
        lambda: qcore.QConfig(HistogramObserver(), HistogramObserver), ArgumentTypeError, "give its class",
    ),
    "mapping of something else": (lambda: residual(mapping=3), ArgumentTypeError, "QConfigMapping"),
    "unknown key": (lambda: residual(mapping={"global": QCONFIG}), ArgumentError, "unknown key 'global'"),
    "mistyped non-traceable name": (
        lambda: residual(prepare_custom_config={"non_traceable_module_name": ["depthwize"]}),
        QuantizationError, "set_non_traceable_module_names.*'depthwise'",
    ),
    "name instead of names": (
        custom("set_non_traceable_module_names", "fc1"), ArgumentTypeError, "must be a list; got 'fc1'",
    ),
    "absent non-traceable class": (
        custom("set_non_traceable_module_classes", [nn.Conv3d]),
        QuantizationError, "set_non_traceable_module_classes: the model has no Conv3d; the nearest: 'Conv2d'",
    ),
    "base of non-traceable classes": (
        custom("set_non_traceable_module_classes", [nn.modules.conv._ConvNd]),
        QuantizationError, "no _ConvNd; classes derived from it are named themselves: Conv2d",
    ),
    "name of a non-traceable class": (
        custom("set_non_traceable_module_classes", ["Conv2d"]), ArgumentTypeError, "'Conv2d' is not a module class",
    ),
    "mistyped standalone name": (
        custom("set_standalone_module_name", "fc3"), QuantizationError, "set_standalone_module_name.*'fc1'",
    ),
    "absent standalone class": (
        custom("set_standalone_module_class", nn.Bilinear),
        QuantizationError, "set_standalone_module_class: the model has no Bilinear; the nearest: 'Linear'",
    ),
    "absent custom class": (
        lambda: custom("set_float_to_observed_mapping", Doubling, ObservedDoubling)(),
        QuantizationError, "set_float_to_observed_mapping: the model has no Doubling",
    ),
    "absent observed class": (
        lambda: qcore.convert_fx(
            calibrated(nets.made(nets.Shared), nets.batches(nets.Shared)),
            {"observed_to_quantized_custom_module_class": {"static": {ObservedDoubling: QuantizedDoubling}}},
        ),
        QuantizationError, "set_observed_to_quantized_mapping: the model has no ObservedDoubling",
    ),
    "mistyped attribute": (
        custom("set_preserved_attributes", ["depthwize"]), ArgumentError, "no attribute 'depthwize'; the nearest",
    ),
    "mistyped attribute in fuse_fx": (
        lambda: qcore.fuse_fx(nets.made(nets.Residual), {"preserved_attributes": ["depthwize"]}),
        ArgumentError, "fuse_fx: .*no attribute 'depthwize'; the nearest: 'depthwise'",
    ),
    "mistyped attribute in convert_fx": (
        lambda: qcore.convert_fx(
            calibrated(nets.made(nets.Shared), nets.batches(nets.Shared)), {"preserved_attributes": ["fcc"]}
        ),
        ArgumentError, "convert_fx: .*no attribute 'fcc'; the nearest: 'fc'",
    ),
    "quantized input of what is no graph": (
        lambda: qcore.prepare_fx(
            nets.Choosing.Inner().eval(), QCONFIG, (torch.ones(1, 8),), {"input_quantized_idxs": [0]}
        ),
        QuantizationError, "for models that are one graph; this Inner cannot be traced at.*x.sum",
    ),
    "too few example inputs": (
        lambda: residual(example_inputs=()), ArgumentError, r"0 values.*Residual.forward\(x\).*missing.*'x'",
    ),
    "too many example inputs": (
        lambda: residual(example_inputs=(torch.ones(1), torch.ones(1))), ArgumentError, "2 values.*too many",
    ),
    "function instead of a module": (
        lambda: qcore.prepare_fx(torch.relu, QCONFIG, (torch.ones(1),)), ArgumentTypeError, "must be an nn.Module",
    ),
    "model that was prepared by modules": (
        lambda: qcore.prepare_fx(qcore.prepare(nets.made(nets.Shared)), QCONFIG, nets.batches(nets.Shared)[0]),
        QuantizationError, "already; give it the float model",
    ),
    "convert_fx of a model prepared by modules": (
        lambda: qcore.convert_fx(qcore.prepare(nets.made(nets.Shared))), QuantizationError, "qcore.convert converts",
    ),
    "name of a class": (
        lambda: residual(mapping=rule("set_object_type", "Conv2d")),
        QuantizationError, "a string names a method.*give the class",
    ),
    "number of a module": (lambda: rule("set_module_name", 0), ArgumentTypeError, "must be a string.*got 0"),
    "broken regex": (lambda: rule("set_module_name_regex", "("), ArgumentError, "is no regular expression"),
    "activations per channel": (
        lambda: residual(mapping=qcore.QConfig(PerChannelMinMaxObserver, QCONFIG.weight)),
        QuantizationError, "'c1'.*activations per channel",
    ),
    "training without rounding": (
        lambda: qcore.prepare_qat_fx(nets.made(nets.Residual).train(), QCONFIG, nets.batches(nets.Residual)[0]),
        QuantizationError, "'c1'.*no rounding.*get_default_qat_qconfig_mapping",
    ),
    "unknown key of the custom config": (
        lambda: residual(prepare_custom_config={"non_tracable": []}),
        ArgumentError, "'non_tracable'; it takes.*'non_traceable_module_name'",
    ),
    "absent input": (
        lambda: residual(prepare_custom_config=PrepareCustomConfig().set_input_quantized_indexes([1])),
        ArgumentError, "there is no input 1; the model has 1",
    ),
    "input before the first": (
        custom("set_input_quantized_indexes", [-1]), ArgumentError, "there is no input -1; the model has 1",
    ),
    "input by name": (custom("set_input_quantized_indexes", ["x"]), ArgumentError, "there is no input 'x'"),
    "index instead of indexes": (
        custom("set_output_quantized_indexes", 0), ArgumentTypeError, "output_quantized_indexes must be a list; got 0",
    ),
    "absent output": (
        lambda: residual(prepare_custom_config=PrepareCustomConfig().set_output_quantized_indexes([2])),
        ArgumentError, "there is no output 2; the model has 1",
    ),
    "quantized output of a float layer": (
        lambda: residual(
            mapping=qcore.QConfigMapping().set_global(QCONFIG).set_module_name("fc2", None),
            prepare_custom_config=PrepareCustomConfig().set_output_quantized_indexes([0]),
        ),
        QuantizationError, "output 0 .fc2. is not quantized",
    ),
    "custom class that makes nothing": (
        lambda: residual(prepare_custom_config=PrepareCustomConfig().set_float_to_observed_mapping(Doubling, nn.Tanh)),
        ArgumentTypeError, "Tanh needs a class method from_float",
    ),
    "quantized class that makes nothing": (
        lambda: qcore.convert_fx(
            residual(), ConvertCustomConfig().set_observed_to_quantized_mapping(ObservedDoubling, nn.Tanh)
        ),
        ArgumentTypeError, "Tanh needs a class method from_observed",
    ),
    "equalization": (
        lambda: residual(_equalization_config=qcore.QConfigMapping()), UnsupportedError, "_equalization_config",
    ),
    "rules for convert": (
        lambda: qcore.convert_fx(residual(), qconfig_mapping=qcore.QConfigMapping()),
        UnsupportedError, "rules are given to prepare_fx",
    ),
    "original weights": (
        lambda: qcore.convert_fx(residual(), keep_original_weights=True), UnsupportedError, "keep the float model",
    ),
    "unknown key of the backend config": (
        lambda: residual(backend_config={"name": "x", "patterns": []}),
        ArgumentError, "BackendConfig.from_dict: unknown key 'patterns'; it takes 'name', 'configs'",
    ),
    "unknown key of a pattern": (
        lambda: residual(backend_config={"configs": [{"pattern": nn.ReLU, "dtypes": []}]}),
        ArgumentError, "unknown key 'dtypes'; it takes.*'dtype_configs'",
    ),
    "lowering what is no reference": (lambda: qcore.lower_fx(residual()), QuantizationError, "convert_to_reference_fx"),
}  # fmt: skip


@pytest.mark.parametrize("use", WRONG)
def test_wrong_uses_are_refused_in_words(use):
    call, error, words = WRONG[use]
    with pytest.raises(error, match="(?s)" + words):
        call()


def test_converting_twice_is_an_error():
    prepared = calibrated(nets.made(nets.Shared), nets.batches(nets.Shared))
    for convert in (qcore.convert_fx, qcore.convert_to_reference_fx):
        with pytest.raises(QuantizationError, match="converted already"):
            convert(qcore.convert_fx(prepared))


def test_a_branch_that_calibration_never_took_is_named():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.one(x) if x.sum() > 0 else self.two(x)

    prepared = qcore.prepare_fx(Branches().eval(), QCONFIG, (torch.ones(1, 4),))
    assert qcore.report(prepared)["two"].reason == "not called on the example inputs"
    prepared(-torch.ones(1, 4))
    with pytest.raises(QuantizationError, match=r"'one'.*never calibrated"):
        qcore.convert_fx(prepared)


def test_integers_in_calibration_are_refused_by_name():
    prepared = residual()
    with pytest.raises(QuantizationError, match=r"'c1'.*uint8"):
        prepared(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


def test_nan_in_calibration_is_refused_by_name():
    with pytest.raises(QuantizationError, match=r"'c1'.*NaN"):
        residual()(torch.full((1, 3, 16, 16), float("nan")))


def test_a_custom_module_without_a_quantized_class_is_named():
    config = PrepareCustomConfig().set_float_to_observed_mapping(Doubling, ObservedDoubling)
    prepared = calibrated(WithCustom().eval(), [(torch.randn(4, 8),)], prepare_custom_config=config)
    with pytest.raises(QuantizationError, match=r"'doubling' \(ObservedDoubling\).*set_observed_to_quantized_mapping"):
        qcore.convert_fx(prepared)


@pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's compiler of scripts needs its legacy stack")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_models_are_refused():
    with pytest.raises(ArgumentTypeError, match="scripted model"):
        qcore.prepare_fx(torch.jit.script(nn.Linear(2, 2).eval()), QCONFIG, (torch.ones(1, 2),))
