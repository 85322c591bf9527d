"""Rules of a QConfigMapping: which wins, their dict form, and what is refused."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.observer import MinMaxObserver, default_observer, default_per_channel_weight_observer
from qcore.api.qconfig_mapping import (
    QConfigMapping,
    get_default_qat_qconfig_mapping,
    get_default_qconfig_mapping,
)
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.fx.qconfigs import Resolver

A, B, C, D, E = (
    qcore.QConfig(MinMaxObserver.with_args(quant_min=0, quant_max=top), default_per_channel_weight_observer)
    for top in (250, 251, 252, 253, 254)
)


def layered():
    return (
        QConfigMapping()
        .set_global(A)
        .set_object_type(nn.Linear, B)
        .set_module_name_regex(r"block\.\d+", C)
        .set_module_name("block.1", D)
        .set_module_name_object_type_order("", nn.Linear, 2, E)
    )


@pytest.mark.parametrize(
    ("path", "scope", "target", "order", "expected"),
    [
        ("conv", "", nn.Conv2d, 0, A),
        ("fc", "", nn.Linear, 0, B),
        ("block.0", "block", nn.Linear, 0, C),
        ("block.1", "block", nn.Linear, 1, D),
        ("block.1.inner", "block.1", nn.Conv2d, 0, D),
        ("last", "", nn.Linear, 2, E),
        ("", "", operator.add, 0, A),
        ("block.1", "block.1", operator.add, 0, D),
    ],
)
def test_stronger_rules_win(path, scope, target, order, expected):
    assert Resolver(layered()).resolve(path, scope, target, order) is expected


def test_none_leaves_float_what_a_weaker_rule_would_quantize():
    mapping = QConfigMapping().set_global(A).set_module_name("fc", None)
    assert Resolver(mapping).resolve("fc", "", nn.Linear, 0) is None


def test_subclasses_are_of_the_type_of_their_base():
    class Special(nn.Linear):
        pass

    assert Resolver(layered()).resolve("fc", "", Special, 0) is B


def test_dict_forms_go_both_ways():
    mapping = layered()
    assert QConfigMapping.from_dict(mapping.to_dict()) == mapping
    by_dicts = QConfigMapping.from_dict({"": A, "object_type": {nn.Linear: B, F.relu: None, "view": C}})
    assert list(by_dicts.object_type_qconfigs) == [nn.Linear, F.relu, "view"]
    assert "Linear" in repr(mapping)


def test_default_mappings_have_rules_for_tables_and_recurrent_layers():
    mapping = get_default_qconfig_mapping()
    resolver = Resolver(mapping)
    assert resolver.resolve("e", "", nn.Embedding, 0) == qcore.api.qconfig.float_qparams_weight_only_qconfig
    assert resolver.resolve("l", "", nn.LSTM, 0).activation().is_dynamic
    assert resolver.resolve("f", "", nn.Linear, 0) == mapping.global_qconfig
    resolver.check_all_used(["f"], [nn.Linear])  # defaults need not match
    mapping.set_object_type(nn.Embedding, None)
    assert Resolver(mapping).resolve("e", "", nn.Embedding, 0) is None
    assert get_default_qat_qconfig_mapping().global_qconfig is not None


@pytest.mark.parametrize("given", [default_observer, "int8", torch.ao if hasattr(torch, "ao") else 3])
def test_what_is_no_qconfig_is_refused(given):
    with pytest.raises(ArgumentTypeError, match=r"set_global: .* is not a qcore QConfig"):
        QConfigMapping().set_global(given)


def test_unknown_keys_are_refused():
    with pytest.raises(ArgumentError, match="unknown key 'object_types'"):
        QConfigMapping.from_dict({"object_types": []})
