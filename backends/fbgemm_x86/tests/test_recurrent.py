"""Recurrent layers, cells and float16 linears give the bits of the reference, on every instruction set."""

import random

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86
from qcore_reference import gates

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import per_channel, per_tensor

CPU = FbgemmX86()
REFERENCE = qcore.registry.get("reference")
KINDS = pytest.mark.parametrize("kind", ["per tensor", "per channel", "float16"])
LSTM, GRU = (ops.LSTM, 4, 2), (ops.GRU, 3, 1)
"""operator, gates, states"""


def kernels(operator, isa):
    return CPU.build(operator, isa=isa), REFERENCE.build(operator)


def drawn_weight(rng, kind, rows, columns, generator):
    bias = torch.rand(rows, generator=generator) - 0.5 if rng.random() < 0.8 else None
    if kind == "float16":
        return (torch.randn(rows, columns, generator=generator) * 0.5).half(), None, bias
    weight = torch.randint(-128, 128, (rows, columns), generator=generator, dtype=torch.int8)
    if kind == "per tensor":
        return weight, per_tensor(10 ** rng.uniform(-3.5, -2), rng.choice([0, 0, 5]), qint8), bias
    most = rng.choice([1, 1, 6])
    scales = 10 ** (torch.rand(rows, generator=generator) * 1.5 - 3.5)
    zeros = torch.randint(1 - most, most, (rows,), generator=generator)
    return weight, per_channel(scales, zeros, 0, qint8), bias


def drawn_cell(rng, kind, count, size, hidden, generator):
    w_ih, q_ih, b_ih = drawn_weight(rng, kind, count * hidden, size, generator)
    w_hh, q_hh, b_hh = drawn_weight(rng, kind, count * hidden, hidden, generator)
    return ops.CellWeights(w_ih, q_ih, w_hh, q_hh, b_ih, b_hh)


def drawn_network(rng, network, kind, sizes, generator):
    operator, count, _ = network
    size, hidden, layers, directions = sizes
    widths = [size if layer == 0 else directions * hidden for layer in range(layers) for _ in range(directions)]
    cells = tuple(drawn_cell(rng, kind, count, width, hidden, generator) for width in widths)
    return operator(cells, rng.random() < 0.5, directions == 2)


def same(results, expected):
    assert len(results) == len(expected)
    for y, z in zip(results, expected, strict=True):
        assert y.shape == z.shape
        assert torch.equal(y, z)


@KINDS
@pytest.mark.parametrize("network", [LSTM, GRU], ids=["lstm", "gru"])
@pytest.mark.parametrize("seed", range(12))
def test_sequences(isa, seed, network, kind):
    rng, generator = random.Random(f"{seed} {kind}"), torch.Generator().manual_seed(seed)
    layers, directions = rng.randint(1, 3), rng.randint(1, 2)
    size, hidden = rng.choice([1, 7, 16, 33]), rng.choice([1, 5, 16, 17, 40])
    time, batch = rng.randint(1, 9), rng.choice([1, 2, 9, 140])
    native, reference = kernels(drawn_network(rng, network, kind, (size, hidden, layers, directions), generator), isa)
    states = [torch.randn(layers * directions, batch, hidden, generator=generator) for _ in range(network[2])]
    before = [state.clone() for state in states]
    x = torch.randn(time, batch, size, generator=generator) * rng.choice([0.1, 1, 30])
    same(native(x, *states, None), reference(x, *states, None))
    same(states, before)
    batch_sizes = torch.tensor(sorted([batch, *(rng.randint(0, batch) for _ in range(time - 1))], reverse=True))
    packed = torch.randn(int(batch_sizes.sum()), size, generator=generator)
    same(native(packed, *states, batch_sizes), reference(packed, *states, batch_sizes))


@pytest.mark.parametrize("kind", ["per channel", "float16"])
@pytest.mark.parametrize("directions", [1, 2])
def test_threads_that_share_a_step_change_nothing(isa, directions, kind):
    rng, generator = random.Random(directions), torch.Generator().manual_seed(directions)
    hidden, batch = (300, 5) if kind == "per channel" else (100, 40)
    operator = drawn_network(rng, LSTM, kind, (20, hidden, 1, directions), generator)
    native, reference = kernels(operator, isa)
    x = torch.randn(30, batch, 20, generator=generator)
    states = [torch.randn(directions, batch, hidden, generator=generator) for _ in range(2)]
    torch.set_num_threads(1)
    alone = native(x, *states, None)
    same(native(x[:2], *states, None), reference(x[:2], *states, None))
    for threads in (2, 3):
        torch.set_num_threads(threads)
        same(native(x, *states, None), alone)


@KINDS
@pytest.mark.parametrize("seed", range(6))
def test_cells(isa, seed, kind):
    rng, generator = random.Random(f"{seed} {kind}"), torch.Generator().manual_seed(seed)
    size, hidden, batch = rng.choice([1, 16, 33]), rng.choice([1, 16, 21]), rng.choice([0, 1, 3, 17])
    for operator, count, states, options in (
        (ops.LSTMCell, 4, 2, {}),
        (ops.GRUCell, 3, 1, {}),
        (ops.RNNCell, 1, 1, {"nonlinearity": "tanh"}),
        (ops.RNNCell, 1, 1, {"nonlinearity": "relu"}),
    ):
        cells = (drawn_cell(rng, kind, count, size, hidden, generator),)
        native, reference = kernels(operator(cells, rng.random() < 0.5, **options), isa)
        args = [torch.randn(batch, width, generator=generator) for width in (size, *[hidden] * states)]
        results, expected = native(*args), reference(*args)
        same(results if states == 2 else [results], expected if states == 2 else [expected])


def test_sigmoid_and_tanh_are_those_of_the_specification(isa):
    """A cell of one input whose linears are exact: the bits of its gates show, on floats of all sizes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.cat(
        (
            torch.randn(3000, generator=generator) * 30,
            torch.randn(3000, generator=generator),
            10 ** (torch.rand(1000, generator=generator) * 60 - 40),
            torch.tensor([0.0, -0.0, 87.0, -87.0, 43.5, -43.5, 88.8, -88.8, 1e30, -1e30, float("inf"), float("-inf")]),
            torch.tensor([float("nan")]),
        )
    )
    one, zero = torch.ones(1, 1).half(), torch.zeros(1, 1).half()
    rnn = CPU.build(ops.RNNCell((ops.CellWeights(one, None, zero, None),)), isa=isa)
    y = rnn(x[:, None], torch.zeros(len(x), 1))[:, 0]
    assert torch.equal(y.view(torch.int32)[:-1], gates.tanh(x + 0.0).view(torch.int32)[:-1])
    assert y[-1].isnan()
    # h' = (1 - 0) * sigmoid(x) + 0, where the new gate is 0 and the former h is 1
    weights = ops.CellWeights(torch.tensor([[0.0], [1.0], [0.0]]).half(), None, torch.zeros(3, 1).half(), None)
    gru = CPU.build(ops.GRUCell((weights,)), isa=isa)
    finite = x[x.isfinite()]
    assert torch.equal(gru(finite[:, None], torch.ones(len(finite), 1))[:, 0], gates.sigmoid(finite))


@pytest.mark.parametrize("seed", range(20))
def test_linear_fp16(isa, seed):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    n, k = rng.choice([1, 16, 63, 65, 150]), rng.choice([1, 2, 40])
    weight, _, bias = drawn_weight(rng, "float16", n, k, generator)
    native, reference = kernels(ops.LinearFp16(weight * rng.choice([1e-5, 1.0, 1e3]), bias, rng.random() < 0.5), isa)
    x = torch.randn(*rng.choice([(), (0,), (1,), (2,), (7,), (3, 5), (130,)]), k, generator=generator)
    same([native(x)], [reference(x)])


def test_every_float16_number(isa):
    bits = torch.arange(-(2**15), 2**15).short()
    weight = bits.view(torch.float16).reshape(-1, 1)
    y = CPU.build(ops.LinearFp16(weight), isa=isa)(torch.ones(1, 1))[0]
    expected = weight.float()[:, 0] + 0.0
    assert torch.equal(y.nan_to_num(123.0), expected.nan_to_num(123.0))


def lstm(hidden=4, size=3, rows=16):
    weights = [torch.zeros(rows, width, dtype=torch.int8) for width in (size, hidden)]
    q = per_tensor(1.0, 0, qint8)
    return CPU.build(ops.LSTM((ops.CellWeights(weights[0], q, weights[1], q),)))


X, STATE = torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lstm()(X[..., :2], STATE, STATE, None), "x must have size 3 in dimension 2, not 2"),
        (lambda: lstm()(X[0], STATE, STATE, None), "x must have 3 dimensions"),
        (lambda: lstm()(X.double(), STATE, STATE, None), "x must be torch.float32"),
        (lambda: lstm()(X, STATE[:, :1], STATE, None), "x must have size 1"),
        (lambda: lstm()(X, STATE, STATE[..., :3], None), "c must have size 4"),
        (lambda: lstm()(X, STATE[0], STATE, None), "h must have 3 dimensions"),
        (lambda: lstm()(X[:0], STATE, STATE, None), "at least one step"),
        (lambda: lstm()(X[0], STATE, STATE, torch.tensor([1, 1])), "batch_sizes must not be empty, start with"),
        (lambda: lstm()(X[0], STATE, STATE, torch.tensor([2, 1])), "sum to the rows of x, 2"),
        (lambda: lstm()(X[:, 0], STATE, STATE, torch.tensor([2, 4, -1])), "never rise"),
        (lambda: lstm()(X / 0, STATE, STATE, None), "NaN or infinity"),
        (lambda: lstm()(X, STATE / 0, STATE, None), "NaN or infinity"),
        (lambda: lstm(rows=12), r"weights of cell 0 must be \(16, 3\) and \(16, 4\)"),
        (lambda: lstm(hidden=0), "no elements"),
    ],
)
def test_bad_arguments_are_errors_in_words(call, words):
    with pytest.raises((qcore.ArgumentError, qcore.ArgumentTypeError), match=words):
        call()
