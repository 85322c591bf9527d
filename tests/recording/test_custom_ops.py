"""The custom ops of torch.ops.qcore: their fake results, the cache of kernels behind them, and torch.export."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import qcore
from qcore.custom_ops import library
from qcore.custom_ops.schema import CALLS, flatten, operator_of, restore, schema
from qcore.operators import operators
from tests.api.saved_models import SAVED
from tests.backends import USABLE
from tests.nn.every_module import SAMPLES, tensors
from tests.recording.test_trace import assert_equal, sample

pytestmark = pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's exporter needs its legacy stack")


def test_every_operator_has_one():
    ours = {kind for kind in operators().values() if kind.__module__.partition(".")[0] == "qcore"}
    inference = {kind for kind in ours if kind.__module__ != "qcore.training_operators"}
    assert inference == set(CALLS)
    for kind in CALLS:
        assert str(getattr(torch.ops.qcore, kind.name).default._schema) == "qcore::" + schema(kind)


@pytest.mark.parametrize("name", SAMPLES)
def test_fake_results_are_like_the_real_ones(name):
    module, inputs, whole, plain = sample(name)
    if plain[0].ndim in (4, 5):
        last = torch.channels_last if plain[0].ndim == 4 else torch.channels_last_3d
        plain = (plain[0].to(memory_format=last), *plain[1:])
    with torch.no_grad():
        program = torch.export.export(whole, plain)
        found = program.module()(*plain)
        assert_equal(found, tensors(module(*inputs)))
        calls = [node for node in program.graph.nodes if str(node.target).startswith("qcore.")]
        assert len(calls) <= 1 or "Norm" not in name
        fakes = [node.meta["val"] for node in program.graph.output_node().args[0]]
        for real, fake in zip(found, fakes, strict=True):
            assert (real.shape, real.dtype) == (tuple(fake.shape), fake.dtype)
            assert [s for s, n in zip(real.stride(), real.shape, strict=True) if n > 1] == [
                s for s, n in zip(fake.stride(), fake.shape, strict=True) if n > 1
            ]


IMAGES = torch.randn(2, 4, 3, 5)
FLOATS = [
    (qcore.operators.FloatFunction("gelu"), (IMAGES.to(memory_format=torch.channels_last),)),
    (qcore.operators.FloatAdd(), (IMAGES, IMAGES[:, :1])),
    (qcore.operators.FloatAdd(), (IMAGES[0], IMAGES)),
    (qcore.operators.FloatLayerNorm((5,), None, None), (IMAGES,)),
    (qcore.operators.FloatEmbedding(torch.randn(7, 3)), (torch.randint(7, (2, 4)),)),
    (qcore.operators.Attention(), (IMAGES, IMAGES, IMAGES, torch.zeros(3, 3))),
]


@pytest.mark.parametrize("operator, call", FLOATS)
def test_operators_on_floats_have_fake_results_like_the_real_ones(operator, call):
    op = getattr(torch.ops.qcore, operator.name)
    real = op(*flatten(operator, call, USABLE[0]))
    with FakeTensorMode() as mode:
        arguments = flatten(operator, call, USABLE[0])
        fake = op(*(mode.from_tensor(each) if isinstance(each, torch.Tensor) else each for each in arguments))
    assert (real.shape, real.stride(), real.dtype) == (fake.shape, fake.stride(), fake.dtype)


@pytest.mark.parametrize("name", ["eager-Residual", "graph-Residual", "graph-Gated", "parts", "dynamic-int8"])
def test_models_are_exported(name):
    model, _, inputs = SAVED[name](USABLE[0])
    with torch.no_grad():
        program = torch.export.export(model, inputs)
        assert_equal(tensors(program.module()(*inputs)), tensors(model(*inputs)))
    assert any(str(node.target).startswith("qcore.") for node in program.graph.nodes)


def linear(weight, scale=0.5):
    qweight = qcore.QParams(qcore.qint8, scale, 0)
    operator = qcore.operators.LinearDynamic(weight, qweight)
    return torch.ops.qcore.linear_dynamic(*flatten(operator, (torch.ones(1, weight.shape[1]),), USABLE[0]))


def built():
    return len(library._KERNELS._found)


def test_a_kernel_is_built_once_for_the_same_constants():
    weight = torch.randint(-9, 9, (3, 4), dtype=torch.int8)
    first = linear(weight)
    count = built()
    assert torch.equal(linear(weight), first)
    assert torch.equal(linear(weight.view(3, 4)), first)  # another object over the same memory
    assert built() == count
    assert not torch.equal(linear(weight, 0.25), first)
    assert built() == count + 1


def test_a_changed_weight_is_seen():
    weight = torch.ones(3, 4, dtype=torch.int8)
    first = linear(weight)
    weight.mul_(2)
    assert torch.equal(linear(weight), 2 * first)


def test_another_weight_in_the_same_memory_is_not_taken_for_one_that_is_gone():
    for number in range(20):
        found = linear(torch.full((8, 8), number, dtype=torch.int8))
        assert float(found[0, 0]) == pytest.approx(4 * number)


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(library, "_BOUND", 20)
    library._KERNELS._found.clear()
    weight = torch.ones(2, 2, dtype=torch.int8)
    for number in range(30):
        linear(weight, 1.0 + number)
    assert built() == 20


def test_arguments_come_back_as_operators():
    qweight = qcore.QParams(qcore.qint8, torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64), 0)
    weight = torch.ones(3, 4, dtype=torch.int8)
    operator = qcore.operators.Linear(weight, qweight, torch.zeros(3), True)
    q = qcore.QParams(qcore.quint8, 0.1, 3)
    call, rest = restore(type(operator), flatten(operator, (weight, q, q), "any"))
    assert call == [weight, q, q] or call[1:] == [q, q]
    found = operator_of(type(operator), rest[:-1])
    assert (found.weight is weight, found.qweight, found.relu, rest[-1]) == (True, qweight, True, "any")


def test_a_product_of_activations_is_exported():
    function = qcore.nn.quantized.QFunctional()
    function.backend = "reference"
    q = qcore.QParams(qcore.quint8, 0.05, 113)

    class Product(torch.nn.Module):
        def forward(self, a, b):
            return function.matmul(qcore.QTensor(a, q), qcore.QTensor(b, q)).int_repr()

    a, b = (torch.randint(0, 255, shape, dtype=torch.uint8) for shape in ((2, 3, 4), (4, 5)))
    program = torch.export.export(Product(), (a, b))
    assert torch.equal(program.module()(a, b), Product()(a, b))
    assert "qcore.matmul" in str(program.graph)
