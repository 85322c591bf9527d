"""Patterns of the user's own in a BackendConfig: how they fuse, train, quantize and are observed; what is refused."""

from __future__ import annotations

import copy

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
from qcore.api.qconfig_mapping import get_default_qat_qconfig_mapping
from qcore.nn import qat as nnqat
from qcore.nn import quantized as nnq
from tests.fx.test_inplace import QCONFIG
from tests.fx.test_passes import Body

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
SHARE = ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT


class GatedSum(nn.Module):
    """A linear layer, plus another input, through tanh: what a pattern of three calls fuses to."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x, other):
        return torch.tanh(self.linear(x) + other)


class QuantizedGatedSum(nn.Module):
    """On quantized tensors; any class with a from_float will do."""

    def __init__(self, linear, out):
        super().__init__()
        self.linear, self.out = linear, out

    @classmethod
    def from_float(cls, mod):
        scale, zero_point = mod.activation_post_process.calculate_qparams()
        return cls(copy.deepcopy(mod.linear), (float(scale), int(zero_point)))

    def forward(self, x, other):
        assert isinstance(x, qcore.QTensor) and isinstance(other, qcore.QTensor)
        numbers = torch.tanh(self.linear(x.dequantize()) + other.dequantize())
        return qcore.quantize_per_tensor(numbers, *self.out, qcore.quint8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        other = self.second(x)
        return self.last(torch.tanh(torch.add(self.first(x), other)))


def config(*patterns):
    return BackendConfig("mine").set_backend_pattern_configs([BackendPatternConfig(nn.Linear), *patterns])


def pattern(parts=(nn.Linear, torch.add, torch.tanh)):
    return BackendPatternConfig(parts)


def quantized(model, backend_config, x=X, **options):
    prepared = qcore.prepare_fx(model.eval(), QCONFIG, (x,), backend_config=backend_config, **options)
    prepared(x)
    return prepared, qcore.convert_fx(prepared)


def fused_gate():
    made = pattern().set_fuser_method(lambda is_qat, linear, add, tanh: GatedSum(linear))
    return made.set_reference_quantized_module(QuantizedGatedSum)


@torch.no_grad()
def test_a_pattern_of_functions_with_a_further_input_becomes_the_users_module():
    model = Net().eval()
    prepared, converted = quantized(model, config(fused_gate()))
    assert type(prepared.first) is GatedSum and type(converted.first) is QuantizedGatedSum
    assert "self.first(quantize, second)" in converted.code and converted.code.count("dequantize()") == 1
    row = qcore.report(converted)["first"]
    assert (row.outcome, row.operator) == ("quantized", "QuantizedGatedSum")
    assert (converted(X) - model(X)).square().sum() < 1e-3 * model(X).square().sum()
    reference = qcore.convert_to_reference_fx(prepared)
    assert (reference(X) - converted(X)).square().sum() < 1e-3 * model(X).square().sum()
    assert torch.equal(copy.deepcopy(converted)(X), converted(X))


def test_fuse_fx_fuses_by_the_users_patterns_alone():
    fused = qcore.fuse_fx(Net().eval(), backend_config=config(fused_gate()))
    assert type(fused.first) is GatedSum
    torch.testing.assert_close(fused(X), Net()(X))
    alone = qcore.fuse_fx(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), backend_config=config())
    assert type(alone.get_submodule("0")) is nn.Linear


class LinearTanh(nn.Sequential):
    """A fused module that is called with its parts."""


class TrainedLinear(nnqat.Linear):
    """What the user trains a Linear as."""


class OwnLinear(nnq.Linear):
    """What the user quantizes a Linear to."""


def test_a_fused_module_needs_no_fuser_method():
    fused = qcore.fuse_fx(
        nn.Sequential(nn.Linear(4, 4), nn.Tanh()).eval(),
        backend_config=config(pattern((nn.Linear, nn.Tanh)).set_fused_module(LinearTanh)),
    )
    assert type(fused.get_submodule("0")) is LinearTanh


def test_the_users_classes_are_trained_and_quantized():
    own = BackendPatternConfig(nn.Linear).set_qat_module(TrainedLinear).set_reference_quantized_module(OwnLinear)
    config = BackendConfig("mine").set_backend_pattern_config(own)
    mapping = get_default_qat_qconfig_mapping()
    prepared = qcore.prepare_qat_fx(nn.Sequential(nn.Linear(4, 4)).train(), mapping, (X,), backend_config=config)
    assert type(prepared.get_submodule("0")) is TrainedLinear
    prepared(X).sum().backward()
    converted = qcore.convert_fx(prepared.eval())
    assert type(converted.get_submodule("0")) is OwnLinear and qcore.report(converted)["0"].outcome == "quantized"
    error = (converted(X) - prepared(X)).square().sum()
    assert error < 1e-3 * prepared(X).square().sum()


def test_a_relu_joins_a_sum_only_where_the_pattern_is_there():
    model = Body(lambda self, x: F.relu(self.fc(x) + x), fc=nn.Linear(4, 4))
    sums, both = BackendPatternConfig(torch.add), BackendPatternConfig((torch.add, nn.ReLU))
    relu = BackendPatternConfig(F.relu).set_observation_type(SHARE)
    model.body = lambda self, x: F.relu(torch.add(self.fc(x), x))
    alone = qcore.report(quantized(model, config(sums, relu))[1])
    assert (alone["add"].operator, alone["relu"].operator) == ("add", "clamp")
    assert qcore.report(quantized(model, config(sums, both))[1])["add"].operator == "add + relu"


def observers(prepared):
    return len({node.target for node in prepared.graph.nodes if "activation_post_process" in str(node.target)})


def test_observation_types_are_kept():
    model = Body(lambda self, x: torch.cat([self.fc(x), self.fc2(x)], 1), fc=nn.Linear(4, 4), fc2=nn.Linear(4, 4))
    own, shared = BackendPatternConfig(torch.cat), BackendPatternConfig(torch.cat).set_observation_type(SHARE)
    (apart, one), (together, other) = quantized(model, config(own)), quantized(model, config(shared))
    assert (observers(apart), observers(together)) == (4, 2)
    assert not qcore.report(one).float_rows and not qcore.report(other).float_rows
    assert one.code.count("quantize") == other.code.count("quantize")


def left_float(call, *patterns, **modules):
    prepared, _ = quantized(Body(call, fc=nn.Linear(4, 4), **modules), config(*patterns))
    (row,) = qcore.report(prepared).float_rows
    return row.reason


def test_what_an_observation_type_cannot_be_is_said():
    pools = BackendPatternConfig(nn.MaxPool1d)
    assert "must be OUTPUT_SHARE_OBSERVER" in left_float(lambda s, x: s.p(s.fc(x)), pools, p=nn.MaxPool1d(2))
    quiet = BackendPatternConfig(F.gelu).set_observation_type(ObservationType.INPUT_OUTPUT_NOT_OBSERVED)
    assert "does not observe it" in left_float(lambda s, x: F.gelu(s.fc(x)), quiet)


def test_fixed_parameters_must_be_those_of_the_pattern():
    def sigmoid(scale):
        out = DTypeWithConstraints(qcore.quint8, scale_exact_match=scale, zero_point_exact_match=0)
        return BackendPatternConfig(torch.sigmoid).add_dtype_config(DTypeConfig(qcore.quint8, out))

    _, converted = quantized(Body(lambda s, x: torch.sigmoid(s.fc(x)), fc=nn.Linear(4, 4)), config(sigmoid(1 / 256)))
    assert not qcore.report(converted).float_rows
    assert "not (0.5, 0)" in left_float(lambda s, x: torch.sigmoid(s.fc(x)), sigmoid(0.5))


def test_a_backends_own_config_changes_nothing():
    from tests.fx import nets

    for kind in (nets.Residual, nets.Gated):
        model, (x,) = nets.made(kind), nets.batches(kind)[0]
        for one, other in zip(
            *(_results(quantized(model, each, x)[1], x) for each in (None, get_backend_config())), strict=True
        ):
            assert torch.equal(one, other)


def _results(model, x):
    found = model(x)
    return found if isinstance(found, tuple) else (found,)


def test_what_nothing_computes_is_an_error_that_says_what_to_give():
    with pytest.raises(qcore.QuantizationError, match=r"'soft'.*'mine' has a pattern for Softsign, which no kernel"):
        quantized(Body(lambda s, x: s.soft(x), soft=nn.Softsign()), config(BackendPatternConfig(nn.Softsign)))
    fused = pattern((nn.Linear, nn.Tanh)).set_fused_module(LinearTanh)
    with pytest.raises(qcore.QuantizationError, match=r"LinearTanh, which no kernel.*set_reference_quantized_module"):
        quantized(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), config(fused))
    with pytest.raises(qcore.ArgumentError, match="tuple of these in order of execution"):
        quantized(Net(), config(pattern((nn.Linear, (torch.add, nn.ReLU)))))
    wrong = pattern((nn.Linear, nn.Tanh)).set_fuser_method(lambda *parts: None)
    with pytest.raises(qcore.ArgumentTypeError, match=r"must return an nn\.Module; it gave NoneType"):
        quantized(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), config(wrong))
