"""Custom configs: setters, dict forms, and what is refused."""

from __future__ import annotations

import pytest
from torch import nn

from qcore.api.custom_config import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig, as_config
from qcore.errors import ArgumentError, ArgumentTypeError


class Observed(nn.Module):
    pass


class Quantized(nn.Module):
    pass


def test_prepare_config_goes_to_a_dict_and_back():
    config = (
        PrepareCustomConfig()
        .set_standalone_module_name("block", None, (1,))
        .set_standalone_module_class(nn.Bilinear)
        .set_float_to_observed_mapping(nn.Linear, Observed)
        .set_float_to_observed_mapping(nn.LSTM, Observed, "dynamic")
        .set_non_traceable_module_names(["a", "b.c"])
        .set_non_traceable_module_classes([nn.GRU])
        .set_input_quantized_indexes([0])
        .set_output_quantized_indexes([1])
        .set_preserved_attributes(["labels"])
    )
    found = config.to_dict()
    assert found["float_to_observed_custom_module_class"] == {
        "static": {nn.Linear: Observed},
        "dynamic": {nn.LSTM: Observed},
    }
    assert found["non_traceable_module_name"] == ["a", "b.c"] and found["input_quantized_idxs"] == [0]
    assert PrepareCustomConfig.from_dict(found) == config
    assert PrepareCustomConfig().to_dict() == {}


def test_the_other_configs_go_to_a_dict_and_back():
    config = ConvertCustomConfig().set_observed_to_quantized_mapping(Observed, Quantized)
    assert config.to_dict() == {"observed_to_quantized_custom_module_class": {"static": {Observed: Quantized}}}
    assert ConvertCustomConfig.from_dict(config.to_dict()) == config
    fusing = FuseCustomConfig().set_preserved_attributes(["labels"])
    assert FuseCustomConfig.from_dict(fusing.to_dict()) == fusing and "labels" in repr(fusing)


@pytest.mark.parametrize("kind", [PrepareCustomConfig, ConvertCustomConfig, FuseCustomConfig])
def test_unknown_keys_and_types_are_refused(kind):
    with pytest.raises(ArgumentError, match="unknown key 'nontraceable'"):
        kind.from_dict({"nontraceable": []})
    with pytest.raises(ArgumentTypeError, match=rf"custom must be a {kind.__name__}, its dict form, or None; got int"):
        as_config(3, kind, "custom")
    assert as_config(None, kind, "custom") == kind()


def test_quant_types_are_checked():
    with pytest.raises(ArgumentError, match="quant_type='fast' must be"):
        PrepareCustomConfig().set_float_to_observed_mapping(nn.Linear, Observed, "fast")
