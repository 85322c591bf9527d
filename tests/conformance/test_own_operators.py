"""What a plugin may bring for operators of its own; that such an operator passes is in tests/test_scaffold.py."""

from __future__ import annotations

import pytest
from torch import nn

import qcore
from qcore.conformance.families import FAMILIES, take
from tests.conformance.wrong_backends import Right


@pytest.mark.parametrize(
    ("brought", "message"),
    [([FAMILIES[qcore.operators.Mul]], "the kit judges mul by cases of its own"), (["mul"], "got 'mul'")],
    ids=["one of the kit's", "no family"],
)
def test_families_are_refused(brought, message):
    class Plugin:
        @qcore.hookimpl
        def qcore_backend(self):
            return Right()

        @qcore.hookimpl
        def qcore_families(self):
            return brought

    before = dict(FAMILIES)
    qcore.registry.register(Plugin(), "right")
    try:
        with pytest.raises(qcore.BackendError, match=message):
            take("right")
    finally:
        qcore.registry.unregister("right")
    assert before == FAMILIES


def test_a_sequence_has_no_quantized_class_of_its_own():
    with pytest.raises(qcore.ArgumentError, match="pattern Linear > Tanh: only one of a single module class"):
        qcore.Pattern((nn.Linear, nn.Tanh), qcore.operators.Linear, quantized=nn.Linear)
