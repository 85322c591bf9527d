"""BackendConfig: the public form of a declaration, and how it narrows what is quantized."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.backend_config import (
    BackendConfig,
    BackendPatternConfig,
    DTypeConfig,
    DTypeWithConstraints,
    ObservationType,
    get_backend_config,
)
from qcore.api.observer import FixedQParamsObserver, MinMaxObserver, default_weight_observer
from qcore.errors import ArgumentError, ArgumentTypeError

FULL = qcore.QConfig(MinMaxObserver, default_weight_observer)
REDUCED = qcore.QConfig(MinMaxObserver.with_args(quant_min=0, quant_max=127), default_weight_observer)


def test_what_a_backend_declares_in_this_form():
    config = get_backend_config("reference")
    patterns = {each.pattern: each for each in config.configs}
    assert config.name == "reference" and (nn.Conv2d, nn.BatchNorm2d, nn.ReLU) in patterns
    assert patterns[nn.Linear].dtype_configs[0].input_dtype == qcore.quint8
    assert patterns[nn.Linear].root_module is nn.Linear
    assert patterns[torch.cat].observation_type is ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT
    assert {row.outcome for row in report(config)} == {"quantized"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)) + x)


def report(config, qconfig=FULL):
    return qcore.report(qcore.prepare_fx(Net().eval(), qconfig, (torch.randn(2, 4),), backend_config=config))


def linears(*dtypes):
    return BackendConfig("mine").set_backend_pattern_config(
        BackendPatternConfig(nn.Linear)
        .set_observation_type(ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT)
        .set_dtype_configs(dtypes)
    )


def test_only_its_patterns_are_quantized():
    found = report(linears())
    assert found["fc2"].outcome == "quantized"
    assert found["add"].reason == "the backend config 'mine' has no pattern for it"
    assert found["fc1"].operator == "linear" and "no pattern" in found["relu"].reason
    both = linears().set_backend_pattern_configs([BackendPatternConfig((nn.Linear, nn.ReLU))])
    assert report(both)["fc1"].operator == "linear + relu"


def test_dict_forms_go_both_ways_and_to_prepare():
    dtypes = DTypeConfig(DTypeWithConstraints(qcore.quint8, quant_max_upper_bound=127), qcore.quint8, qcore.qint8)
    config = linears(dtypes).set_backend_pattern_config(
        BackendPatternConfig()
        .set_pattern((nn.Linear, nn.ReLU))
        .set_fused_module(nn.Sequential)
        .set_root_module(nn.Linear)
    )
    given = config.to_dict()
    assert given["name"] == "mine" and given["configs"][0]["pattern"] is nn.Linear
    again = BackendConfig.from_dict(given)
    assert again.configs == config.configs and again.to_dict() == given
    assert (
        report({"name": "mine", "configs": [{"pattern": nn.Linear, "dtype_configs": [dtypes.to_dict()]}]}, REDUCED)[
            "fc2"
        ].outcome
        == "quantized"
    )
    declared = get_backend_config("reference")
    assert BackendConfig.from_dict(declared.to_dict()).configs == declared.configs


def bounded(**bounds):
    return linears(DTypeConfig(DTypeWithConstraints(qcore.quint8, **bounds), qcore.quint8, qcore.qint8))


def test_constraints_leave_float_what_does_not_keep_them():
    assert report(bounded(quant_max_upper_bound=127), REDUCED)["fc2"].outcome == "quantized"
    for config, words in [
        (bounded(quant_max_upper_bound=127), "quant_max=255, above the bound 127"),
        (bounded(scale_min_lower_bound=0.01), "below the least scale 0.01"),
        (linears(DTypeConfig(qcore.qint8)), "activations are qcore.quint8, not qcore.qint8"),
        (linears(DTypeConfig(weight_dtype=qcore.quint8)), "weights are qcore.qint8"),
        (linears(DTypeConfig(is_dynamic=True)), "activations are not dynamic"),
    ]:
        found = report(config)["fc2"]
        assert found.outcome == "float" and words in found.reason
    any_of = linears(DTypeConfig(qcore.qint8), DTypeConfig(qcore.quint8))
    assert report(any_of)["fc2"].outcome == "quantized"


def test_fixed_parameters_must_match_exactly():
    observer = FixedQParamsObserver(1 / 256, 0)
    assert DTypeWithConstraints(scale_exact_match=1 / 256, zero_point_exact_match=0).problem(observer, "it") == ""
    assert "not (0.5, None)" in DTypeWithConstraints(scale_exact_match=0.5).problem(observer, "it has")


def test_lower_bounds():
    assert "below the bound 1" in DTypeWithConstraints(quant_min_lower_bound=1).problem(MinMaxObserver(), "they")


def test_torchs_dtypes_mean_ours():
    dtype = vars(torch).get("quint8", qcore.quint8)
    assert report(linears(DTypeConfig(dtype)))["fc2"].outcome == "quantized"


def test_dicts_and_printing():
    config = DTypeConfig(qcore.quint8, weight_dtype=DTypeWithConstraints(qcore.qint8, -127), is_dynamic=False)
    assert DTypeConfig.from_dict(config.to_dict()) == config and "quint8" in repr(config)
    assert repr(linears()) == "BackendConfig('mine', 1 patterns)"


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ArgumentTypeError, match="unexpected keyword"):
        DTypeConfig.from_dict({"input": qcore.quint8})
    with pytest.raises(ArgumentError, match="pattern is not given"):
        BackendConfig().set_backend_pattern_config(BackendPatternConfig())
    with pytest.raises(ArgumentTypeError, match="backend_config must be a qcore BackendConfig, its dict form, or None"):
        report([nn.Linear])
