"""Graphs refuse what cannot run, cut out parts with the right borders, and print themselves."""

from __future__ import annotations

import pytest
import torch

import qcore
from qcore import operators as ops
from qcore.graph import moves
from qcore.graph.execute import Interpreter
from qcore.graph.ir import Graph, Node, Value

Q = qcore.QParams(qcore.quint8, 0.5, 3)
R = qcore.QParams(qcore.quint8, 0.25, 7)
X, A, B, C, Y = Value("x"), Value("a", Q), Value("b", Q), Value("c", R), Value("y")
NODES = (
    Node(ops.Quantize(), (X,), (A,), "quantize"),
    Node(ops.Clamp(low=0.0), (A,), (B,), "relu"),
    Node(ops.Add(), (A, B), (C,), "add"),
    Node(ops.Dequantize(), (C,), (Y,), "dequantize"),
)
GRAPH = Graph((X,), NODES, (Y,))


def test_a_graph_prints_itself():
    assert str(GRAPH).splitlines() == [
        "graph(x: float32):",
        "    a: quint8(0.5, 3) = quantize(x)",
        "    b: quint8(0.5, 3) = clamp(a)",
        "    c: quint8(0.25, 7) = add(a, b)",
        "    y: float32 = dequantize(c)",
        "    return y",
    ]


@pytest.mark.parametrize(
    ("inputs", "nodes", "outputs", "problem"),
    [
        ((X,), (NODES[0], NODES[2]), (C,), "node 'add' reads 'b' before it is made"),
        ((X,), (NODES[0], NODES[0]), (A,), "node 'quantize' makes 'a', which is there already"),
        ((X,), NODES[:1], (Y,), "nothing makes the output 'y'"),
    ],
)
def test_what_cannot_run_is_refused(inputs, nodes, outputs, problem):
    with pytest.raises(qcore.ArgumentError, match=problem):
        Graph(inputs, nodes, outputs)


def test_a_part_reads_and_gives_what_crosses_its_border():
    part = GRAPH.part(NODES[1:3])
    assert part.inputs == (A,) and part.outputs == (C,) and part.nodes == NODES[1:3]
    assert GRAPH.part(NODES[:1]).outputs == (A,)
    assert GRAPH.part(NODES) == GRAPH


def test_the_interpreter_runs_kernels_in_order():
    run = Interpreter(GRAPH, qcore.registry.get("reference").build)
    x = torch.tensor([-1.0, 0.0, 1.3])
    real = (x / 0.5).round() * 0.5
    (found,) = run(x)
    assert torch.equal(found, real + real.clamp(min=0))


SHAPE = (2, 3, 4, 5)
MOVES = [
    (moves.Reshape((2, -1, 5)), lambda x: x.reshape(2, -1, 5)),
    (moves.Reshape((moves.SizeOf(0, 0), moves.SizeOf(0, -1), -1)), lambda x: x.reshape(2, 5, -1)),
    (moves.Flatten(1, 2), lambda x: x.reshape(2, 12, 5)),
    (moves.Permute((3, 0, -3, 2)), lambda x: torch.einsum("abcd->dabc", x)),
    (moves.Transpose(1, -1), lambda x: torch.einsum("abcd->adcb", x)),
    (moves.Contiguous(), lambda x: x),
    (moves.Squeeze(1), lambda x: x),
    (moves.Unsqueeze(-1), lambda x: x[..., None]),
    (moves.Slice(-1, 1, 4, 2), lambda x: x[..., 1:4:2]),
    (moves.Select(1, -1), lambda x: x[:, 2]),
    (moves.Chunk(2, 3, 1), lambda x: x[..., 3:]),
    (moves.Relabel(), lambda x: x),
    (moves.Remap(tuple(255 - n for n in range(256))), lambda x: 255 - x),
]


@pytest.mark.parametrize(("move", "expected"), MOVES, ids=[str(move) for move, _ in MOVES])
def test_moves_say_what_they_do(move, expected):
    x = torch.randint(0, 256, SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(move(x), expected(x))


def test_signed_integers_are_mapped_from_the_lowest_on():
    x = torch.tensor([-128, 0, 127], dtype=torch.int8)
    assert moves.Remap(tuple(-1 - n for n in range(-128, 128)))(x).tolist() == [127, -1, -128]
