"""Plans of the backends that compile: the bits of the kernels, for any sizes, layouts, threads and instruction sets."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import qcore
from qcore import operators as ops
from qcore.graph import moves
from qcore.graph.execute import Interpreter
from qcore.graph.execution import execution_of
from qcore.graph.ir import Graph, Node, Value
from qcore.native.backend import NativeBackend
from tests.backends import USABLE
from tests.fx import nets
from tests.fx.test_random_graphs import Drawn, inputs, operations, steps
from tests.graph.interpreting import assert_levels_agree, converted

NATIVE = [name for name in USABLE if isinstance(qcore.registry.get(name), NativeBackend)]
ISAS = [(name, isa) for name in NATIVE for isa in qcore.registry.get(name).supported_isas()]
pytestmark = pytest.mark.skipif(not NATIVE, reason="no backend that compiles graphs runs here")

native = pytest.mark.parametrize("backend", NATIVE)


@native
@pytest.mark.parametrize("kind", nets.MODELS, ids=lambda kind: kind.__name__)
def test_both_levels_give_the_same_bits_for_any_batch_and_layout(backend, kind):
    model = converted(nets.made(kind), nets.batches(kind), backend)
    for batch in (4, 1, 7, 4):
        (x,) = nets.batches(kind, 1, batch, batch)[0]
        assert_levels_agree(model, x)
        assert_levels_agree(model, x.contiguous())
        assert_levels_agree(model, torch.cat([x, x])[::2])


@native
def test_other_image_sizes_are_bound_anew(backend):
    model = converted(nets.made(nets.Residual), nets.batches(nets.Residual), backend)
    for height, width in ((16, 16), (23, 9), (2, 31)):
        assert_levels_agree(model, torch.randn(2, 3, height, width))
    assert_levels_agree(model, torch.randn(0, 3, 16, 16))


@native
@settings(max_examples=25, deadline=None, derandomize=True)
@given(steps(operations()), st.integers(0, 3))
def test_drawn_graphs_agree(backend, steps, seed):
    assert_levels_agree(converted(Drawn(steps, seed).eval(), inputs(seed), backend), *inputs(seed)[1])


@native
@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5"])
def test_torchvision_nets_agree(backend, name):
    model, batches = nets.torchvision_model(name, 32)
    compiled = converted(model, batches, backend)
    assert_levels_agree(compiled, *batches[1])
    if name != "shufflenet_v2_x0_5":
        assert len(execution_of(compiled).parts) == 1


SIZES = (2, 3, 4, 5)
AXIS = st.integers(-4, 3)
MOVE = st.one_of(
    st.builds(moves.Transpose, AXIS, AXIS),
    st.builds(moves.Permute, st.permutations(range(4)).map(tuple)),
    st.builds(moves.Slice, AXIS, st.integers(-6, 3), st.one_of(st.none(), st.integers(-6, 6)), st.integers(1, 3)),
    st.builds(moves.Chunk, st.integers(1, 3), AXIS, st.just(0)),
    st.just(moves.Contiguous()),
    st.just(moves.Remap(tuple(reversed(range(256))))),
    st.just(moves.Reshape((moves.SizeOf(0, 3), moves.SizeOf(0, 0), -1, 1))),
)
LAST = st.one_of(
    st.builds(moves.Flatten, st.integers(-4, 1), st.integers(-2, -1)),
    st.builds(moves.Squeeze, AXIS),
    st.builds(moves.Unsqueeze, st.integers(-5, 4)),
    st.builds(moves.Select, AXIS, st.just(0)),
    st.builds(ops.Mean, st.sets(st.integers(0, 3)).map(tuple), st.booleans()),
    st.builds(ops.Cat, AXIS),
)
Q = qcore.QParams(qcore.quint8, 0.5, 3)
R = qcore.QParams(qcore.quint8, 0.4, 30)


def chain(operators):
    """A graph of operators, one after the other; Cat has its input twice."""
    values = [Value(f"v{number}", Q) for number in range(len(operators) + 1)]
    nodes = []
    for number, operator in enumerate(operators):
        out = Value(f"v{number + 1}", R) if isinstance(operator, ops.Cat) else values[number + 1]
        times = 2 if isinstance(operator, ops.Cat) else 1
        nodes.append(Node(operator, (values[number],) * times, (out,), f"node{number}"))
    return Graph((values[0],), tuple(nodes), nodes[-1].outputs)


@native
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(MOVE, max_size=4), LAST, st.booleans())
def test_drawn_moves_are_those_of_torch(backend, some, last, channels_last):
    target = qcore.registry.get(backend)
    graph = chain([*some, last])
    x = torch.randint(0, 256, SIZES, dtype=torch.uint8, generator=torch.Generator().manual_seed(len(some)))
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    try:
        (expected,) = Interpreter(graph, target.build)(x)
    except (RuntimeError, IndexError, qcore.ArgumentError):
        return  # sizes that do not fit; what plans say of those is tested below
    (found,) = target.compile(graph)(x)
    assert found.shape == expected.shape
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("backend", "isa"), ISAS)
def test_every_instruction_set_gives_the_same_bits(backend, isa, monkeypatch):
    model = converted(nets.made(nets.Residual), nets.batches(nets.Residual), backend)
    (x,) = nets.batches(nets.Residual, 1, 9)[0]
    expected = model(x)
    target = qcore.registry.get(backend)
    (part,) = execution_of(model).parts
    (found,) = target.compile(part.graph, isa=isa)(x)
    assert torch.equal(found, expected)


@native
def test_what_follows_a_convolution_joins_its_step(backend):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

        def forward(self, x):
            x = F.relu6(self.a(x))
            y = F.relu(self.b(x) + x)
            z = F.hardswish(F.relu(self.depthwise(y) + x))
            return F.hardswish(self.c(z))

    batches = [(torch.randn(2, 8, 9, 9),)]
    model = converted(Block().eval(), batches, backend)
    assert_levels_agree(model, *batches[0])
    lines = [line for line in str(execution_of(model)).splitlines() if " > " in line]
    assert [line.split(" = ")[1].split("(")[0] for line in lines] == [
        "conv > clamp", "conv > add + relu", "conv > add + relu > lookup hardswish", "conv > lookup hardswish",
    ]  # fmt: skip


@native
def test_threads_change_no_bit_and_calls_may_overlap(backend):
    model = converted(nets.made(nets.Residual), nets.batches(nets.Residual), backend)
    batches = [nets.batches(nets.Residual, 1, seed, 1 + seed)[0] for seed in range(6)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = [model(*batch) for batch in batches]
        torch.set_num_threads(3)
        wrong: list[int] = []

        def run(number: int) -> None:
            for turn in range(12):
                at = (number + turn) % len(batches)
                if not torch.equal(model(*batches[at]), expected[at]):
                    wrong.append(at)

        callers = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert not wrong
    finally:
        torch.set_num_threads(before)


@native
def test_results_are_tensors_of_their_own(backend):
    model = converted(nets.made(nets.Shared), nets.batches(nets.Shared), backend)
    (x,) = nets.batches(nets.Shared)[0]
    first = model(x)
    kept = first.clone()
    model(x + 1)
    assert torch.equal(first, kept)
    identity = qcore.registry.get(backend).compile(chain([moves.Unsqueeze(0)]))
    y = torch.arange(6, dtype=torch.uint8)
    (result,) = identity(y)
    y.zero_()
    assert result.tolist() == [[0, 1, 2, 3, 4, 5]]


BAD = [
    (moves.Select(0, 2), "node 'node0': x has no element 2 in dimension 0"),
    (moves.Select(4, 0), "node 'node0': x has 4 dimensions, and so none numbered 4"),
    (moves.Permute((0, 0, 1, 2)), "node 'node0': its dims repeat one"),
    (moves.Reshape((7, -1)), "node 'node0': its elements do not fill the sizes asked for"),
    (moves.Chunk(2, 0, 2), "node 'node0': there are 2 chunks, and none numbered 2"),
    (ops.MaxPool((9, 9), (1, 1), (0, 0), (1, 1)), "node 'node0': a window does not fit into the padded input"),
]


@native
@pytest.mark.parametrize(("operator", "message"), BAD, ids=[message for _, message in BAD])
def test_errors_name_the_node(backend, operator, message):
    plan = qcore.registry.get(backend).compile(chain([operator]))
    with pytest.raises(qcore.ArgumentError, match=message):
        plan(torch.zeros(SIZES, dtype=torch.uint8))
    with pytest.raises(qcore.ArgumentTypeError, match="uint8"):
        qcore.registry.get(backend).compile(chain([moves.Contiguous()]))(torch.zeros(SIZES))


@native
def test_inputs_of_a_model_that_do_not_fit_are_named(backend):
    model = converted(nets.made(nets.Residual), nets.batches(nets.Residual), backend)
    with pytest.raises(qcore.ArgumentError, match=r"'c1'.*channels"):
        model(torch.randn(1, 4, 16, 16))


@native
def test_profile_shows_every_step(backend):
    model = converted(nets.made(nets.Residual), nets.batches(nets.Residual), backend)
    found = qcore.profile(model, nets.batches(nets.Residual)[0], calls=2)
    assert len(found.rows) == 13 and all(seconds > 0 for label, seconds in found.rows if "conv" in label)
    assert "a whole call" in str(found) and "c2" in str(found)
    with pytest.raises(qcore.ArgumentTypeError, match="convert_fx"):
        qcore.profile(nn.Linear(2, 2), (torch.randn(1, 2),))


@native
def test_an_eager_conversion_compiles(backend):
    net = nn.Sequential(
        qcore.QuantStub(), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5), qcore.DeQuantStub()
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    prepared = qcore.prepare(qcore.fuse_modules(net, ["1", "2"]), backend=backend)
    prepared(x)
    eager = qcore.convert(prepared)
    compiled = qcore.compile(eager, (x,))
    assert torch.equal(compiled(x), eager(x))
    assert len(execution_of(compiled).parts) == 1
    assert compiled.get_submodule("4") is eager[4] and qcore.report(compiled) == qcore.report(eager)
    assert qcore.compile(compiled, (x,)) is compiled
    with pytest.raises(qcore.QuantizationError, match="no quantized modules"):
        qcore.compile(net, (x,))


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = qcore.QuantStub(), qcore.DeQuantStub()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.sum, self.product, self.joined = (qcore.nn.quantized.FloatFunctional() for _ in range(3))

    def forward(self, x):
        x = self.into(x)
        a, b = self.a(x), self.b(x)
        c = self.sum.add_relu(a, b)
        return self.out(self.joined.cat([self.product.mul(c, a), b], 1))


@native
def test_arithmetic_of_an_eager_conversion_compiles(backend):
    x = torch.randn(2, 3, 5, 6)
    prepared = qcore.prepare(Sums().eval(), backend=backend)
    prepared(x)
    eager = qcore.convert(prepared)
    compiled = qcore.compile(eager, (x,))
    assert torch.equal(compiled(x), eager(x))
    assert_levels_agree(compiled, x)
    assert "on the module level: nothing" in str(execution_of(compiled))
    eager.sum.scale = 2 * eager.sum.scale
    assert torch.equal(compiled(x), eager(x))
