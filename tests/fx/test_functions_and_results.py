"""What a model calls that is no operator: functions of the user's, functions of the mode, classes of results."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import qcore
from qcore.api.fake_quantize import disable_observer
from qcore.api.quantize_fx import prepare_qat_fx
from tests.fx.test_operators import QCONFIG

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A function of the module and an activation, between two layers, in a module of its own; (batch, 8)."""

    class Block(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function
            self.weight = nn.Parameter(torch.eye(8))

        def forward(self, x):
            return self.function(self, x)

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block, self.last = nn.Linear(8, 8), self.Block(function), nn.Linear(8, 8)

    def forward(self, x):
        return self.last(self.block(self.first(x)))


def converted(model, mapping=QCONFIG):
    prepared = qcore.prepare_fx(model.eval(), mapping, (X,))
    prepared(X)
    return qcore.convert_fx(prepared)


def floats(model):
    return {row.path: row.reason for row in qcore.report(model).float_rows}


# --- functions of the user's ------------------------------------------------------------------------------------------


@fx.wrap
def doubled(x, relu):
    y = torch.cat([x, x], 1)[:, :8] + x
    return F.relu(y) if relu else y


@fx.wrap
def by_value(x):
    return x + x if x.sum() > -1e9 else x


@pytest.mark.parametrize("relu", [False, True])
def test_a_wrapped_function_is_looked_into(relu):
    model = Net(lambda self, x: doubled(x, relu))
    found = converted(model)
    assert floats(found) == {} and qcore.report(found)["block.add"].operator == ("add + relu" if relu else "add")
    assert (found(X) - model(X)).square().sum() < 0.001 * model(X).square().sum()


def test_a_wrapped_function_that_cannot_be_traced_stays_a_call():
    model = Net(lambda self, x: by_value(x))
    found = converted(model)
    assert floats(found) == {"block.by_value": "by_value has no quantized form"}
    assert (found(X) - model(X)).square().sum() < 0.001 * model(X).square().sum()


def test_a_wrapped_function_with_a_rule_stays_a_call():
    mapping = qcore.QConfigMapping().set_global(QCONFIG).set_object_type(doubled, None)
    assert list(floats(converted(Net(lambda self, x: doubled(x, True)), mapping))) == ["block.doubled"]


def test_rules_for_a_module_hold_for_functions_with_weights_in_it():
    model = Net(lambda self, x: F.linear(x, self.weight))
    mapping = qcore.QConfigMapping().set_global(QCONFIG).set_module_name("block", None)
    assert floats(converted(model, mapping)) == {"block.linear": "its qconfig is None"}
    assert qcore.report(converted(model))["block.linear"].operator == "linear"


def test_a_rule_for_a_class_holds_for_the_functions_that_its_modules_call():
    # as in torch: modules inside have rules of their own
    mapping = qcore.QConfigMapping().set_global(QCONFIG).set_object_type(Net.Block, None)
    model = Net(lambda self, x: torch.relu(x * self.weight[0]))
    assert list(floats(converted(model, mapping))) == ["block.mul", "block.relu"]
    only = qcore.QConfigMapping().set_object_type(Net.Block, QCONFIG)
    assert [row.path for row in qcore.report(converted(model, only)).quantized_rows] == ["block.mul"]


# --- functions of the mode --------------------------------------------------------------------------------------------


@fx.wrap
def noisy(x, scale, training):
    return x * (1 + scale * torch.randn(x.shape[0], *[1] * (x.ndim - 1))) if training else x


@fx.wrap
def raised(x, training):
    return torch.exp(x).clamp(max=20.0 if training else 10.0)


MODES = {
    "dropout": lambda self, x: F.dropout(x, 0.5, self.training),
    "feature dropout": lambda self, x: F.dropout1d(x[:, None], p=0.5, training=self.training)[:, 0],
    "of the user's": lambda self, x: noisy(x, 0.5, self.training),
    "with another result": lambda self, x: raised(x, training=self.training),
}


@pytest.mark.parametrize("name", MODES)
def test_functions_that_are_told_the_mode_follow_it(name):
    model = Net(MODES[name]).train()
    prepared = prepare_qat_fx(model, None, (X,))
    for _ in range(3):
        prepared(X)
    prepared = pickle.loads(pickle.dumps(copy.deepcopy(prepared)))
    random = name != "with another result"
    assert torch.equal(prepared.apply(disable_observer)(X), prepared(X)) is not random
    prepared.eval()
    assert torch.equal(prepared(X), prepared(X))
    found = qcore.convert_fx(prepared)
    assert len(floats(found)) == (not random)
    exact = copy.deepcopy(model).eval()(X)
    assert (found(X) - exact).square().sum() < 0.01 * exact.square().sum()


def test_dropout_that_never_ends_stays_float_with_the_reason():
    found = converted(Net(lambda self, x: F.dropout(x, 0.5)))
    assert "it drops elements at inference, too" in floats(found)["block.dropout"]
    assert not torch.equal(found(X), found(X))


# --- classes of results -----------------------------------------------------------------------------------------------


@dataclass
class Output(OrderedDict):
    """As Hugging Face's: a dict by name, that is a dataclass."""

    y: torch.Tensor | None = None
    z: torch.Tensor | None = None

    def __post_init__(self):
        self.update({name: value for name, value in (("y", self.y), ("z", self.z)) if value is not None})


class Plain(dict):
    pass


class Giving(nn.Module):
    def __init__(self, make):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.make = nn.Linear(8, 8), make

    def forward(self, x):
        return self.make(self.fc(x))


@pytest.mark.parametrize("make", [lambda y: OrderedDict(y=y), lambda y: Output(y=y), lambda y: {"y": y}])
def test_results_keep_their_class(make):
    model = Giving(make).eval()
    found = converted(model)
    assert floats(found) == {} and [row.path for row in qcore.report(found)] == ["fc"]
    for each in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert type(each(X)) is type(model(X)) and each(X).keys() == model(X).keys()
        assert torch.equal(each(X)["y"], found(X)["y"])
    assert (found(X)["y"] - model(X)["y"]).abs().max() < 0.1


def test_dicts_are_saved_with_their_order(tmp_path):
    found = converted(Giving(lambda y: OrderedDict(y=y, z=(y,))))
    qcore.save(found, tmp_path / "model.qcore")
    result = qcore.load(tmp_path / "model.qcore")(X)
    assert type(result) is OrderedDict and torch.equal(result["y"], found(X)["y"])


def test_a_module_that_gives_another_dict_stays_a_module():
    model = Net(lambda self, x: Plain(y=x)["y"])
    assert floats(converted(model)) == {}  # it is used where it is traced

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Giving(lambda y: Plain(y=y))

        def forward(self, x):
            return self.inner(x)["y"] if x.sum() < 1e9 else x

    outer = Outer().eval()
    found = converted(outer)
    report = qcore.report(found)
    assert "it makes a Plain" in report["inner"].reason and report["inner.fc"].outcome == "quantized"
    assert type(found.inner(X)) is Plain and (found(X) - outer(X)).abs().max() < 0.1


# --- inputs and weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "take"),
    [({"x": X, "scale": 2}, lambda given: given["x"]), ([[X], 0], lambda given: given[0][0]), ((X, X), lambda x: x[1])],
)
def test_tensors_in_containers_are_quantized(given, take):
    class Taking(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, given):
            return self.fc(take(given))

    model = Taking().eval()
    prepared = qcore.prepare_fx(model, QCONFIG, (given,))
    prepared(given)
    found = qcore.convert_fx(prepared)
    assert floats(found) == {} and found.fc.weight().dtype is qcore.qint8


def test_weights_that_an_embedding_and_a_function_share():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.table, self.fc = nn.Embedding(10, 8), nn.Linear(8, 8)

        def forward(self, indices):
            return F.linear(self.fc(self.table(indices)), self.table.weight)

    model, indices = Tied().eval(), torch.arange(10)
    prepared = qcore.prepare_fx(model, None, (indices,), backend="reference")
    prepared(indices)
    found = qcore.convert_fx(prepared)
    assert floats(found) == {}
    assert [row.operator for row in qcore.report(found)] == ["embedding", "linear", "linear"]
    assert (found(indices) - model(indices)).square().sum() < 0.001 * model(indices).square().sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_dtype_stay_with_the_reason(dtype):
    model = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid()).to(dtype).eval()
    prepared = qcore.prepare_fx(model, QCONFIG, (X.to(dtype),))
    found = qcore.convert_fx(prepared)
    assert {row.outcome for row in qcore.report(found)} == {"float"}
    assert all("not of float32" in reason for reason in floats(found).values())
    assert torch.equal(found(X.to(dtype)), model(X.to(dtype)))
