"""The kit has cases for every operator, and spreads them over what is declared."""

from __future__ import annotations

import pytest

import qcore
from qcore.conformance.case import facets
from qcore.conformance.families import FAMILIES
from qcore.conformance.suite import _group, _written
from qcore.operators import operators

OPERATORS = {name: kind for name, kind in operators().items() if kind.__module__.startswith("qcore.")}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_a_family_with_a_plain_case(name):
    family = FAMILIES[OPERATORS[name]]
    assert family.operator is OPERATORS[name]


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("qcore_reference", reason="its declaration is the widest there is")
    return qcore.registry.get("reference").capability()


def test_a_quick_run_has_each_written_case_of_each_operator_and_a_plain_one_of_each_combination(reference):
    whole, quick = (list(_written("reference", how)) for how in (False, True))
    assert len(quick) < len(whole) / 2

    def cases(found):
        return {(_group(facet), title.removeprefix(f"{facet}-")) for title, (facet, _) in found}

    missing = cases(whole) - cases(quick)
    assert not missing
    plain = {title for title, _ in quick if title.endswith("-plain")}
    combinations = {
        f"{facet}-plain"
        for spec in reference.ops
        if spec.operator in FAMILIES
        for facet in facets(spec, mixed=FAMILIES[spec.operator].requantizes)
    }
    assert plain == combinations
