"""The catalogue: subclasses are matched or told apart, and every class in it is covered by tests."""

from __future__ import annotations

import importlib

import pytest
from torch import nn

from qcore.nn import catalog
from qcore.nn import intrinsic as nni
from qcore.nn import quantized as nnq
from tests.nn.every_module import COVERED, LEFT_OUT, SAMPLES


def test_the_samples_cover_the_catalogue():
    everything = {(stage, kind) for stage in ("static", "dynamic") for kind in catalog.mapping(stage)}
    assert everything - LEFT_OUT == COVERED


def test_a_float_class_is_listed_once():
    kinds = [entry.float for entry in catalog.CATALOG]
    assert len(kinds) == len(set(kinds))


def test_fusions_come_from_the_parts_of_the_classes():
    assert catalog.fusions()[(nn.Conv2d, nn.BatchNorm2d, nn.ReLU)] is nni.ConvBnReLU2d
    assert catalog.fusions()[(nn.Linear, nn.ReLU)] is nni.LinearReLU


class Renamed(nn.Linear):
    """A subclass that computes the same."""


class Doubling(nn.Linear):
    """A subclass that does not."""

    def forward(self, input):
        return 2 * super().forward(input)


class Padded(nn.Conv2d):
    """A subclass that changes a part of forward."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input + 1, weight, bias)


@pytest.mark.parametrize(
    ("kind", "target"),
    [(nn.Linear, nnq.Linear), (Renamed, nnq.Linear), (Doubling, None), (Padded, None), (nn.Softmax, None)],
)
def test_match(kind, target):
    assert catalog.match(kind, catalog.mapping("static")).target is target


def test_a_changed_subclass_is_told_apart_with_the_reason():
    assert (
        catalog.match(Doubling, catalog.mapping("dynamic")).reason == "a subclass of Linear with a forward of its own"
    )
    assert (
        catalog.match(Padded, catalog.mapping("static")).reason
        == "a subclass of Conv2d with a _conv_forward of its own"
    )


def test_rows_name_classes_by_where_they_are_found():
    rows = {row[0]: row[1:] for row in catalog.rows()}
    assert len(rows) == len(catalog.CATALOG)
    assert rows["torch.nn.Linear"] == (
        "",
        "qcore.nn.quantized.Linear",
        "qcore.nn.quantized.dynamic.Linear",
        "qcore.nn.qat.Linear",
        "linear, linear_dynamic",
    )
    assert rows["qcore.nn.intrinsic.ConvReLU2d"][1] == "qcore.nn.intrinsic.quantized.ConvReLU2d"
    named = [cell for row in catalog.rows() for cell in row[:-1] if "." in cell]
    for name in named:
        home, _, kind = name.rpartition(".")
        assert hasattr(importlib.import_module(home), kind), name


@pytest.mark.parametrize("name", SAMPLES)
def test_the_operators_of_a_row_are_those_of_the_module(name):
    module = SAMPLES[name].build()
    assert str(module.operator()) == module.computes + (" + relu" if getattr(module, "relu", False) else "")
