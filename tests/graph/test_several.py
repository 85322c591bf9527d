"""Several backends that compile graphs in one model: each compiles what it claims and none before it does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("qcore_reference", reason="the backends interpret the reference's kernels")

import qcore
from qcore.graph.execution import execution_of
from tests.fx import nets
from tests.fx.test_random_graphs import Drawn, inputs, operations, steps
from tests.graph.interpreting import NAME, Interpreting, Plugin, assert_levels_agree, converted, interpreting


class Second(Interpreting):
    name = "second"


@pytest.fixture
def both():
    """Two backends that claim everything."""
    second = Second(lambda node: True)
    qcore.registry.register(Plugin(second), "second")
    with interpreting() as first:
        yield first, second
    qcore.registry.unregister("second")


def names(backend: Interpreting) -> set[str]:
    return {node.operator.name for graph in backend.compiled for node in graph.nodes}


@pytest.mark.parametrize("order", [(NAME, "second"), ("second", NAME)])
def test_the_first_takes_what_both_claim(both, order):
    first, second = both if order[0] == NAME else both[::-1]
    model = converted(nets.made(nets.Residual), nets.batches(nets.Residual), list(order))
    assert_levels_agree(model, *nets.batches(nets.Residual)[0])
    assert first.compiled and not second.compiled
    assert f"by {order[0]}:" in str(execution_of(model))


def test_each_compiles_its_own_part_and_no_part_is_shared(both):
    first, second = both
    first.wanted = lambda node: node.operator.name == "conv"
    batches = nets.batches(nets.Residual)
    model = converted(nets.made(nets.Residual), batches, [NAME, "second"])
    assert_levels_agree(model, *batches[0])
    assert names(first) <= {"conv"} and "conv" not in names(second)
    other = converted(nets.made(nets.Residual), batches, "reference")
    assert torch.equal(model(*batches[0]), other(*batches[0]))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(steps(operations()), st.integers(0, 3), st.sets(st.sampled_from(["conv", "add", "mul", "cat", "max_pool"])))
def test_drawn_graphs_agree_however_they_are_shared(steps, seed, firsts):
    second = Second(lambda node: True)
    qcore.registry.register(Plugin(second), "second")
    try:
        with interpreting(lambda node: node.operator.name in firsts):
            model = converted(Drawn(steps, seed).eval(), inputs(seed), [NAME, "second"])
            assert_levels_agree(model, *inputs(seed)[1])
            assert not names(second) & firsts
    finally:
        qcore.registry.unregister("second")
