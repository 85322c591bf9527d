"""A converted model runs by its backend's plans, gives the bits of its modules, and stays the model that it was."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import qcore
from qcore import operators as ops
from qcore.graph.execution import execution_of
from tests.fx import nets
from tests.fx.test_random_graphs import Drawn, inputs, operations, steps
from tests.graph.interpreting import assert_levels_agree, converted, interpreting


@pytest.fixture
def backend():
    with interpreting() as found:
        yield found


@pytest.mark.parametrize("kind", nets.MODELS, ids=lambda kind: kind.__name__)
def test_both_levels_give_the_same_bits_for_any_batch(backend, kind):
    model = converted(nets.made(kind), nets.batches(kind))
    for batch in (4, 1):
        assert_levels_agree(model, *nets.batches(kind, 1, batch, batch)[0])
    assert backend.compiled
    assert len(backend.offered) == 1, "the execution is kept"


@pytest.mark.parametrize("kind", [nets.Residual, nets.Gated])
def test_a_net_without_float_parts_is_one_part(backend, kind):
    model = converted(nets.made(kind), nets.batches(kind))
    model(*nets.batches(kind)[0])
    assert len(backend.compiled) == 1
    assert "on the module level: nothing" in str(execution_of(model))


CLAIMED = ["conv", "add", "mul", "cat", "max_pool", "lookup"]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(steps(operations()), st.integers(0, 3), st.sets(st.sampled_from(CLAIMED)))
def test_drawn_graphs_agree_whatever_is_claimed(steps, seed, left_out):
    with interpreting(lambda node: node.operator.name not in left_out):
        model = converted(Drawn(steps, seed).eval(), inputs(seed))
        assert_levels_agree(model, *inputs(seed)[1])


class Between(nn.Module):
    """A float call that needs a quantized result and gives a quantized operand: all around it is not convex."""

    SHAPE = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        y = F.relu(self.a(x))
        z = F.relu(self.b(torch.cumsum(y, 1)))
        return self.c(y + z)


def test_parts_are_convex(backend):
    model = converted(nets.made(Between), nets.batches(Between))
    assert_levels_agree(model, *nets.batches(Between)[0])
    assert [len(graph.inputs) for graph in backend.compiled] == [1, 2]


def test_a_backend_that_claims_nothing_changes_nothing():
    with interpreting(lambda node: False):
        model = converted(nets.made(nets.Residual), nets.batches(nets.Residual))
        assert_levels_agree(model, *nets.batches(nets.Residual)[0])
        assert "compiles nothing" in str(execution_of(model))


def test_single_operators_stay_modules(backend):
    with_one = converted(nn.Sequential(nn.Linear(4, 4)).eval(), [(torch.randn(2, 4),)])
    backend.wanted = lambda node: isinstance(node.operator, ops.Linear)
    assert_levels_agree(with_one, torch.randn(3, 4))
    assert not backend.compiled


def test_copies_and_files_keep_the_model_and_compile_anew(backend):
    model, (x,) = converted(nets.made(nets.Residual), nets.batches(nets.Residual)), nets.batches(nets.Residual)[0]
    keys = set(model.state_dict())
    expected = model(x)
    assert set(model.state_dict()) == keys
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for other in others:
        before = len(backend.compiled)
        assert torch.equal(other(x), expected)
        assert len(backend.compiled) == before + 1
        assert set(other.state_dict()) == keys


def test_new_weights_are_seen(backend):
    model, (x,) = converted(nets.made(nets.Residual), nets.batches(nets.Residual)), nets.batches(nets.Residual)[0]
    other = converted(nets.made(nets.Residual, seed=5), nets.batches(nets.Residual))
    first = model(x)
    model.load_state_dict(other.state_dict())
    assert torch.equal(model(x), other(x)) and not torch.equal(model(x), first)
    model.fc2.scale = 2 * model.fc2.scale
    assert_levels_agree(model, x)
    model.fc2.set_weight_bias(model.fc2.weight(), None)
    assert_levels_agree(model, x)
    model.c2 = other.c2
    assert_levels_agree(model, x)


def test_hooks_are_called(backend):
    model, (x,) = converted(nets.made(nets.Residual), nets.batches(nets.Residual)), nets.batches(nets.Residual)[0]
    expected = model(x)
    seen = []
    handle = model.c3.register_forward_hook(lambda module, args, result: seen.append(result))
    assert torch.equal(model(x), expected)
    assert len(seen) == 1 and isinstance(seen[0], qcore.QTensor)
    handle.remove()
    assert torch.equal(model(x), expected) and len(seen) == 1


def test_other_inputs_run_on_modules(backend):
    model, (x,) = converted(nets.made(nets.Residual), nets.batches(nets.Residual)), nets.batches(nets.Residual)[0]
    quantized = qcore.quantize_per_tensor(x, 0.1, 100, qcore.quint8)
    assert_levels_agree(model, quantized)
    with pytest.raises(qcore.ArgumentTypeError, match="float32"):
        model(x.double())
    model.train()
    with pytest.raises(qcore.UnsupportedError, match="dropout"):
        model(x)
    assert len(backend.offered) == 1


class InPlace(nn.Module):
    SHAPE = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        return z + y.clamp_(-0.1, 0.1)


def test_values_changed_in_place_under_others_are_new_values(backend):
    net = nets.made(InPlace)
    model = converted(net, nets.batches(InPlace))
    assert_levels_agree(model, *nets.batches(InPlace)[0])
    exact, found = net(*nets.batches(InPlace)[0]), model(*nets.batches(InPlace)[0])
    assert backend.compiled and (found - exact).square().sum() < 0.003 * exact.square().sum()


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5"])
def test_torchvision_nets_agree(backend, name):
    model, batches = nets.torchvision_model(name, 32)
    assert_levels_agree(converted(model, batches), *batches[1])
