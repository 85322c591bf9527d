"""What the eager flow is given: a model, classes, paths and qconfigs, or an error that names what is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore
from qcore import api
from qcore.api import qconfig as qconfigs
from qcore.nn.quantized import dynamic as nnqd

PRESET = qconfigs.default_dynamic_qconfig


def model():
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.LSTM(4, 4))


def dynamic(spec=None, **options):
    """Paths of the layers that are quantized."""
    made = api.quantize_dynamic(model(), spec, backend="reference", **options)
    return [path for path, module in made.named_modules() if isinstance(module, nnqd.Linear | nnqd.LSTM)]


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        (None, ["0", "1.0", "2"]),
        ({nn.Linear}, ["0", "1.0"]),
        ({"1.0"}, ["1.0"]),
        (["1"], ["1.0"]),
        ({nn.Linear, "2"}, ["0", "1.0", "2"]),
        ({nn.LSTM: PRESET}, ["2"]),
        ({nn.Linear: PRESET, "1.0": None}, ["0"]),
        ({"": PRESET}, ["0", "1.0", "2"]),
        ({}, []),
    ],
)
def test_forms_of_qconfig_spec(spec, paths):
    assert dynamic(spec) == paths


def test_a_mapping_of_ones_own_limits_the_classes():
    assert dynamic(mapping={nn.Linear: nnqd.Linear}) == ["0", "1.0"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("1.0", "a set of module classes"),
        (nn.Linear, "a set of module classes"),
        (7, "a set of module classes"),
        ({7}, "7 is neither a module class nor a path"),
        ({int: PRESET}, "neither a module class nor a path"),
        ({nn.Linear: 7}, "its qconfig is 7"),
    ],
)
def test_other_forms_are_refused(spec, message):
    with pytest.raises(qcore.ArgumentTypeError, match=message):
        dynamic(spec)


@pytest.mark.parametrize("call", [api.prepare, api.convert, api.quantize_dynamic])
def test_what_is_no_module_is_refused(call):
    with pytest.raises(qcore.ArgumentTypeError, match=r"must be a torch\.nn\.Module, not int"):
        call(7)


def test_a_wrong_qconfig_is_refused_with_the_path():
    wrong = model()
    wrong[1][0].qconfig = "int8"
    with pytest.raises(qcore.ArgumentTypeError, match=r"module '1\.0': its qconfig is 'int8'"):
        api.prepare(wrong, backend="reference")


def test_a_mapping_to_classes_that_cannot_be_made_is_refused():
    for mapping in ({nn.Linear: nn.Linear}, {"0": nnqd.Linear}):
        with pytest.raises(qcore.ArgumentTypeError, match="from_float"):
            dynamic(mapping=mapping)
    prepared = api.prepare(api.QuantWrapper(nn.Linear(4, 4)), backend="reference")
    prepared(torch.randn(2, 4))
    with pytest.raises(qcore.ArgumentTypeError, match="from_float"):
        api.convert(prepared, mapping={nn.Linear: nn.Linear})


def test_unknown_keys_of_custom_configurations_are_refused():
    with pytest.raises(qcore.ArgumentError, match="not 'float_to_observed'"):
        api.prepare(model(), prepare_custom_config_dict={"float_to_observed": {}}, backend="reference")
