"""Plans never write over what they still read: drawn graphs, followed through the memory of their plans, and run."""

from __future__ import annotations

import pytest
import torch

import qcore
from qcore.graph.execute import Interpreter
from qcore.native.backend import NativeBackend
from tests.backends import USABLE
from tests.graph.drawn_plans import REFERENCE, Drawing

NATIVE = [name for name in USABLE if isinstance(qcore.registry.get(name), NativeBackend)]
pytestmark = pytest.mark.skipif(not NATIVE, reason="no backend that compiles graphs runs here")


def follow(program) -> None:
    """What a step reads is what the step before wrote there, and it writes over nothing that it reads otherwise."""
    held: dict[str, torch.Tensor] = {}

    def memory(name: str, end: int) -> torch.Tensor:
        cells = held.get(name, torch.empty(0, dtype=torch.int32))
        if len(cells) < end:
            held[name] = cells = torch.cat([cells, torch.full((end - len(cells),), -1, dtype=torch.int32)])
        return cells

    for reads, (name, begin, end, value) in program.accesses():
        for read, first, behind, what in reads:
            if not read.startswith("input"):
                assert (memory(read, behind)[first:behind] == what).all(), "another value lies there by now"
            if read == name and max(first, begin) < min(behind, end):
                assert (first, behind) == (begin, end), "only the whole of what is read may be written over"
        assert not name.startswith("input")
        if name == "arena":
            assert end <= program.arena_bytes()
        memory(name, end)[begin:end] = value


def check(backend: str, seed: int) -> int:
    """The plan of a drawn graph, on two inputs of the same sizes. Returns the number of its nodes."""
    drawn, target = Drawing(seed), qcore.registry.get(backend)
    plan = target.compile(drawn.graph)
    module, reference = Interpreter(drawn.graph, target.build), Interpreter(drawn.graph, REFERENCE.build)
    for number, inputs in enumerate((drawn.arguments, drawn.other_arguments(seed))):
        expected = reference(*inputs) if number else drawn.expected
        for results in (plan(*inputs), module(*inputs)):
            for found, right in zip(results, expected, strict=True):
                assert found.shape == right.shape and found.dtype == right.dtype, f"seed {seed}\n{drawn.graph}"
                assert torch.equal(found, right), f"seed {seed}\n{drawn.graph}"
    for program, _ in plan._programs.values():
        follow(program)
    return len(drawn.nodes)


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("first", range(0, 400, 50))
def test_drawn_plans_have_the_bits_of_the_reference_and_keep_what_they_read(backend, first):
    nodes = [check(backend, seed) for seed in range(first, first + 50)]
    assert sum(nodes) > 250, "most of what is drawn fits"
