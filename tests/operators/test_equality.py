"""Two operators are the same when every field is, and so one kernel never serves another operator."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import MISSING, fields, replace

import pytest
import torch

import qcore
from qcore import operators as ops
from qcore import training_operators  # noqa: F401  its operators are among those below
from qcore.binding import shared_kernel
from qcore.conformance.case import Case
from qcore.conformance.check import check
from qcore.conformance.families import FAMILIES
from qcore.conformance.suite import _written
from qcore.operators import CellWeights, is_constant_free, operators
from qcore.tensor.qparams import per_channel, per_tensor

OPERATORS = {name: kind for name, kind in operators().items() if kind.__module__.startswith("qcore.")}


def _channels(scale):
    return per_channel(torch.tensor([scale, 2.0]), torch.tensor([0, 0]), 0, qcore.qint8)


def _cell(weight):
    q = per_tensor(0.5, 0, qcore.qint8)
    return CellWeights(weight, q, weight, q)


_QPARAMS = [per_tensor(0.5, 0, qcore.qint8), per_tensor(0.25, 0, qcore.qint8), per_tensor(0.5, 1, qcore.qint8)]
_QPARAMS += [_channels(0.5), _channels(0.25)]
_TENSORS = [torch.zeros(2, 2), torch.zeros(2, 2), torch.ones(2, 2)]
_CELLS = [(_cell(_TENSORS[0]),), (_cell(_TENSORS[1]),), (_cell(_TENSORS[0]), _cell(_TENSORS[0]))]
VALUES = {
    "Tensor": _TENSORS,
    "Tensor | None": [None, *_TENSORS],
    "QParams": _QPARAMS,
    "tuple[CellWeights, ...]": _CELLS,
    "bool": [False, True],
    "int": [1, 2, -1],
    "int | None": [None, 1, 2],
    "float": [1e-5, 1.0, 1e-12],
    "float | None": [None, 0.0, 6.0],
    "str": ["sum", "mean", ""],
    "tuple[int, ...]": [(), (1,), (2,), (1, 1)],
    "tuple[float, ...]": [(), (1.0,), (0.5,), (1.0, 1.0)],
    "tuple[int, ...] | None": [None, (), (1,), (2,)],
    "tuple[float, ...] | None": [None, (), (1.0,), (2.0,)],
    "tuple[int | None, ...]": [(), (None,), (1,), (None, 1)],
}
"""Values that differ, for each type that a field may have."""


def _made(kind):
    return kind(**{each.name: VALUES[str(each.type)][0] for each in fields(kind) if each.default is MISSING})


@pytest.mark.parametrize("name", OPERATORS)
def test_equal_means_every_field_is(name):
    kind = OPERATORS[name]
    one = _made(kind)
    again = replace(one)
    assert one == again
    assert hash(one) == hash(again)
    for field in fields(kind):
        variants = [replace(one, **{field.name: value}) for value in VALUES[str(field.type)]]
        for a, b in itertools.combinations(variants, 2):
            assert a != b, f"{field.name}: {getattr(a, field.name)} and {getattr(b, field.name)} count as the same"
        for variant in variants:
            assert {variant: 1}[replace(variant)] == 1


def test_operators_of_two_classes_differ():
    made = [_made(kind) for kind in OPERATORS.values()]
    assert len(set(made)) == len(made)
    assert ops.Add() != ops.Mul()


def test_a_copy_with_its_own_tensors_is_another_operator():
    one = ops.PReLU(torch.ones(1, dtype=torch.int8), per_tensor(0.5, 0, qcore.qint8))
    assert copy.deepcopy(one) != one
    assert pickle.loads(pickle.dumps(ops.Clamp(low=0.0))) == ops.Clamp(low=0.0)


@pytest.mark.parametrize("name", OPERATORS)
def test_who_holds_tensors_shares_no_kernel(name):
    kind = OPERATORS[name]
    for field in fields(kind):
        for value in VALUES[str(field.type)]:
            holds = isinstance(value, torch.Tensor | type(_QPARAMS[0])) or value in _CELLS
            if holds:
                assert not is_constant_free(replace(_made(kind), **{field.name: value}))


def _cases(kind):
    """Cases of the kit of one class whose operators differ, none of which holds tensors."""
    found = {}
    for _, (facet, recipe) in _written("reference", True):
        if facet.spec.operator is kind:
            case = FAMILIES[kind].make(facet, recipe)
            if is_constant_free(case.operator) and len(found) < 24:
                found.setdefault(repr(case.operator), (facet, case))
    return found.values()


SHARED = [name for name, kind in OPERATORS.items() if kind in FAMILIES and is_constant_free(_made(kind))]


@pytest.mark.parametrize("name", SHARED)
def test_shared_kernels_compute_what_their_own_operator_says(name):
    reference = pytest.importorskip("qcore_reference.backend", reason="its declaration is the widest there is")
    for facet, case in _cases(OPERATORS[name]):
        if case.build is Case.build:
            check(reference.Reference(), replace(case, build=lambda _, one, facet=facet: _shared(one, facet)))


def _shared(operator, facet):
    return shared_kernel("reference", operator, facet.activations)
