"""QConfigs on their own: what they accept, how they compare, and what a backend's declaration leads to."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import qcore
from qcore import operators as ops
from qcore.api import qconfig
from qcore.api.fake_quantize import FusedMovingAvgObsFakeQuantize
from qcore.api.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
)
from qcore.api.qconfig import (
    QConfig,
    QConfigDynamic,
    default_dynamic_qconfig,
    default_per_channel_qconfig,
    default_qconfig,
    derive_qconfig,
    get_default_dynamic_qconfig,
    get_default_qat_qconfig,
    get_default_qconfig,
    qconfig_equals,
)
from qcore.backend import Availability, Backend, Kernel, Mode
from qcore.capability import Capability, OpSpec, WeightSpec
from qcore.errors import ArgumentError, ArgumentTypeError, BackendError
from qcore.hookspec import hookimpl
from qcore.operators import Operator
from qcore.registry import registry
from qcore.tensor.dtypes import qint8, quint8

PER_TENSOR, PER_CHANNEL = WeightSpec(qint8), WeightSpec(qint8, per_channel=True, symmetric=True)
PRESETS = sorted(name for name in vars(qconfig) if name.endswith(("_qconfig", "_4bit", "_v2")) and "get_" not in name)
PRESETS = [name for name in PRESETS if isinstance(getattr(qconfig, name), QConfig)]


def test_a_qconfig_is_a_pair() -> None:
    activation, weight = made = QConfig(activation=MinMaxObserver, weight=MinMaxObserver.with_args(dtype=qint8))
    assert (made.activation, made.weight) == (activation, weight) == made
    assert made._replace(activation=HistogramObserver) == QConfig(HistogramObserver, weight)
    assert made == QConfig(MinMaxObserver, MinMaxObserver.with_args(dtype=qint8))
    assert made != QConfig(MinMaxObserver, MinMaxObserver)
    assert len({made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))}) == 1
    assert qconfig_equals(made, copy.copy(made))
    assert qconfig_equals(None, None)
    assert not qconfig_equals(made, None)
    assert isinstance(QConfigDynamic(), QConfig)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": MinMaxObserver(), "weight": MinMaxObserver}, "activation is an instance of MinMaxObserver"),
        ({"activation": MinMaxObserver, "weight": MinMaxObserver()}, "weight is an instance"),
        ({"activation": None, "weight": MinMaxObserver}, "activation=None"),
        ({"activation": MinMaxObserver, "weight": "int8"}, "weight='int8'"),
    ],
)
def test_instances_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=message):
        QConfig(**arguments)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_new_observers_each_time(name: str) -> None:
    preset = getattr(qconfig, name)
    for maker in preset:
        one, two = maker(), maker()
        assert isinstance(one, nn.Module)
        assert one is not two
    assert pickle.loads(pickle.dumps(preset)) == preset == copy.deepcopy(preset)


def capability(**kwargs: Any) -> Capability:
    return Capability(ops=(OpSpec(**kwargs),))


def test_static_uses_all_of_the_first_dtype_and_channels_where_declared() -> None:
    found = derive_qconfig(capability(operator=ops.Linear, weights=(PER_TENSOR, PER_CHANNEL)), "static")
    activation, weight = found.activation(), found.weight()
    assert isinstance(activation, HistogramObserver)
    assert (activation.dtype, activation.quant_min, activation.quant_max) == (quint8, 0, 255)
    assert isinstance(weight, PerChannelMinMaxObserver)
    assert (weight.dtype, weight.qscheme) == (qint8, qcore.per_channel_symmetric)
    found = derive_qconfig(capability(operator=ops.Conv, activations=(qint8, quint8), weights=(PER_TENSOR,)), "static")
    activation, weight = found.activation(), found.weight()
    assert (activation.dtype, activation.quant_min, activation.quant_max) == (qint8, -128, 127)
    assert isinstance(weight, MinMaxObserver)
    assert weight.qscheme == qcore.per_tensor_symmetric


@pytest.mark.parametrize("options", [(), ("per_row",), ("reduce_range", "per_row")])
def test_dynamic_goes_by_rows_where_declared(options: tuple[str, ...]) -> None:
    declared = capability(operator=ops.LinearDynamic, weights=(PER_CHANNEL,), options=options)
    activation = derive_qconfig(declared, "dynamic").activation()
    assert isinstance(activation, PlaceholderObserver)
    assert (activation.dtype, activation.quant_min, activation.quant_max) == (quint8, 0, 255)
    assert activation.is_dynamic
    assert activation.per_row == ("per_row" in options)


def test_dynamic_goes_by_rows_where_a_fallback_runs_it() -> None:
    found = derive_qconfig(capability(operator=ops.Linear, weights=(PER_CHANNEL,)), "dynamic")
    assert found.activation().per_row
    assert found.weight().qscheme == qcore.per_channel_symmetric


@pytest.mark.parametrize("weights", [(PER_TENSOR,), (PER_CHANNEL,)])
def test_qat_is_fused(weights: tuple[WeightSpec, ...]) -> None:
    found = derive_qconfig(capability(operator=ops.Linear, weights=weights), "qat")
    activation, weight = found.activation(), found.weight()
    assert isinstance(activation, FusedMovingAvgObsFakeQuantize)
    assert isinstance(weight, FusedMovingAvgObsFakeQuantize)
    assert (activation.quant_min, activation.quant_max, weight.quant_min, weight.quant_max) == (0, 255, -128, 127)
    per_channel = weights == (PER_CHANNEL,)
    assert isinstance(weight.activation_post_process, MovingAveragePerChannelMinMaxObserver) == per_channel
    weight(torch.randn(3, 4))
    assert weight.scale.shape == ((3,) if per_channel else (1,))


def test_a_backend_that_declares_nothing_gets_plain_qconfigs() -> None:
    for mode in ("static", "dynamic", "qat"):
        found = derive_qconfig(Capability(), mode)
        assert all(isinstance(maker(), nn.Module) for maker in found)


class Own(Backend):
    """A backend with QConfigs of its own for static quantization, and a wrong one for dynamic."""

    name, version = "own", "1"

    def probe(self) -> Availability:
        return Availability(True)

    def capability(self) -> Capability:
        return capability(operator=ops.Linear, weights=(PER_CHANNEL,))

    def build(self, operator: Operator) -> Kernel:
        raise NotImplementedError

    def default_qconfig(self, mode: Mode) -> Any:
        return {"static": default_per_channel_qconfig, "dynamic": "fast"}.get(mode)


class Plugin:
    """The hook that gives it."""

    @hookimpl
    def qcore_backend(self) -> Backend:
        return Own()


@pytest.fixture
def own() -> Any:
    registry.register(Plugin(), "own")
    yield "own"
    registry.unregister("own")


def test_a_backends_own_qconfig_comes_first(own: str) -> None:
    assert get_default_qconfig(own) is default_per_channel_qconfig
    assert get_default_qat_qconfig(own) == derive_qconfig(Own().capability(), "qat")
    with pytest.raises(ArgumentTypeError, match="'own' gave 'fast'"):
        get_default_dynamic_qconfig(own)


def test_defaults_of_unknown_backends_and_versions_are_errors(own: str) -> None:
    for get in (get_default_qconfig, get_default_qat_qconfig, get_default_dynamic_qconfig):
        with pytest.raises(BackendError, match="not installed"):
            get("no_such_backend")
    with pytest.raises(ArgumentError, match="version=7"):
        get_default_qconfig(own, version=7)
    assert get_default_qconfig(own, 1) == get_default_qconfig(own, version=0)


def test_the_names_mean_what_they_say() -> None:
    assert default_qconfig.activation().quant_max == 127
    assert default_dynamic_qconfig.activation().is_dynamic
