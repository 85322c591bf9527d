"""LSTM, GRU and cells against torch's dynamically quantized ones.

The gates' sigmoid and tanh are qcore's own (torch's differ between machines), so two things are shown: with torch's in
their place, every bit is torch's; and qcore's are within three units in the last place of the exact functions.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from qcore_reference import gates, recurrent

from qcore.errors import ArgumentError
from qcore.operators import GRU, LSTM, CellWeights, GRUCell, LinearFp16, LSTMCell, RNNCell
from qcore.registry import registry
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import per_channel, per_tensor
from tests import oracle

KINDS = pytest.mark.parametrize("kind", ["int8", "int8 per channel", "float16"])


@pytest.fixture
def torchs_gates(monkeypatch):
    if oracle.saturates():
        pytest.skip("torch's engine saturates on this CPU, so its results are no reference")
    monkeypatch.setattr(recurrent, "sigmoid", torch.sigmoid)
    monkeypatch.setattr(recurrent, "tanh", torch.tanh)


def drawn_weight(rng, kind, rows, columns, generator):
    """A weight with its QParams or None, as operators take it, and torch's packed linear with its bias."""
    bias = (torch.rand(rows, generator=generator) - 0.5) * rng.choice([0.1, 1.0])
    if kind == "float16":
        weight = (torch.randn(rows, columns, generator=generator) * 0.5).half()
        return weight, None, bias, oracle.quantized.linear_prepack_fp16(weight.float(), bias)
    weight = torch.randint(-128, 128, (rows, columns), generator=generator, dtype=torch.int8)
    if kind == "int8":
        qweight = per_tensor(10 ** rng.uniform(-3.5, -2), 0, qint8)
    else:
        scales = 10 ** (torch.rand(rows, generator=generator) * 1.5 - 3.5)
        qweight = per_channel(scales, torch.zeros(rows, dtype=torch.int64), 0, qint8)
    return weight, qweight, bias, oracle.quantized.linear_prepack(oracle.to_torch(weight, qweight), bias)


def drawn_cell(rng, kind, gates, size, hidden, generator):
    """A cell's weights, and torch's two packed linears and biases."""
    w_ih, q_ih, b_ih, packed_ih = drawn_weight(rng, kind, gates * hidden, size, generator)
    w_hh, q_hh, b_hh, packed_hh = drawn_weight(rng, kind, gates * hidden, hidden, generator)
    return CellWeights(w_ih, q_ih, w_hh, q_hh, b_ih, b_hh), (packed_ih, packed_hh, b_ih, b_hh)


def torchs_params(kind, packed, reduce_range):
    packed_ih, packed_hh, b_ih, b_hh = packed
    if kind == "float16":
        return oracle.quantized.make_quantized_cell_params_fp16(packed_ih, packed_hh)
    return oracle.quantized.make_quantized_cell_params_dynamic(packed_ih, packed_hh, b_ih, b_hh, reduce_range)


def drawn_network(rng, kind, gates, generator):
    """Cells of some layers and directions, torch's parameters for them, and sizes."""
    size, hidden, layers, directions = rng.randint(1, 20), rng.randint(1, 20), rng.randint(1, 3), rng.randint(1, 2)
    reduce_range = rng.random() < 0.5
    cells, params = [], []
    for layer in range(layers):
        for _ in range(directions):
            width = size if layer == 0 else hidden * directions
            cell, packed = drawn_cell(rng, kind, gates, width, hidden, generator)
            cells.append(cell)
            params.append(torchs_params(kind, packed, reduce_range))
    return tuple(cells), params, reduce_range, (size, hidden, layers, directions)


def drawn_batch_sizes(rng, time, batch):
    return torch.tensor(sorted([batch, *(rng.randint(1, batch) for _ in range(time - 1))], reverse=True))


@KINDS
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_sequences_equal_torch(name, kind, packed, torchs_gates):
    rng = random.Random(f"{name} {kind} {packed}")
    generator = torch.Generator().manual_seed(rng.randint(0, 2**31))
    network, states = (LSTM, 2) if name == "lstm" else (GRU, 1)
    function = torch.quantized_lstm if name == "lstm" else torch.quantized_gru
    for _ in range(40):
        with oracle.engine():
            cells, params, reduce_range, (size, hidden, layers, directions) = drawn_network(
                rng, kind, 4 if name == "lstm" else 3, generator
            )
        time, batch = rng.randint(1, 6), rng.randint(1, 5)
        batch_sizes = drawn_batch_sizes(rng, time, batch) if packed else None
        shape = (time, batch, size) if not packed else (int(batch_sizes.sum()), size)
        x = torch.randn(shape, generator=generator)
        start = [torch.randn(layers * directions, batch, hidden, generator=generator) for _ in range(states)]
        kernel = registry.get("reference").build(network(cells, reduce_range, bidirectional=directions == 2))
        result = kernel(x, *start, batch_sizes)
        former = start if name == "lstm" else start[0]
        shape = (True, layers, 0.0, False, directions == 2)
        dtype = torch.float16 if kind == "float16" else torch.qint8
        extra = {"dtype": dtype, "use_dynamic": True} if name == "lstm" else {}
        with oracle.engine():
            if packed:
                expected = function(x, batch_sizes, former, params, *shape, **extra)
            else:
                expected = function(x, former, params, *shape, False, **extra)
        for ours, torchs in zip(result, expected, strict=True):
            assert torch.equal(ours, torchs)


@KINDS
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn tanh", "rnn relu"])
def test_cells_equal_torch(name, kind, torchs_gates):
    rng = random.Random(f"{name} {kind}")
    generator = torch.Generator().manual_seed(rng.randint(0, 2**31))
    count = {"lstm": 4, "gru": 3}.get(name, 1)
    for _ in range(60):
        size, hidden, batch = rng.randint(1, 20), rng.randint(1, 20), rng.randint(1, 5)
        with oracle.engine():
            cell, (packed_ih, packed_hh, b_ih, b_hh) = drawn_cell(rng, kind, count, size, hidden, generator)
        x, h, c = (torch.randn(batch, n, generator=generator) for n in (size, hidden, hidden))
        build = registry.get("reference").build
        if name == "lstm":
            operator, state = LSTMCell((cell,), reduce_range=True), (h, c)
        elif name == "gru":
            operator, state = GRUCell((cell,), reduce_range=True), (h,)
        else:
            operator, state = RNNCell((cell,), reduce_range=True, nonlinearity=name.split()[1]), (h,)
        function = getattr(oracle.quantized, f"quantized_{name.replace(' ', '_')}_cell_dynamic")
        with oracle.engine():
            expected = function(x, list(state) if name == "lstm" else h, packed_ih, packed_hh, b_ih, b_hh)
        result = build(operator)(x, *state)
        if name != "lstm":
            result, expected = (result,), (expected,)
        for ours, torchs in zip(result, expected, strict=True):
            assert torch.equal(ours, torchs)


@pytest.mark.parametrize(("ours", "exact"), [(gates.sigmoid, torch.sigmoid), (gates.tanh, torch.tanh)])
def test_gates_are_within_three_units_in_the_last_place(ours, exact):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(200_000, generator=generator) * scale for scale in (1e-4, 0.01, 0.3, 1, 3, 8, 20)]
    x = torch.cat([*parts, torch.linspace(-86, 86, 200_001)])
    expected = exact(x.double()).numpy()
    units = np.abs(ours(x).double().numpy() - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert units.max() <= 3


def test_gates_at_the_ends():
    x = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 200.0, -200.0])
    assert torch.equal(gates.tanh(x).nan_to_num(7), torch.tensor([0.0, -0.0, 1.0, -1.0, 7.0, 1.0, -1.0]))
    assert torch.signbit(gates.tanh(x))[1]
    low = gates.sigmoid(x)
    assert torch.equal(low[[0, 1, 2, 5]], torch.tensor([0.5, 0.5, 1.0, 1.0]))
    assert low[4].isnan()
    assert 0 <= low[3] == low[6] < 1e-37


def test_a_whole_lstm_stays_near_torchs():
    """With qcore's gates a state may move by a last bit, and a dynamic quantization by one step of its range then."""
    if oracle.saturates():
        pytest.skip("torch's engine saturates on this CPU, so its results are no reference")
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    with oracle.engine():
        cells, params, reduce_range, (size, hidden, layers, directions) = drawn_network(rng, "int8", 4, generator)
    x = torch.randn(20, 3, size, generator=generator)
    h, c = torch.zeros(2, layers * directions, 3, hidden)
    kernel = registry.get("reference").build(LSTM(cells, reduce_range, bidirectional=directions == 2))
    y = kernel(x, h, c, None)[0]
    shape = (True, layers, 0.0, False, directions == 2, False)
    with oracle.engine():
        expected = torch.quantized_lstm(x, [h, c], params, *shape, dtype=torch.qint8, use_dynamic=True)[0]
    assert float((y - expected).abs().max()) < 0.02


# K over 512 is left to multiples of 64 outputs: in the last outputs of others torch adds partial sums of 512 products
@pytest.mark.parametrize(("most", "multiple"), [(512, 1), (1200, 64)])
def test_linear_fp16_equals_torch(most, multiple):
    rng, generator = random.Random(most), torch.Generator().manual_seed(most)
    for _ in range(25):
        m, k, n = rng.randint(0, 8), rng.randint(1, most), rng.randint(1, 70) * multiple
        x, weight = torch.randn(m, k, generator=generator), torch.randn(n, k, generator=generator).half()
        bias = torch.randn(n, generator=generator) if rng.random() < 0.7 else None
        relu = rng.random() < 0.5
        y = registry.get("reference").build(LinearFp16(weight, bias, relu))(x)
        linear = oracle.quantized.linear_relu_dynamic_fp16 if relu else oracle.quantized.linear_dynamic_fp16
        with oracle.engine():
            packed = oracle.quantized.linear_prepack_fp16(weight.float(), bias)
        expected = oracle.run(linear, x, packed)
        if oracle.saturates():  # without AVX-512, torch adds in another order
            torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-4)
        else:
            assert torch.equal(y, expected)


@pytest.mark.parametrize(
    ("x", "h", "sizes", "message"),
    [
        ((2, 3, 4), (2, 3, 5), None, "initial state"),
        ((2, 3, 4), (1, 2, 5), None, "batch sizes"),
        ((0, 3, 4), (1, 3, 5), None, "batch sizes"),
        ((5, 4), (1, 3, 5), [2, 3], "batch sizes"),
        ((5, 4), (1, 3, 5), [3, 1], "batch sizes"),
    ],
)
def test_wrong_shapes_are_refused(x, h, sizes, message):
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    with oracle.engine():
        cell, _ = drawn_cell(rng, "int8", 3, 4, 5, generator)
    kernel = registry.get("reference").build(GRU((cell,)))
    with pytest.raises(ArgumentError, match=message):
        kernel(torch.zeros(x), torch.zeros(h), None if sizes is None else torch.tensor(sizes))
