"""Each pass by itself: what it makes of a small graph."""

from __future__ import annotations

import copy
import inspect
import operator
import pickle

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import qcore
from qcore.fx import constants, convert, leaves
from qcore.fx.arguments import by_parameter
from qcore.fx.direct import DirectCalls
from qcore.fx.fuse import fuse
from qcore.fx.kinds import Kind, kinds_of
from qcore.fx.lower import lower
from qcore.fx.modules import Operation, ScalarOperation
from qcore.fx.trace import Untraceable, trace
from tests.fx import nets
from tests.fx.qconfigs import OURS


def traced(model, *inputs, keep=lambda path, module: ""):
    return trace(model.eval(), keep, by_parameter(model, inputs) if inputs else None)


def calls(graph_module):
    """What the nodes of a graph call, in order."""
    return [str(node.target) for node in graph_module.graph.nodes if node.op.startswith("call_")]


class Body(nn.Module):
    """A forward given as a function of the module and its input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.body = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.body(self, x)


def choosing(module, x):
    return module.fc(x) if x.sum() > 0 else x


def listing(module, x):
    return module.fc(x) * len(x)


def spreading(module, x):
    return torch.cat([*x])


@pytest.mark.parametrize("body", [choosing, listing, spreading])
def test_a_module_that_cannot_be_traced_becomes_a_leaf_with_the_line_that_is_to_blame(body):
    inner = Body(body, fc=nn.Linear(4, 4))
    outer = Body(lambda self, x: self.after(self.inner(self.before(x))), before=nn.ReLU(), inner=inner, after=nn.ReLU())
    found = traced(outer)
    assert calls(found.model) == ["before", "inner", "after"]
    line = body.__code__.co_firstlineno + 1
    assert f"test_passes.py:{line}" in found.leaves["inner"]
    x = torch.randn(3, 4)
    assert torch.equal(found.model(x), outer(x))


def test_only_the_outermost_of_leaves_is_one():
    inner = Body(choosing, fc=nn.Linear(4, 4))
    middle = Body(lambda self, x: self.inner(x) if x.sum() > 0 else x, inner=inner)
    found = traced(Body(lambda self, x: self.middle(x), middle=middle))
    assert list(found.leaves) == ["middle"] and calls(found.model) == ["middle"]


def test_a_model_whose_own_forward_cannot_be_traced_says_where():
    with pytest.raises(Untraceable, match=r"test_passes.py:\d+: return module.fc"):
        traced(Body(choosing, fc=nn.Linear(4, 4)))


class Varied(nn.Module):
    """Arguments of all kinds; (batch, 4)."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, *others, negate=False, bias=None, **more):
        y = self.fc(x)
        for other in others:
            y = y + other
        y = y if bias is None else y + bias
        for factor in more.values():
            y = y * factor
        return -y if negate else y


class Calling(nn.Module):
    """Control flow, and in it a call with arguments of all kinds."""

    def __init__(self):
        super().__init__()
        self.varied = Varied()

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.varied(x, x, 2 * x, bias=x[0], factor=x, negate=True)


@pytest.mark.parametrize(("model", "count"), [(Varied(), 1), (Varied(), 3), (Calling(), 1)])
def test_a_graph_takes_what_the_forward_was_given_by_position_and_by_name(model, count):
    inputs = tuple(torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(0)))
    prepared = qcore.prepare_fx(model.eval(), OURS["per_channel"], inputs)
    prepared(*inputs)
    converted = qcore.convert_fx(prepared)
    exact = model(*inputs)
    assert (converted(*inputs) - exact).square().sum() < 0.001 * exact.square().sum()
    if isinstance(model, Calling):
        taken = list(inspect.signature(converted.varied.forward).parameters)
        assert taken == ["x", "others_0", "others_1", "negate", "bias", "factor"]
        with pytest.raises(qcore.ArgumentError, match="made for negate=True"):
            converted.varied(*inputs, *inputs, *inputs, negate=False, bias=inputs[0], factor=inputs[0])


def test_what_a_failed_attempt_recorded_is_taken_back():
    shared = nn.Parameter(torch.ones(4))

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = shared

        def forward(self, x):
            y = x * self.weight
            return y if y.sum() > 0 else x

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.inner = shared, Inner()

        def forward(self, x):
            return self.inner(x) + self.weight

    found = traced(Outer())
    assert [node.op for node in found.model.graph.nodes] == [
        "placeholder",
        "call_module",
        "get_attr",
        "call_function",
        "output",
    ]


def test_arguments_left_at_none_are_fixed():
    class Optional(nn.Module):
        def forward(self, x, scale=None):
            return x if scale is None else x * scale

    x = torch.randn(2)
    found = traced(Optional(), x).model
    for model in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert torch.equal(model(x), x) and torch.equal(model(x, None), x) and torch.equal(model(x, scale=None), x)
        with pytest.raises(qcore.ArgumentError, match=r"made for scale=None.*got Tensor"):
            model(x, torch.ones(1))
    assert calls(traced(Optional(), x, torch.ones(1)).model) == ["<built-in function mul>"]


def test_functions_with_constant_weights_become_modules_that_share_them():
    class Functions(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.b = nn.Parameter(torch.randn(4, 3, 2, 2)), nn.Parameter(torch.randn(4))
            self.v = nn.Parameter(torch.randn(5, 4))

        def forward(self, x):
            x = F.conv2d(x, self.w, self.b, stride=2, padding=1).mean([2, 3])
            return F.linear(F.layer_norm(x, (4,)), self.v)

    model = Functions()
    graph = traced(model).model
    constants.functions_to_modules(graph)
    kinds = [type(graph.get_submodule(each)) for each in calls(graph) if each != "mean"]
    assert kinds == [nn.Conv2d, nn.LayerNorm, nn.Linear]
    assert graph.linear.weight is model.v and not hasattr(graph, "v")
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(graph(x), model(x))


@pytest.mark.parametrize("relu", [nn.ReLU(), F.relu, torch.relu, lambda x: x.relu(), lambda x: F.relu(x, inplace=True)])
def test_convolution_norm_and_every_form_of_relu_fuse(relu):
    parts = {"c": nn.Conv2d(3, 4, 1), "b": nn.BatchNorm2d(4)}
    parts |= {"r": relu} if isinstance(relu, nn.Module) else {}
    model = Body(lambda self, x: relu(self.b(self.c(x))) if "r" not in parts else self.r(self.b(self.c(x))), **parts)
    graph = traced(model).model
    fuse(graph, "auto")
    assert calls(graph) == ["c"] and type(graph.c).__name__ == "ConvReLU2d"
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(graph(x), model(x))


def test_nothing_fuses_whose_value_is_used_between():
    def body(self, x):
        y = self.c(x)
        return F.relu(y) + y

    graph = traced(Body(body, c=nn.Conv2d(3, 4, 1))).model
    fuse(graph, "auto")
    assert calls(graph)[0] == "c" and type(graph.c) is nn.Conv2d and len(calls(graph)) == 3


def test_a_shared_layer_fuses_in_each_place_by_itself():
    def body(self, x):
        return F.relu(self.c(x)) + self.c(x)

    model = Body(body, c=nn.Conv2d(3, 3, 1))
    graph = traced(model).model
    fuse(graph, "auto")
    x = torch.randn(1, 3, 2, 2)
    assert torch.equal(graph(x), model(x))


def test_kinds_of_values_are_known_from_the_inputs():
    def body(self, x):
        rows = x.size(0) * 2
        index = torch.argmax(x, 1)
        return x.view(rows, -1) + 1, index + 1, x > 0, torch.arange(3) + x

    graph = traced(Body(body)).model
    kinds = {node.name: kind for node, kind in kinds_of(graph, (torch.randn(2, 4),)).items()}
    assert kinds["size"] is Kind.OTHER and kinds["mul"] is Kind.OTHER
    assert kinds["argmax"] is Kind.INTEGER and kinds["add_1"] is Kind.INTEGER and kinds["gt"] is Kind.INTEGER
    assert kinds["view"] is Kind.FLOAT and kinds["add"] is Kind.FLOAT and kinds["add_2"] is Kind.FLOAT


def prepared(model, x, **options):
    found = qcore.prepare_fx(model.eval(), OURS["per_channel"], (x,), **options)
    found(x)
    return found


def observers(graph_module):
    """The value that each observer watches -> the observer's name."""
    return {
        node.args[0].name: str(node.target)
        for node in graph_module.graph.nodes
        if node.op == "call_module" and "activation_post_process" in str(node.target)
    }


def test_results_that_share_parameters_share_their_observer():
    def body(self, x):
        a = self.c(x)
        b = self.d(x)
        joined = F.max_pool2d(torch.cat([a, b], 1), 2)
        one, other = torch.chunk(joined.permute(0, 1, 3, 2), 2, 1)
        return torch.cat([one, other], 1).flatten(1), torch.sigmoid(a)

    found = observers(prepared(Body(body, c=nn.Conv2d(3, 4, 1), d=nn.Conv2d(3, 4, 1)), torch.randn(2, 3, 4, 4)))
    shared = {found[name] for name in ("c", "d", "cat", "max_pool2d", "permute", "cat_1", "flatten")}
    assert len(shared) == 1 and len(set(found.values())) == 3 and "chunk" not in found


def test_integers_are_not_observed():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.fc = nn.Embedding(10, 4), nn.Linear(4, 4)

        def forward(self, indices, shift):
            return self.fc(self.table(indices + shift))

    inputs = torch.tensor([1, 2]), torch.tensor(1)
    found = qcore.prepare_fx(Lookup().eval(), None, inputs)
    assert list(observers(found)) == ["table", "fc"]


def converted_graph(body, x, **modules):
    model = prepared(Body(body, **modules), x)
    return model, qcore.convert_fx(model)


def test_reference_graphs_quantize_and_dequantize_around_each_operation():
    model = prepared(Body(lambda self, x: F.relu(self.c(x)) + 1, c=nn.Conv2d(3, 4, 1)), torch.randn(2, 3, 4, 4))
    reference = copy.deepcopy(model)
    convert.to_reference(reference, "reference", {})
    assert calls(reference) == [
        "quantize", "dequantize", "c", "quantize_1", "dequantize", str(operator.add), "quantize_2", "dequantize",
    ]  # fmt: skip
    lower(reference, "reference")
    assert calls(reference) == ["quantize", "c", "add", "dequantize"]
    assert isinstance(reference.add, ScalarOperation)


def test_folding_removes_a_quantize_of_what_has_these_parameters():
    graph = fx.Graph()
    x = graph.placeholder("x")
    value = graph.call_module("quantize", (graph.call_method("dequantize", (graph.call_module("quantize", (x,)),)),))
    graph.output(value)
    holder = nn.Module()
    holder.quantize = qcore.nn.quantized.Quantize(0.1, 3, qcore.quint8)
    model = convert.QuantizedGraphModule(holder, graph)
    convert.fold(model)
    assert calls(model) == ["quantize"]


def test_each_quantized_call_is_a_module_and_moves_stay():
    def body(self, x):
        y = torch.add(self.c(x), x).transpose(1, 2)
        return F.gelu(y).softmax(1)[:, 0]

    _, found = converted_graph(body, torch.randn(2, 3, 4, 4), c=nn.Conv2d(3, 3, 1))
    assert calls(found) == [
        "quantize",
        "c",
        "add",
        "transpose",
        "gelu",
        "softmax",
        "<built-in function getitem>",
        "dequantize",
    ]
    assert all(isinstance(getattr(found, name), Operation) for name in ("add", "gelu", "softmax"))


def test_asking_for_sizes_needs_no_float():
    _, found = converted_graph(
        lambda self, x: self.c(x).view(x.shape[0], -1), torch.randn(2, 3, 4, 4), c=nn.Conv2d(3, 3, 1)
    )
    assert calls(found).count("dequantize") == 1


def test_a_call_left_float_stays_float_between_quantized_ones():
    mapping = qcore.QConfigMapping().set_global(OURS["per_channel"]).set_object_type(F.gelu, None)
    body = Body(lambda self, x: self.d(F.gelu(self.c(x))), c=nn.Linear(4, 4), d=nn.Linear(4, 4)).eval()
    x = torch.randn(2, 4)
    model = qcore.prepare_fx(body, mapping, (x,))
    model(x)
    found = qcore.convert_fx(model)
    assert calls(found) == ["quantize", "c", "dequantize", str(F.gelu), "quantize_2", "d", "dequantize"]
    assert qcore.report(found)["gelu"].reason == "its qconfig is None"


def test_parts_of_what_is_not_traced_are_found_with_their_inputs():
    model = nets.made(nets.Choosing)
    assert dict(leaves.callable_parts(model.inner, "inner")) == {
        "inner.fc": model.inner.fc,
        "inner.norm": model.inner.norm,
    }
    seen = leaves.inputs_of(model, by_parameter(model, (torch.randn(2, 8),)), DirectCalls()).inputs
    assert [each.dtype for each in seen["inner.fc"].args] == [torch.float32]


@pytest.mark.parametrize(
    "body",
    [
        lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
        lambda x: torch.cat(x.split(4, 1), 1),
        lambda x: torch.stack(x.unbind(0)),
        lambda x: torch.stack(torch.tensor_split(x, 2)),
    ],
)
def test_pieces_that_are_used_as_one_value_stay_float(body):
    model = Body(lambda self, x: self.last(body(self.fc(x))), fc=nn.Linear(8, 8), last=nn.Linear(8, 8)).eval()
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    prepared = qcore.prepare_fx(model, OURS["per_channel"], (x,))
    prepared(x)
    converted = qcore.convert_fx(prepared)
    assert any("take them one by one" in row.reason for row in qcore.report(converted).float_rows)
    exact = model(x)
    assert (converted(x) - exact).square().sum() < 0.001 * exact.square().sum()
