"""LSTM, GRU and single cells: linears by the oracles of linear_dynamic and linear_fp16, then the written gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, laid_out
from qcore.conformance.families import linear_dynamic, linear_fp16
from qcore.conformance.families.gates import sigmoid, tanh
from qcore.operators import (
    GRU,
    LSTM,
    CellWeights,
    GRUCell,
    LinearDynamic,
    LinearFp16,
    LSTMCell,
    Operator,
    RNNCell,
)
from qcore.tensor.qparams import QParams, per_channel, per_tensor

GATES: dict[type[Operator], int] = {LSTM: 4, LSTMCell: 4, GRU: 3, GRUCell: 3, RNNCell: 1}
States: TypeAlias = "list[Tensor]"
Options: TypeAlias = "dict[str, bool]"
Step: TypeAlias = "Callable[[Tensor, Tensor, States], States]"


@dataclass(frozen=True, kw_only=True)
class RecurrentRecipe(Recipe):
    """`shape`: of x, (time, batch, in) or (batch, in) of a cell; `sizes`: of the batch at each step of a packed x.

    `values`: usual floats, large ones that drive the gates to their ends, or zeros, in x and the states.
    """

    hidden: int
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    sizes: tuple[int, ...] | None = None
    values: str = "usual"
    nonlinearity: str = "tanh"


def lstm_step(a: Tensor, b: Tensor, state: States) -> States:
    """c' = f * c + i * g; h' = o * tanh(c')."""
    size = a.shape[1] // 4
    i, f, g, o = (b[:, k * size : (k + 1) * size] + a[:, k * size : (k + 1) * size] for k in range(4))
    kept, entered = sigmoid(f) * state[1], sigmoid(i) * tanh(g)
    c = kept + entered
    return [sigmoid(o) * tanh(c), c]


def gru_step(a: Tensor, b: Tensor, state: States) -> States:
    """n = tanh(a_n + b_n * r); h' = (h - n) * z + n."""
    size = a.shape[1] // 3
    r, z = (sigmoid(b[:, k * size : (k + 1) * size] + a[:, k * size : (k + 1) * size]) for k in range(2))
    n = tanh(a[:, 2 * size :] + b[:, 2 * size :] * r)
    return [(state[0] - n) * z + n]


def rnn_tanh_step(a: Tensor, b: Tensor, state: States) -> States:
    """tanh(b + a)."""
    return [tanh(b + a)]


def rnn_relu_step(a: Tensor, b: Tensor, state: States) -> States:
    """max(b + a, 0)."""
    return [torch.where(b + a < 0, torch.zeros(()), b + a)]


def linear(x: Tensor, weight: Tensor, qweight: QParams | None, bias: Tensor | None, options: Options) -> Tensor:
    """The linear of an input or a state, with integer or float16 weights."""
    if qweight is None:
        return linear_fp16.expected(x, LinearFp16(weight, bias))
    found = linear_dynamic.expected(x, LinearDynamic(weight, qweight, bias, **options)).values
    assert isinstance(found, Tensor)
    return found


def one_step(step: Step, cell: CellWeights, x: Tensor, state: States, options: Options) -> States:
    """What a single cell does."""
    a = linear(x, cell.w_ih, cell.q_ih, cell.b_ih, options)
    return step(a, linear(state[0], cell.w_hh, cell.q_hh, cell.b_hh, options), state)


def sequence(
    step: Step, cell: CellWeights, x: Tensor, first: States, sizes: list[int], reverse: bool, options: Options
) -> tuple[Tensor, States]:
    """One layer in one direction: x (sum of sizes, in), of which step t sees `sizes[t]` rows, and so of the state."""
    a = linear(x, cell.w_ih, cell.q_ih, cell.b_ih, options)
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    state = [part.clone() for part in first]
    y = torch.zeros(x.shape[0], cell.w_hh.shape[1])
    for t in reversed(range(len(sizes))) if reverse else range(len(sizes)):
        rows = slice(starts[t], starts[t] + sizes[t])
        running = [part[: sizes[t]] for part in state]
        b = linear(running[0], cell.w_hh, cell.q_hh, cell.b_hh, options)
        for part, new in zip(state, step(a[rows], b, running), strict=True):
            part[: sizes[t]] = new
        y[rows] = state[0][: sizes[t]]
    return y, state


def layers(step: Step, operator: LSTM | GRU, x: Tensor, states: States, batch_sizes: Tensor | None) -> Expected:
    """All layers; each one's output is the next one's input, both directions side by side."""
    sizes = [x.shape[1]] * x.shape[0] if batch_sizes is None else [int(size) for size in batch_sizes]
    y = x.reshape(-1, x.shape[-1])
    options: Options = {"reduce_range": operator.reduce_range, "per_row": operator.per_row}
    directions = 1 + operator.bidirectional
    final: list[States] = []
    for layer in range(len(operator.cells) // directions):
        found = []
        for direction in range(directions):
            number = layer * directions + direction
            first = [part[number] for part in states]
            found.append(sequence(step, operator.cells[number], y, first, sizes, direction == 1, options))
        y = torch.cat([output for output, _ in found], 1)
        final += [state for _, state in found]
    whole = y if batch_sizes is not None else y.reshape(*x.shape[:2], -1)
    return Expected((whole, *(torch.stack([state[k] for state in final]) for k in range(len(states)))))


def _options(facet: Facet) -> Options:
    return {name: name in facet.options for name in ("reduce_range", "per_row")}


def _weight(draw: Draw, facet: Facet, rows: int, columns: int) -> tuple[Tensor, QParams | None]:
    """Such that a gate gets sums of about 1, and no gate is always at its end."""
    if facet.weight is None:
        return (draw.floats((rows, columns)) / columns**0.5).half(), None
    weight = draw.integers((rows, columns), facet.weight.dtype, "any").contiguous()
    zeros = [0 if facet.weight.symmetric else draw.zero_point(facet.weight.dtype) // 4 for _ in range(rows)]
    scales = torch.tensor(draw.uniform(0.2, 2.0, rows), dtype=torch.float64) / (75.0 * columns**0.5)
    if facet.weight.per_channel:
        return weight, per_channel(scales, torch.tensor(zeros), 0, facet.weight.dtype)
    return weight, per_tensor(float(scales[0]), zeros[0], facet.weight.dtype)


def _cell(draw: Draw, facet: Facet, recipe: RecurrentRecipe, inputs: int) -> CellWeights:
    rows = GATES[facet.spec.operator] * recipe.hidden
    biases = [draw.floats((rows,), 0.3) if recipe.bias else None for _ in range(2)]
    return CellWeights(
        *_weight(draw, facet, rows, inputs), *_weight(draw, facet, rows, recipe.hidden), biases[0], biases[1]
    )


def _floats(draw: Draw, recipe: RecurrentRecipe, shape: tuple[int, ...]) -> Tensor:
    magnitude = {"usual": 1.0, "large": 60.0, "zero": 0.0}[recipe.values]
    return laid_out(draw.floats(shape, magnitude), recipe.layout)


def _make_layers(facet: Facet, recipe: RecurrentRecipe) -> Case:
    draw = Draw(recipe)
    kind = facet.spec.operator
    directions = 1 + recipe.bidirectional
    widths = [recipe.shape[-1]] + [recipe.hidden * directions] * (recipe.layers - 1)
    cells = tuple(_cell(draw, facet, recipe, width) for width in widths for _ in range(directions))
    x = _floats(draw, recipe, recipe.shape if recipe.sizes is None else (sum(recipe.sizes), recipe.shape[-1]))
    batch = recipe.shape[1] if recipe.sizes is None else recipe.sizes[0]
    states = [_floats(draw, recipe, (len(cells), batch, recipe.hidden)) for _ in range(2 if kind is LSTM else 1)]
    sizes = None if recipe.sizes is None else torch.tensor(recipe.sizes)
    switches = {**_options(facet), "bidirectional": recipe.bidirectional}
    operator = LSTM(cells, **switches) if kind is LSTM else GRU(cells, **switches)
    step = lstm_step if kind is LSTM else gru_step
    return Case(operator, (x, *states, sizes), lambda: layers(step, operator, x, states, sizes))


def _make_cell(facet: Facet, recipe: RecurrentRecipe) -> Case:
    draw = Draw(recipe)
    kind = facet.spec.operator
    cell = _cell(draw, facet, recipe, recipe.shape[-1])
    x = _floats(draw, recipe, recipe.shape)
    state = [_floats(draw, recipe, (recipe.shape[0], recipe.hidden)) for _ in range(2 if kind is LSTMCell else 1)]
    options = _options(facet)
    operator: Operator
    if kind is RNNCell:
        operator = RNNCell((cell,), **options, nonlinearity=recipe.nonlinearity)
        step = rnn_tanh_step if recipe.nonlinearity == "tanh" else rnn_relu_step
    elif kind is LSTMCell:
        operator, step = LSTMCell((cell,), **options), lstm_step
    else:
        operator, step = GRUCell((cell,), **options), gru_step

    def oracle() -> Expected:
        new = one_step(step, cell, x, state, options)
        return Expected(tuple(new) if len(new) > 1 else new[0])

    return Case(operator, (x, *state), oracle)


def _written_layers(facet: Facet) -> dict[str, RecurrentRecipe]:
    plain = RecurrentRecipe(shape=(5, 3, 11), hidden=7)
    found = {"plain": plain, "one": RecurrentRecipe(shape=(1, 1, 1), hidden=1), "bias_none": replace(plain, bias=False)}
    found["hidden_16"] = RecurrentRecipe(shape=(3, 4, 64), hidden=16)
    found["hidden_33"] = RecurrentRecipe(shape=(3, 2, 5), hidden=33)
    found["long"] = RecurrentRecipe(shape=(40, 1, 4), hidden=5)
    found["layers_3"] = replace(plain, layers=3)
    found["bidirectional"] = replace(plain, bidirectional=True)
    found["bidirectional_layers_2"] = replace(plain, bidirectional=True, layers=2, bias=False)
    found["packed"] = replace(plain, sizes=(4, 4, 2, 1, 1), layers=2)
    found["packed_bidirectional"] = replace(plain, sizes=(5, 3, 3, 1), layers=2, bidirectional=True)
    found |= {f"values_{kind}": replace(plain, values=kind) for kind in ("large", "zero")}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:4]}
    return found


def _written_cell(facet: Facet) -> dict[str, RecurrentRecipe]:
    plain = RecurrentRecipe(shape=(5, 11), hidden=7)
    found = {"plain": plain, "one": RecurrentRecipe(shape=(1, 1), hidden=1), "bias_none": replace(plain, bias=False)}
    found["hidden_16"] = RecurrentRecipe(shape=(3, 64), hidden=16)
    found["hidden_33"] = RecurrentRecipe(shape=(40, 5), hidden=33)
    found |= {f"values_{kind}": replace(plain, values=kind) for kind in ("large", "zero")}
    found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:4]}
    if facet.spec.operator is RNNCell:
        found["relu"] = replace(plain, nonlinearity="relu")
        found["relu_large"] = replace(plain, nonlinearity="relu", values="large")
    return found


@st.composite
def _drawn(draw: st.DrawFn, facet: Facet) -> RecurrentRecipe:
    cell = facet.spec.operator not in (LSTM, GRU)
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 70)))
    falling = st.lists(st.integers(1, 6), min_size=1, max_size=6).map(lambda sizes: tuple(sorted(sizes, reverse=True)))
    return RecurrentRecipe(
        shape=shape[1:] if cell else shape,
        hidden=draw(st.integers(1, 40)),
        layers=draw(st.integers(1, 2)),
        bidirectional=draw(st.booleans()),
        bias=draw(st.booleans()),
        sizes=draw(st.none() | falling),
        values=draw(st.sampled_from(("usual", "usual", "large"))),
        nonlinearity=draw(st.sampled_from(("tanh", "relu"))),
        layout=draw(st.sampled_from(LAYOUTS[:4])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _large(facet: Facet) -> RecurrentRecipe:
    batch, inputs, hidden = (16, 40, 64) if facet.weight is None else (48, 160, 96)
    cell = facet.spec.operator not in (LSTM, GRU)
    return RecurrentRecipe(shape=(batch, inputs) if cell else (3, batch, inputs), hidden=hidden)


def _oversized(facet: Facet, extent: str, size: int) -> Operator | None:
    if extent != "in_features":
        return None
    recipe = RecurrentRecipe(shape=(1, 1, size), hidden=1)
    cell = _cell(Draw(recipe), facet, recipe, size)
    kind = facet.spec.operator
    assert issubclass(kind, LSTM | GRU | LSTMCell | GRUCell | RNNCell)
    return kind((cell,))


def _bad(case: Case) -> Iterator[Bad]:
    operator = case.operator
    assert isinstance(operator, LSTM | GRU | LSTMCell | GRUCell | RNNCell)
    x, h = case.args[:2]

    def call(index: int, value: Any) -> Bad:
        return "", operator, (*case.args[:index], value, *case.args[index + 1 :])

    def weights(**changed: Any) -> Bad:
        cells = (replace(operator.cells[0], **changed), *operator.cells[1:])
        return "", replace(operator, cells=cells), case.args

    cell = operator.cells[0]
    states = range(1, 3 if isinstance(operator, LSTM | LSTMCell) else 2)
    found = {
        "features_less": call(0, x[..., :-1]),
        "x_rank_1": call(0, x.flatten()),
        "x_rank_more": call(0, x[None]),
        "w_ih_rank_1": weights(w_ih=cell.w_ih.flatten()),
        "w_hh_meta": weights(w_hh=cell.w_hh.to("meta")),
        "w_hh_rows_less": weights(w_hh=cell.w_hh[:-1]),
        "w_hh_columns_less": weights(w_hh=cell.w_hh[:, :-1]),
        "w_ih_gate_less": weights(w_ih=cell.w_ih[: -h.shape[-1]]),
        "w_ih_int16": weights(w_ih=cell.w_ih.to(torch.int16)),
        "b_ih_longer": weights(b_ih=torch.zeros(cell.w_ih.shape[0] + 1)),
        "b_hh_shorter": weights(b_hh=torch.zeros(cell.w_ih.shape[0] - 1)),
        "no_cells": ("", replace(operator, cells=()), case.args),
    }
    for index in states:
        found[f"state_{index}_hidden_less"] = call(index, case.args[index][..., :-1])
        found[f"state_{index}_batch_less"] = call(index, case.args[index][..., :-1, :])
        found[f"state_{index}_rank_less"] = call(index, case.args[index][0])
    if cell.q_ih is not None:
        found["x_nan"] = call(0, torch.full_like(x, float("nan")))
        found["x_infinite"] = call(0, torch.full_like(x, float("inf")))
        found["state_nan"] = call(1, torch.full_like(h, float("nan")))
        found["q_ih_scale_nan"] = weights(q_ih=QParams(cell.q_ih.dtype, float("nan"), 0))
        found["q_hh_zero_point_above"] = weights(q_hh=QParams(cell.q_ih.dtype, 0.1, 128))
        found["q_hh_none"] = weights(q_hh=None)
        found["q_hh_scales_less"] = weights(q_hh=per_channel(torch.ones(2), torch.zeros(2).long(), 0, cell.q_ih.dtype))
    if isinstance(operator, LSTM | GRU):
        last, batch = len(case.args) - 1, h.shape[1]
        packed = x.flatten(0, 1)
        sizes = {"rise": [batch, batch, 1, 2], "zero": [], "sum_less": [batch], "negative": [batch, -1]}
        for what, values in sizes.items():
            args = (packed, *case.args[1:last], torch.tensor(values, dtype=torch.int64))
            found[f"batch_sizes_{what}"] = "", operator, args
        found["batch_sizes_other_state"] = "", operator, (packed[:4], *case.args[1:last], torch.tensor([2, 2]))
        found["layers_less_than_states"] = call(1, torch.cat((h, h)))
    if isinstance(operator, RNNCell):
        found["nonlinearity_other"] = "", replace(operator, nonlinearity="sigmoid"), case.args
    return ((what, made, args) for what, (_, made, args) in found.items())


LSTMS = Family(LSTM, _written_layers, _drawn, _make_layers, _large, _oversized, False, _bad)
GRUS = Family(GRU, _written_layers, _drawn, _make_layers, _large, _oversized, False, _bad)
LSTM_CELLS = Family(LSTMCell, _written_cell, _drawn, _make_cell, _large, _oversized, False, _bad)
GRU_CELLS = Family(GRUCell, _written_cell, _drawn, _make_cell, _large, _oversized, False, _bad)
RNN_CELLS = Family(RNNCell, _written_cell, _drawn, _make_cell, _large, _oversized, False, _bad)
