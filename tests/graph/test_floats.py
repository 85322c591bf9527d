"""Floats between quantized layers: read, claimed and compiled, with the bits of docs/numerics.md."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.graph import moves
from qcore.graph.execute import Interpreter
from qcore.graph.execution import execution_of
from qcore.graph.ir import Graph, Node, Value
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import per_tensor
from tests.graph.interpreting import interpreting
from tests.graph.test_plans import ISAS, NATIVE

pytestmark = pytest.mark.skipif(not NATIVE, reason="no backend that compiles graphs runs here")
native = pytest.mark.parametrize("backend", NATIVE)


class Block(nn.Module):
    """A residual block as in text encoders, the norm before or after its layers."""

    def __init__(self, before: bool = False, approximate: str = "none") -> None:
        super().__init__()
        self.query, self.key = nn.Linear(24, 24), nn.Linear(24, 24)
        self.up, self.down = nn.Linear(24, 50), nn.Linear(50, 24)
        self.norm, self.last = nn.LayerNorm(24), nn.LayerNorm(24, elementwise_affine=False)
        self.act, self.drop = nn.GELU(approximate), nn.Dropout(0.1)
        self.before = before

    def forward(self, x):
        if self.before:
            x = x + self.drop(self.query(self.norm(x)) + F.silu(self.key(self.norm(x))))
            return x + self.down(self.act(self.up(self.last(x))))
        heads = self.query(x).view(x.shape[0], -1, 4, 6).transpose(1, 2)
        x = self.norm(
            x
            + F.dropout(heads.transpose(1, 2).reshape(x.shape[0], -1, 24) + torch.tanh(self.key(x)), 0.1, self.training)
        )
        return F.layer_norm(x + self.down(self.act(self.up(x))), (24,), self.norm.weight, self.norm.bias)


def compiled(model, x, backend):
    return qcore.compile(qcore.quantize_dynamic(model.eval(), backend=backend), (x,))


def modules(model, *inputs):
    with qcore.on_modules():
        return model(*inputs)


@native
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
@torch.no_grad()
def test_a_block_is_one_part_with_the_bits_of_the_reference(backend, before, approximate):
    torch.manual_seed(1)
    model = compiled(
        nn.Sequential(Block(before, approximate), Block(before, approximate)), torch.randn(2, 5, 24), backend
    )
    for sizes in ((2, 5), (1, 1), (3, 70)):
        x = torch.randn(*sizes, 24) * 3
        got = model(x)
        (part,) = execution_of(model).parts
        (expected,) = Interpreter(part.graph, qcore.registry.get("reference").build)(x)
        assert torch.equal(got, expected)
        with interpreting():
            close = modules(model, x)
        # quantized again and again: a last bit may move an integer by one step
        assert torch.allclose(got, close, atol=0.05)
        assert (got - close).abs().mean() < 1e-3


def chain(per_row, reduce_range, kept):
    """A sum, a norm, a function, and two linears of one input."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(-128, 128, (7, 33), generator=generator, dtype=torch.int8)
    bias = torch.randn(7, generator=generator)
    qweight = per_tensor(0.02, 3, qint8)
    names = ["a", "b", "sum", "norm", "act", "first", "second", "third"]
    a, b, total, norm, act, first, second, third = (Value(name) for name in names)
    linear = [ops.LinearDynamic(weight, qweight, bias, relu, reduce_range, per_row) for relu in (False, True, False)]
    nodes = (
        Node(ops.FloatAdd(), (a, b), (total,), "sum"),
        Node(ops.FloatLayerNorm((33,), torch.randn(33, generator=generator), None), (total,), (norm,), "norm"),
        Node(ops.FloatFunction("gelu"), (norm,), (act,), "act"),
        Node(linear[0], (act,), (first,), "first"),
        Node(linear[1], (act,), (second,), "second"),
        Node(linear[2], (norm,), (third,), "third"),
    )
    return Graph((a, b), nodes, (first, second, third, *((act,) if kept else ())))


@pytest.mark.parametrize(("backend", "isa"), ISAS)
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("reduce_range", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_chains_have_the_bits_of_the_reference(backend, isa, per_row, reduce_range, kept):
    graph = chain(per_row, reduce_range, kept)
    plan = qcore.registry.get(backend).compile(graph, isa=isa)
    reference = Interpreter(graph, qcore.registry.get("reference").build)
    for a, b in (((4, 3, 33), (4, 3, 33)), ((1, 33), (5, 1, 33)), ((33,), (33,)), ((0, 33), (33,)), ((6, 33), (1,))):
        inputs = torch.randn(a), torch.randn(b)
        expected = reference(*inputs)
        assert all(map(torch.equal, plan(*inputs), expected))
    transposed = torch.randn(33, 4).t(), torch.randn(4, 66)[:, ::2]
    assert all(map(torch.equal, plan(*transposed), reference(*transposed)))


@native
def test_threads_share_a_plan(backend):
    graph = chain(True, False, True)
    plan = qcore.registry.get(backend).compile(graph)
    inputs = [(torch.randn(300, 33), torch.randn(300, 33)) for _ in range(4)]
    expected = [plan(*each) for each in inputs]
    torch.set_num_threads(2)
    try:
        got: list = [None] * 4
        threads = [threading.Thread(target=lambda i=i: got.__setitem__(i, plan(*inputs[i]))) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(1)
    assert all(
        torch.equal(a, b) for mine, other in zip(got, expected, strict=True) for a, b in zip(mine, other, strict=True)
    )


@native
def test_errors_name_the_node(backend):
    plan = qcore.registry.get(backend).compile(chain(True, False, True))
    with pytest.raises(ArgumentError, match=r"'sum \+ norm.*dimensions that are normalized"):
        plan(torch.randn(2, 32), torch.randn(2, 32))
    with pytest.raises(ArgumentError, match="NaN or infinity"):
        plan(torch.full((2, 33), torch.inf), torch.randn(2, 33))


@native
def test_a_float_model_around_one_layer_stays_as_it_is(backend):
    model = nn.Sequential(nn.LayerNorm(24), nn.GELU(), nn.LayerNorm(24), nn.Sequential(nn.ReLU(), nn.Linear(24, 24)))
    x = torch.randn(3, 24)
    quantized = qcore.quantize_dynamic(
        nn.Sequential(model, nn.Flatten(0), nn.Unflatten(0, (3, 24)), nn.LayerNorm(24)).eval(), backend=backend
    )
    model = qcore.compile(quantized, (x,))
    execution = execution_of(model)
    kinds = [type(node.operator).__name__ for part in execution.parts for node in part.graph.nodes]
    assert "LinearDynamic" in kinds
    last = modules(model, x)
    assert torch.allclose(model(x), last, atol=1e-3)
    alone = qcore.compile(qcore.quantize_dynamic(nn.Sequential(nn.Linear(24, 24)).eval(), backend=backend), (x,))
    assert not execution_of(alone).parts


@native
@torch.no_grad()
def test_changed_norms_are_seen(backend):
    model = compiled(Block(), torch.randn(2, 5, 24), backend)
    x = torch.randn(2, 5, 24)
    before = model(x)
    norm = model.get_submodule("norm")
    norm.bias.add_(1.0)  # in place
    assert torch.allclose(model(x), modules(model, x), atol=0.05)
    assert not torch.allclose(model(x), before, atol=0.5)
    norm.bias.data = torch.zeros(24)
    assert torch.allclose(model(x), modules(model, x), atol=0.05)
    norm.weight = nn.Parameter(torch.full((24,), 3.0))
    assert torch.allclose(model(x), modules(model, x), atol=0.15)


@native
def test_other_dtypes_and_active_dropout_run_on_modules(backend):
    model = compiled(Block(True), torch.randn(2, 5, 24), backend)
    x = torch.randn(2, 5, 24)
    model(x)
    with pytest.raises(Exception, match=r"dtype|float32"):
        model(x.double())  # as the modules do
    model.get_submodule("drop").train()
    torch.manual_seed(5)
    dropped = model(x)
    torch.manual_seed(5)
    assert torch.allclose(dropped, modules(model, x), atol=0.05)


@native
@torch.no_grad()
def test_compile_leaves_the_modes_of_modules(backend):
    block = qcore.quantize_dynamic(Block().eval(), backend=backend)
    outer = nn.Sequential(block)  # in training mode, as modules are made
    x = torch.randn(2, 5, 24)
    expected = outer(x)
    model = qcore.compile(outer, (x,))
    assert model.training and not any(module.training for module in block.modules())
    assert torch.equal(model(x), expected) and torch.equal(outer(x), expected)
    evaluated = qcore.compile(outer.eval(), (x,))
    assert not any(module.training for module in evaluated.modules())


class Heads(nn.Module):
    """Attention as model libraries write it: code that takes shapes apart, and branches on sizes."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.q, self.k, self.out = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.causal = causal

    def forward(self, x):
        batch, length = x.shape[:-1]
        heads = (*x.shape[:-1], -1, 6)
        q, k = self.q(x).view(*heads).transpose(1, 2), self.k(x).view(*heads).transpose(1, 2)
        if length > 1 and self.causal:
            k = k * 0.5
        mixed = (q + k).transpose(1, 2).reshape(batch, length, -1).contiguous()
        return self.out(mixed), None


class Stack(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Heads(causal) for _ in range(2))
        self.norm = nn.LayerNorm(24)

    def forward(self, x):
        for layer in self.layers:
            x = self.norm(x + layer(x)[0])
        return x


@native
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_modules_that_look_at_sizes_are_entered(backend, causal):
    torch.manual_seed(2)
    model = compiled(Stack(causal), torch.randn(2, 5, 24), backend)
    assert (
        sum(isinstance(model.get_submodule(str(n.target)), Heads) for n in model.graph.nodes if n.op == "call_module")
        == 2
    )
    seen = []
    for sizes in ((2, 5), (1, 9), (3, 1), (2, 5)):
        x = torch.randn(*sizes, 24)
        got = model(x)
        execution = execution_of(model, ((x,), {}))
        seen.append(execution)
        kinds = [node.operator for part in execution.parts for node in part.graph.nodes]
        assert sum(isinstance(kind, ops.LinearDynamic) for kind in kinds) == 6
        assert torch.allclose(got, modules(model, x), atol=0.05)
        if not causal or sizes[1] == 1:
            (part,) = execution.parts
            assert torch.equal(got, *Interpreter(part.graph, qcore.registry.get("reference").build)(x))
    assert seen[0] is seen[1] is seen[3]
    assert (seen[2] is seen[0]) is not causal  # a length of 1 takes another path


@native
@torch.no_grad()
def test_entered_modules_are_watched(backend):
    model = compiled(Stack(False), torch.randn(2, 5, 24), backend)
    x = torch.randn(2, 5, 24)
    model(x)
    calls = []
    layer = model.get_submodule("layers.0")
    hook = layer.register_forward_hook(lambda *_: calls.append(1))
    model(x)
    assert calls
    hook.remove()
    layer.q = model.get_submodule("layers.1").q
    assert torch.allclose(model(x), modules(model, x), atol=0.05)


@native
@torch.no_grad()
def test_code_that_branches_on_numbers_stays_a_call(backend):
    class Branches(Heads):
        def forward(self, x):
            return super().forward(x if x.sum().item() > 0 else -x)

    stack = Stack(False)
    stack.layers[0].__class__ = Branches
    x = torch.randn(2, 5, 24)
    model = compiled(stack, x, backend)
    for each in (x, -x):
        assert torch.allclose(model(each), modules(model, each), atol=0.05)
    called = [str(node.target) for node in execution_of(model, ((x,), {})).code.graph.nodes]
    assert "layers.0" in called and "layers.1" not in called


class Activation(nn.Module):
    """A function as model libraries wrap it, and nothing quantized in it."""

    def forward(self, x):
        return F.gelu(x)


class Padded(Heads):
    """Attention with a mask of bools that is made of the lengths of sequences, and a module without layers."""

    def __init__(self) -> None:
        super().__init__(False)
        self.act = Activation()

    def forward(self, x, lengths):
        batch, length, _ = x.shape
        if length > 1000:
            raise ValueError(length)
        mask = (torch.arange(length) < lengths[:, None])[:, None, None].expand(batch, 1, length, length)
        q, k = (layer(x).view(batch, length, -1, 6).transpose(1, 2) for layer in (self.q, self.k))
        mixed = F.scaled_dot_product_attention(q, k, k, attn_mask=mask).transpose(1, 2)
        return self.out(self.act(mixed.reshape(batch, length, -1)))


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Padded()

    def forward(self, x, lengths):
        return self.layer(x, lengths)


@native
@torch.no_grad()
def test_masks_of_bools_and_modules_without_layers_are_in_the_part(backend):
    torch.manual_seed(6)
    example = torch.randn(2, 5, 24), torch.tensor([3, 5])
    model = qcore.compile(qcore.quantize_dynamic(Around().eval(), backend=backend), example)
    for lengths, size in (([3, 5], 5), ([1], 1), ([0, 40, 70], 70)):
        x, given = torch.randn(len(lengths), size, 24), torch.tensor(lengths)
        got = model(x, given)
        (part,) = execution_of(model, ((x, given), {})).parts
        kinds = [type(node.operator) for node in part.graph.nodes]
        assert ops.Attention in kinds and ops.FloatFunction in kinds
        assert sorted(str(value.dtype) for value in part.graph.inputs) == ["torch.bool", "torch.float32"]
        there = torch.arange(size)[None] < given[:, None].clamp(min=1)
        assert torch.allclose(got[there], modules(model, x, given)[there], atol=0.1)


@native
@torch.no_grad()
def test_hooks_of_modules_without_layers_are_seen(backend):
    example = torch.randn(2, 5, 24), torch.tensor([3, 5])
    model = qcore.compile(qcore.quantize_dynamic(Around().eval(), backend=backend), example)
    model(*example)
    calls = []
    model.get_submodule("layer.act").register_forward_hook(lambda *_: calls.append(1))
    model(*example)
    assert calls


class Attending(nn.Module):
    """Attention as model libraries write it, around torch's function."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(24, 24) for _ in range(4))
        self.options = options

    def forward(self, x):
        heads = (*x.shape[:-1], -1, 6)
        q, k, v = (layer(x).view(*heads).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, **self.options).transpose(1, 2)
        return self.out(mixed.reshape(*x.shape[:-1], -1).contiguous())


@native
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3, "dropout_p": 0.0}])
@torch.no_grad()
def test_attention_is_in_the_part(backend, options):
    torch.manual_seed(4)
    model = compiled(nn.Sequential(Attending(**options), nn.LayerNorm(24)), torch.randn(2, 5, 24), backend)
    for sizes in ((2, 5), (1, 1), (3, 70)):
        x = torch.randn(*sizes, 24)
        got = model(x)
        (part,) = execution_of(model, ((x,), {})).parts
        assert any(isinstance(node.operator, ops.Attention) for node in part.graph.nodes)
        assert torch.equal(got, *Interpreter(part.graph, qcore.registry.get("reference").build)(x))
        assert torch.allclose(got, modules(model, x), atol=0.1)


@pytest.mark.parametrize(("backend", "isa"), ISAS)
@pytest.mark.parametrize("masked", [None, torch.float32, torch.bool])
def test_attention_has_the_bits_of_the_reference_in_any_strides(backend, isa, masked):
    q, k, v, turned, y, act = map(Value, ("q", "k", "v", "turned", "y", "act"))
    inputs = (q, k, v, Value("mask", plain=masked)) if masked else (q, k, v)
    nodes = (
        Node(moves.Transpose(1, 2), (q,), (turned,), "turned"),
        Node(ops.Attention(causal=not masked), (turned, *inputs[1:]), (y,), "attention"),
        Node(ops.FloatFunction("tanh"), (y,), (act,), "act"),
    )
    graph = Graph(inputs, nodes, (act,))
    plan = qcore.registry.get(backend).compile(graph, isa=isa)
    reference = Interpreter(graph, qcore.registry.get("reference").build)
    for queries, keys in ((7, 7), (1, 33), (20, 1)):
        given = [torch.randn(2, queries, 3, 5), torch.randn(2, 3, 5, keys).transpose(2, 3), torch.randn(2, 3, keys, 4)]
        masks = torch.randn(2, 1, 1, keys), torch.randn(keys, queries).t()[None, None].expand(2, 1, -1, -1)
        for mask in masks if masked else ():
            mask = mask > 0 if masked is torch.bool else mask
            assert all(map(torch.equal, plan(*given, mask), reference(*given, mask)))
        if not masked:
            assert all(map(torch.equal, plan(*given), reference(*given)))


@native
@torch.no_grad()
def test_attention_that_no_part_has_stays_on_modules(backend):
    class Three(Attending):
        def forward(self, x):
            return self.out(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))

    class Masked(Attending):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool).tril())

        def forward(self, x):
            q, k, v = (layer(x)[:, None] for layer in (self.q, self.k, self.v))
            return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)[:, 0])

    for kind in (Three, Masked):
        x = torch.randn(2, 5, 24)
        model = compiled(kind(), x, backend)
        assert torch.allclose(model(x), modules(model, x), atol=0.05)


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 24), nn.Embedding(9, 24)
        self.norm, self.first, self.second = nn.LayerNorm(24), nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, tokens, places):
        return self.second(self.first(self.norm(self.words(tokens) + self.places(places))))


@native
@torch.no_grad()
def test_embeddings_are_in_the_part(backend):
    inputs = torch.randint(30, (3, 9)), torch.arange(9)[None]
    model = qcore.compile(qcore.quantize_dynamic(Embedded().eval(), backend=backend), inputs)
    (part,) = execution_of(model).parts
    first = [type(node.operator) for node in part.graph.nodes[:3]]
    assert first == [ops.FloatEmbedding, ops.FloatEmbedding, ops.FloatAdd]
    assert [str(value) for value in part.graph.inputs] == ["tokens: int64", "places: int64"]
    for tokens in (inputs[0], torch.randint(30, (1, 1)).expand(3, 9), torch.randint(30, (9, 3)).t(), inputs[0][:0]):
        got = model(tokens, inputs[1])
        (expected,) = Interpreter(part.graph, qcore.registry.get("reference").build)(tokens, inputs[1])
        assert torch.equal(got, expected)
        assert torch.allclose(got, modules(model, tokens, inputs[1]), atol=0.05)
    int32 = [each.int() for each in inputs]  # on modules
    assert torch.allclose(model(*int32), model(*inputs), atol=0.05)
    with pytest.raises(ArgumentError, match="'words': index 30 is outside of the table: it has 30 entries"):
        model(inputs[0].clone().fill_(30), inputs[1])


@native
@torch.no_grad()
def test_indices_that_are_moved_too_stay_on_the_module_level(backend):
    class Moved(Embedded):
        def forward(self, tokens, places):
            return super().forward(tokens, places), tokens.flatten(), tokens.transpose(0, 1)

    inputs = torch.randint(30, (3, 9)), torch.arange(9)[None]
    model = qcore.compile(qcore.quantize_dynamic(Moved().eval(), backend=backend), inputs)
    result, flat, turned = model(*inputs)
    assert torch.equal(flat, inputs[0].flatten()) and torch.equal(turned, inputs[0].t())
    assert torch.allclose(result, modules(model, *inputs)[0], atol=0.05)
    assert len(execution_of(model).parts) == 1


@native
@torch.no_grad()
def test_changed_embeddings_are_seen_and_those_that_change_themselves_stay(backend):
    inputs = torch.randint(30, (3, 9)), torch.arange(9)[None]
    model = qcore.compile(qcore.quantize_dynamic(Embedded().eval(), backend=backend), inputs)
    before = model(*inputs)
    model.get_submodule("words").weight.mul_(-1.0)  # in place
    assert not torch.allclose(model(*inputs), before, atol=0.5)
    assert torch.allclose(model(*inputs), modules(model, *inputs), atol=0.05)
    model.get_submodule("words").weight = nn.Parameter(torch.randn(40, 24))
    assert torch.allclose(model(inputs[0] + 10, inputs[1]), modules(model, inputs[0] + 10, inputs[1]), atol=0.05)
    model.get_submodule("places").max_norm = 0.5
    model.get_submodule("words").weight = nn.Parameter(torch.randn(40, 24))  # read again
    assert torch.allclose(model(*inputs), modules(model, *inputs), atol=0.05)
    kinds = [type(node.operator) for part in execution_of(model).parts for node in part.graph.nodes]
    assert kinds == [ops.FloatLayerNorm, ops.LinearDynamic, ops.LinearDynamic]
