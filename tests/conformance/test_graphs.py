"""The kit on backends that compile graphs: the right one passes, and each wrong one is caught for its own fault."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

pytest.importorskip("qcore_reference", reason="the backends stand on the reference's kernels")

from qcore import operators as ops
from qcore.conformance.check import Nonconformance
from qcore.conformance.graphs import Drawing, check_graph
from qcore.graph.execute import Interpreter
from qcore.graph.ir import Graph, Node, Value
from qcore.graph.moves import Flatten, Move
from tests.graph.interpreting import Interpreting


class Right(Interpreting):
    def __init__(self):
        super().__init__(lambda node: True)

    def compile(self, graph):
        return self.change(graph, Interpreter(graph, self.build))

    def change(self, graph, plan):
        return plan


class OffByOne(Right):
    def change(self, graph, plan):
        return lambda *inputs: tuple(each + 1 for each in plan(*inputs))


class ForgetsAnOutput(Right):
    def change(self, graph, plan):
        return lambda *inputs: plan(*inputs)[:-1]


class OneBatchOnly(Right):
    """Keeps the sizes of the first call."""

    def change(self, graph, plan):
        sizes = []

        def run(*inputs):
            sizes.append(len(inputs[0]))
            return tuple(each[: sizes[0]] for each in plan(*inputs))

        return run


class WritesToInput(Right):
    def change(self, graph, plan):
        def run(*inputs):
            found = plan(*inputs)
            inputs[0].zero_()
            return found

        return run


class SharesResults(Right):
    def change(self, graph, plan):
        kept = {}
        return lambda *inputs: kept.setdefault(len(inputs[0]), plan(*inputs))


class CountsThreads(Right):
    def change(self, graph, plan):
        return lambda *inputs: tuple(each ^ (torch.get_num_threads() > 1) for each in plan(*inputs))


class ClaimsStrangers(Right):
    def claims(self, graph):
        return [Node(Flatten(), (Value("a"),), (Value("b"),), "somewhere")]


def judged(backend) -> int:
    capability = backend.capability()
    return sum(check_graph(backend, Drawing(capability, seed).graph()) for seed in range(6))


def test_what_interprets_kernels_passes():
    assert judged(Right()) > 20


def test_parts_of_a_graph_are_judged_too():
    backend = Right()
    backend.wanted = lambda node: isinstance(node.operator, ops.Conv | ops.Add | Move)
    assert 3 < judged(backend) < judged(Right())


FAULTS = {
    OffByOne: "the plan and the kernels differ",
    ForgetsAnOutput: "the plan and the kernels differ",
    OneBatchOnly: "the plan and the kernels differ",
    WritesToInput: "the plan changed its input",
    SharesResults: "share memory",
    CountsThreads: "other results on two threads",
    ClaimsStrangers: "names nodes that are not of the graph",
}


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_each_wrong_one_is_caught_for_its_own_fault(kind):
    with pytest.raises(Nonconformance, match=FAULTS[kind]):
        judged(kind())


def test_drawn_graphs_hold_every_kind_of_node_and_are_the_same_each_time():
    capability = Right().capability()
    graphs = [Drawing(capability, seed).graph() for seed in range(60)]
    kinds = Counter(type(node.operator) for graph in graphs for node in graph.nodes)
    wanted = {ops.Conv, ops.Linear, ops.Add, ops.Mul, ops.Clamp, ops.Lookup, ops.MaxPool, ops.AvgPool, Flatten}
    assert set(kinds) == wanted and min(kinds.values()) >= 15
    assert any(graph.nodes[0].outputs[0] in node.inputs for graph in graphs for node in graph.nodes[2:])
    assert isinstance(graphs[0], Graph) and str(graphs[7]) == str(Drawing(capability, 7).graph())
