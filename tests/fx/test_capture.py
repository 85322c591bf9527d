"""What graph mode captures is what the model does: numbers, keywords, pieces, writes through any name, attributes."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.fx.arguments import by_parameter
from qcore.fx.trace import Untraceable, trace
from tests.backends import USABLE
from tests.fx.programs import KEYWORDS, Program, check, decibels, defaulting, several, writes

X = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))


# --- writes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(14))
def test_writes_reach_every_name_of_a_value(seed):
    check(Program(writes(seed)), X)


@pytest.mark.parametrize("seed", range(14, 94))
def test_graphs_of_drawn_writes_give_what_their_modules_give(seed):
    model = Program(writes(seed), seed).eval()
    other = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        try:
            graph = trace(model, lambda path, module: "", by_parameter(model, (X,))).model
        except Untraceable as error:
            assert "in place" in str(error) or "writes to" in str(error)
            return
        for x in (X, other):
            assert torch.equal(graph(x), model(x))


def test_most_drawn_writes_become_graphs():
    made = 0
    for seed in range(14, 34):
        model = Program(writes(seed), seed).eval()
        try:
            made += bool(trace(model, lambda path, module: "", by_parameter(model, (X,))))
        except Untraceable:
            continue
    assert made > 15


class Counting(nn.Module):
    """A buffer, and an attribute, that its forward changes."""

    def __init__(self, how):
        super().__init__()
        self.fc, self.how, self.calls = nn.Linear(8, 8), how, 0
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x):
        y = self.fc(x)
        if self.how == "buffer":
            self.seen += 1
        elif self.how == "buffer by value":
            self.seen.mul_(0.9).add_(y.mean((0, 1)))
        elif self.how == "item":
            self.seen[:2] = y[0, 0, :2]
        elif self.how == "attribute":
            self.calls += 1
            return y * self.calls
        elif self.how == "kept":
            before = getattr(self, "last", None)
            self.last = y
            return y if before is None else y + before
        return y + self.seen


@pytest.mark.parametrize("how", ["buffer", "buffer by value", "item", "attribute", "kept"])
def test_what_a_forward_keeps_from_call_to_call_stays_with_it(how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), Counting(how)).eval()
    with torch.no_grad():
        prepared = qcore.prepare(model, example_inputs=(X,))
        assert model[1].calls == 0 and not model[1].seen.any() and not hasattr(model[1], "last")
        right = copy.deepcopy(model)
        for _ in range(3):
            assert decibels(right(X), prepared(X)) > 90
    reasons = " ".join(row.reason for row in qcore.report(prepared))
    assert {"buffer": "seen'", "item": "seen'", "attribute": "'calls'", "kept": "'last'"}[how.split()[0]] in reasons


class Outer(nn.Module):
    """A forward that is no graph, around one that writes to what it gets."""

    def __init__(self, inner):
        super().__init__()
        self.a, self.inner = nn.Linear(8, 8), inner

    def forward(self, x):
        y = self.a(x)
        if y.sum() > 1e9:
            return x
        z = self.inner(y)
        return y + z


def test_a_part_that_writes_to_its_input_does_so_still():
    check(Outer(Program(lambda self, x: self.b(F.relu(x, inplace=True)))), X)
    check(Outer(Program(lambda self, x: self.b(x.mul_(0.5)[:, :2]).sum(1, keepdim=True))), X)


class Sized(nn.Module):
    """A part that asks for sizes, and so is entered only when it is called, and writes through a view."""

    def __init__(self, seed):
        super().__init__()
        self.part = Program(writes(seed))

    def forward(self, x):
        if x.shape[1] < 2:
            return x
        if isinstance(x, torch.Tensor):
            x = x * 2
        return self.part(x) * 1.5


@pytest.mark.parametrize("seed", range(4))
def test_parts_that_are_entered_with_the_sizes_of_a_call(seed):
    check(nn.Sequential(nn.Linear(8, 8), Sized(seed)), X, least=20)


@torch.fx.wrap
def scaled(x):
    part = x[..., :4]
    part *= 0.0
    return x


def test_a_wrapped_function_that_writes_through_a_view():
    check(Program(lambda self, x: self.b(scaled(self.a(x)))), X)


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEYWORDS)
def test_arguments_by_keyword(name):
    exact = name != "gelu"  # which plans compute to the last bits but one
    check(Program(lambda self, x: KEYWORDS[name](self.a(x)) * 1.0 + self.b(x).mean()), X, exact=exact)


VALUES = {
    "a number": (lambda self, x, n=1: self.b(self.a(x)[:, slice(-n, None) if isinstance(n, int) else n]), (0,), (2,)),
    "a dimension": (lambda self, x, dim=1: F.relu(self.a(x)).mean(dim), (2,), (1,)),
    "a factor": (lambda self, x, by=1.0: self.a(x) * by, (0.5,), (0.25,)),
    "a string": (lambda self, x, how="a": getattr(self, how)(x), ("b",), ("a",)),
    "a tuple": (lambda self, x, sizes=(): self.a(x).sum(sizes) if sizes else self.a(x), ((1, 2),), ((1,),)),
    "a dict": (lambda self, x, to=None: self.a(x) * to["by"] if to else self.a(x), ({"by": 2},), ({"by": 3},)),
    "a dtype": (lambda self, x, kind=None: self.a(x).to(kind).float(), (torch.float64,), (torch.float32,)),
    "a slice": (lambda self, x, part=None: self.b(self.a(x)[:, part]), (slice(0, 2),), (slice(0, 3),)),
    "tensors and numbers": (
        lambda self, x, both=None: self.a(x) * both[1] + len(both) * both[0],
        ([torch.ones(8), 2],),
        ([torch.ones(8), 3],),
    ),
    "a tensor or none": (lambda self, x, y=None: self.a(x) if y is None else self.a(x) + y, (torch.ones(8),), (None,)),
    "none or a tensor": (lambda self, x, y=None: self.a(x) if y is None else self.a(x) + y, (None,), (torch.ones(8),)),
}


class Named(Program):
    """A forward whose argument has a name, as most have."""

    def forward(self, x, given=None):
        return self.body(self, x, given)


@pytest.mark.parametrize("kind", [Program, Named])
@pytest.mark.parametrize("name", VALUES)
def test_what_is_no_tensor_is_what_the_call_gives(name, kind):
    body, first, second = VALUES[name]
    static = check(kind(body), X, *first)
    dynamic = qcore.quantize_dynamic(kind(body).eval())
    compiled = qcore.compile(dynamic, (X, *first))
    for model in (static, compiled):
        with pytest.raises((qcore.ArgumentError), match="was made for"):
            model(X, *second)
    check(kind(body), X, *second)


def test_an_argument_that_is_left_out_is_its_default():
    model = Named(lambda self, x, given: self.a(x) if given is None else self.a(x) * given).eval()
    made = qcore.compile(qcore.quantize_dynamic(model), (X, 3))
    for call in (lambda: made(X), lambda: made(X, 3.0), lambda: made(X, given=True)):
        with pytest.raises(qcore.ArgumentError, match="made for given=3"):
            call()
    assert torch.equal(made(X, given=3), made(X, 3))


class Decorated(Program):
    @defaulting
    def forward(self, x, factor=None):
        return self.a(x) if factor is None else self.a(x) * factor


def test_forwards_with_decorators():
    check(Decorated(None), X)


class Layered(nn.Module):
    """A forward that is no graph, which calls one part with another number each time."""

    def __init__(self):
        super().__init__()
        self.part = Named(lambda self, x, given: self.a(x) * given)

    def forward(self, x):
        for number in range(3):
            x = x if x.sum() > 1e9 else self.part(x, number + 1)
        return x


def test_a_part_that_is_called_with_several_numbers():
    torch.manual_seed(0)
    check(Layered(), X, least=20)


# --- several results --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_pieces_used_in_any_way(seed):
    check(Program(several(seed), seed), X, least=20)


# --- views and attributes ---------------------------------------------------------------------------------------------


class Viewing(nn.Module):
    """Views of what layers give, in a forward that is a graph or not."""

    def __init__(self, layer, traced):
        super().__init__()
        self.layer, self.traced = layer, traced

    def forward(self, x):
        y = self.layer(x)
        if not self.traced and y.sum() > 1e9:
            return y
        return y.view(y.size(0), -1).view(-1)


@pytest.mark.parametrize("backend", [each for each in USABLE if each in ("fbgemm_x86", "reference")])
@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("rank", [1, 2])
def test_views_work_where_they_do_in_the_float_model(rank, traced, backend):
    torch.manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d)[rank - 1]
    check(Viewing(kind(3, 4, 3), traced), torch.randn(2, 3, *[6] * rank), backend=backend)


READ = {
    "a stride": lambda m: m.conv.stride[0] == 1 and m.conv.padding == (1,),
    "sizes": lambda m: m.a.in_features == 8 and m.conv.out_channels == 4,
    "a dtype": lambda m: m.a.weight.dtype is torch.float32 and m.conv.weight.device.type == "cpu",
    "a shape": lambda m: m.a.weight.shape == (8, 8) and m.a.weight.size(0) == 8,
    "a number": lambda m: m.number == 3 and m.names == ("x", "y"),
    "no bias": lambda m: m.free.bias is None and m.a.bias is not None,
    "a list": lambda m: len(m.layers) == 2,
}


class Reading(nn.Module):
    """A forward that is no graph, which reads what its parts hold."""

    def __init__(self, read):
        super().__init__()
        torch.manual_seed(0)
        self.part = Program(lambda self, x: self.b(self.a(x)))
        self.a, self.conv, self.free = nn.Linear(8, 8), nn.Conv1d(4, 4, 3, padding=1), nn.Linear(8, 8, bias=False)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.read = read
        self.number, self.names = 3, ("x", "y")

    def forward(self, x):
        if not self.read(self) or x.sum() > 1e9:
            raise ValueError("an attribute is not what it was")
        for layer in self.layers:
            x = layer(x)
        return self.free(self.conv(self.a(self.part(x))))


@pytest.mark.parametrize("name", READ)
def test_attributes_of_layers_are_those_of_the_float_ones(name):
    torch.manual_seed(0)
    model = Reading(READ[name]).eval()
    with torch.no_grad():
        prepared = qcore.prepare(model, example_inputs=(X,))
        prepared(X)
        for each in (prepared, qcore.convert(prepared), copy.deepcopy(qcore.convert(prepared))):
            assert decibels(model(X), each(X)) > 24


def test_a_graph_in_the_place_of_a_module_has_its_attributes():
    inner = Program(lambda self, x: self.b(self.a(x)))
    inner.scale, inner.kind = 0.5, "plain"
    model = Outer(inner).eval()
    prepared = qcore.prepare(model, example_inputs=(X,))
    prepared(X)
    for each in (prepared, qcore.convert(prepared)):
        assert each.inner.scale == 0.5 and each.inner.kind == "plain"


@pytest.mark.parametrize("tied", [lambda m: m.a.weight, lambda m: m.part.a.weight])
def test_functions_get_the_numbers_of_a_quantized_layers_weight(tied):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.part = nn.Linear(8, 8), nn.Sequential()
            self.part.a = nn.Linear(8, 8)

        def forward(self, x):
            y = F.linear(self.part(self.a(x)), tied(self))
            return y if y.sum() < 1e9 else x

    check(Tied(), X)


# --- what 8 bits do not fit -------------------------------------------------------------------------------------------

POSITIONS = torch.arange(1, 13).reshape(3, 4)


def indices(seed):
    steps = [torch.log, torch.sqrt, lambda v: v * 1.7, lambda v: v / 3, lambda v: v + 0.4, lambda v: -v + 20]
    chosen = list(itertools.islice(itertools.cycle(steps[seed % 6 :] + steps[: seed % 6]), 1 + seed % 4))
    ends = [lambda v: v.long(), lambda v: v.floor().int(), lambda v: v.round().to(torch.int64)]

    class Indexing(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(seed)
            self.table, self.a = nn.Embedding(64, 8), nn.Linear(8, 8)

        def forward(self, positions):
            value = (positions + 1).float()
            for step in chosen:
                value = step(value)
            return self.a(self.table(ends[seed % 3](value).clamp(0, 63)))

    return Indexing()


@pytest.mark.parametrize("seed", range(8))
def test_numbers_that_become_indices_are_not_rounded(seed):
    check(indices(seed), POSITIONS)


LEAST = torch.finfo(torch.float32).min
MASKS = {
    "filled": lambda scores, mask: scores.masked_fill(mask, LEAST),
    "filled with minus infinity": lambda scores, mask: scores.masked_fill(mask, float("-inf")),
    "where": lambda scores, mask: torch.where(mask, torch.full((), LEAST), scores),
    "added": lambda scores, mask: scores + mask.float() * -10000.0,
    "added least": lambda scores, mask: scores + torch.zeros_like(scores).masked_fill(mask, LEAST),
    "compared": lambda scores, mask: scores * (scores.sigmoid() > 0.5) + scores,
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_leave_the_scores_their_bits(name):
    def body(self, x, mask):
        scores = self.a(x) @ self.b(x).transpose(1, 2) / 3
        return MASKS[name](scores, mask).softmax(-1) @ self.c(x)

    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, :, 3:] = True
    check(Program(body), X, mask, least=20)


OTHERS = {
    "complex": lambda y: torch.view_as_real(_squared(torch.view_as_complex(y.unflatten(-1, (-1, 2))))).flatten(-2),
    "a spectrum": lambda y: torch.fft.irfft(torch.fft.rfft(y) * 2, n=8),
    "doubles": lambda y: (y.double() * 2 + 1).float(),
    "integers": lambda y: (y * 100).int().float() / 100,
    "halves": lambda y: (y.bfloat16() + y.bfloat16()).float(),
}


def _squared(z):
    return z + z * z


@pytest.mark.parametrize("name", OTHERS)
def test_values_of_other_kinds_stay_as_they_are(name):
    check(Program(lambda self, x: self.b(OTHERS[name](self.a(x)))), X, least=18)
