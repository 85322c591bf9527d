"""A model that was saved and loaded, pickled or copied is the model: its bits, its plans, its tensors, its parts."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

import qcore
from qcore.fx.graph_module import QuantizedGraphModule
from tests.api.kept_models import ALLOW, NAMES, Halving, Pair, drawn
from tests.backends import USABLE


def saved(found, tmp_path):
    qcore.save(found.model, tmp_path / "model.qcore", ALLOW)
    return qcore.load(tmp_path / "model.qcore", found.factory, allow=ALLOW)


def torch_saved(found, tmp_path):
    stream = io.BytesIO()
    torch.save(found.model, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


WAYS = {
    "saved": saved,
    "saved twice": lambda found, path: saved(type(found)(saved(found, path), found.inputs, found.factory), path),
    "torch.save": torch_saved,
    "pickle": lambda found, _: pickle.loads(pickle.dumps(found.model)),
    "deepcopy": lambda found, _: copy.deepcopy(found.model),
    "copy": lambda found, _: copy.copy(found.model),
}


def results(model, inputs):
    with torch.no_grad():
        leaves, spec = tree_flatten(model(*inputs))
    return leaves, spec


def assert_same_results(one, other):
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def plans(model, inputs):
    """The parts of each graph, as their plans say them, and the calls that stay outside."""
    results(model, inputs)
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, QuantizedGraphModule) and "qcore_runs_on" in vars(module):
            cache = vars(module).get("_qcore_execution")
            found[path] = "not called" if cache is None else str(cache._execution)
    return found


def structure(model):
    """Modules, modes, and what is held where, with what is one object under two names."""
    names, numbers = [], {}
    for path, module in model.named_modules(remove_duplicate=False):
        kind = QuantizedGraphModule if isinstance(module, QuantizedGraphModule) else type(module)
        names.append((path, kind, module.training, numbers.setdefault(id(module), len(numbers))))
        for name, value in sorted({**module._parameters, **module._buffers}.items()):
            if value is not None:
                number = numbers.setdefault(id(value), len(numbers))
                names.append((path, name, value.dtype, tuple(value.shape), value.requires_grad, number))
    return names


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_way_it_is_the_model(seed, tmp_path):
    found = drawn(seed, USABLE[0])
    expected, expected_plans = results(found.model, found.inputs), plans(found.model, found.inputs)
    for name, way in WAYS.items():
        other = way(found, tmp_path)
        assert_same_results(results(other, found.inputs), expected)
        assert plans(other, found.inputs) == expected_plans, name
        assert structure(other) == structure(found.model), name
        assert list(other.state_dict()) == list(found.model.state_dict()), name
        assert qcore.report(other) == qcore.report(found.model), name
        if expected_plans.get("", "not called") != "not called":
            rows = [len(qcore.profile(each, found.inputs).rows) for each in (other, found.model)]
            assert rows[0] == rows[1], name


def linear(**names):
    model = nn.Sequential()
    for name, layer in names.items():
        model._modules[name] = layer
    return model.eval()


@pytest.mark.parametrize("name", ["code", "graph", "meta", "carry", 'a"b'])
def test_a_name_that_no_graph_can_call_is_told_before_anything_runs(name):
    with pytest.raises(qcore.QcoreError, match="rename it in the float model"):
        qcore.prepare(linear(**{name: nn.Linear(4, 4)}), example_inputs=(torch.randn(2, 4),), backend="reference")


@pytest.mark.parametrize("name", ["in", "class", "None", "lambda"])
def test_a_graph_calls_layers_that_are_named_by_keywords(name, tmp_path):
    torch.manual_seed(0)
    parts = nn.ModuleDict({name: nn.Sequential(nn.Linear(4, 4), nn.ReLU())})

    class Calling(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = parts
            self._modules[name] = nn.Linear(4, 4)

        def forward(self, x):
            return getattr(self, name)(self.parts[name](x)) + getattr(self, name).weight.mean()

    model, x = Calling().eval(), torch.randn(32, 4)
    prepared = qcore.prepare(model, example_inputs=(x,), backend="reference")
    prepared(x)
    quantized = qcore.convert(prepared)
    qcore.save(quantized, tmp_path / "model.qcore")
    right = model(x)
    assert (quantized(x) - right).pow(2).sum() < 0.01 * right.pow(2).sum()
    loaded = qcore.load(tmp_path / "model.qcore")
    for other in (loaded, copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert torch.equal(other(x), quantized(x))
        assert other.state_dict().keys() == quantized.state_dict().keys()


def test_where_no_graph_calls_it_a_layer_may_have_the_name_of_a_keyword(tmp_path):
    model = nn.ModuleDict({NAMES[-1]: nn.Linear(4, 4), "class": nn.Linear(4, 4)})
    quantized = qcore.quantize_dynamic(model, backend="reference")
    qcore.save(quantized, tmp_path / "model.qcore")
    x, loaded = torch.randn(2, 4), qcore.load(tmp_path / "model.qcore")
    assert all(torch.equal(loaded[name](x), quantized[name](x)) for name in model)


def test_two_tables_of_four_bits_are_not_taken_for_each_other(tmp_path):
    tables = nn.Sequential(*(nn.EmbeddingBag(50, 7, mode="sum") for _ in range(6)))
    model = qcore.quantize_dynamic(tables, dtype=qcore.quint4x2, backend="reference")
    qcore.save(model, tmp_path / "model.qcore")
    loaded, x = qcore.load(tmp_path / "model.qcore"), torch.arange(50)[:, None]
    assert all(torch.equal(a(x), b(x)) for a, b in zip(loaded, model, strict=True))


class Steps(nn.Module):
    """A recurrent layer that code of its own calls."""

    def __init__(self, layer, whole):
        super().__init__()
        self.layer, self.whole = layer, whole

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        found = self.layer(x) if self.whole else self.layer(x[0])
        return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell, nn.Linear])
def test_a_layer_that_is_a_graph_by_itself_comes_back_with_its_attributes(kind, bias, tmp_path):
    x, path = torch.randn(3, 2, 4), tmp_path / "model.qcore"

    def make():
        return Steps(kind(4, 4, bias=bias), kind in (nn.LSTM, nn.GRU)).eval()

    prepared = qcore.prepare(make(), example_inputs=(x,), backend="reference")
    prepared(x)
    model = qcore.convert(prepared)
    qcore.save(model, path)
    again = qcore.load(path, make)
    assert isinstance(again.layer, QuantizedGraphModule)
    assert torch.equal(again(x), model(x))
    assert kind is nn.Linear or again.layer.bias is bias


def test_hooks_are_refused_where_they_would_be_lost(tmp_path):
    model = qcore.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.GELU()).eval(), backend="reference")
    for path in ("0", "1"):
        handle = model.get_submodule(path).register_forward_hook(lambda *_: None)
        with pytest.raises(
            qcore.UnsupportedError, match=rf"module '{path}' .*it has hooks.*register them on what load"
        ):
            qcore.save(model, tmp_path / "model.qcore")
        handle.remove()
    qcore.save(model, tmp_path / "model.qcore")


def test_copies_of_graphs_keep_hooks():
    x = torch.randn(2, 4)
    prepared = qcore.prepare(nn.Sequential(nn.Linear(4, 4)).eval(), example_inputs=(x,), backend="reference")
    prepared(x)
    model = qcore.convert(prepared)
    model.register_forward_hook(lambda module, args, result: result + 1)
    for other in (copy.copy(model), copy.deepcopy(model)):
        assert torch.equal(other(x), model(x))


def test_what_would_not_be_the_same_is_refused_with_its_place_and_nothing_is_written(tmp_path):
    path = tmp_path / "model.qcore"
    model = qcore.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).eval(), backend="reference")
    qcore.save(model, path)
    before = path.read_bytes()
    model[1].normalized_shape = (2, 2)  # which its weights are not of
    with pytest.raises(qcore.UnsupportedError, match=r"cannot be saved.*its weights do not fit its modules"):
        qcore.save(model, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.qcore"]


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    model = qcore.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)).eval(), backend="reference")
    with pytest.raises(OSError, match="nowhere"):
        qcore.save(model, tmp_path / "nowhere" / "model.qcore")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        qcore.save(model, tmp_path / "folder")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_function_or_class_of_ones_own_is_called_only_where_it_is_allowed(tmp_path):
    x, path = torch.randn(2, 4), tmp_path / "model.qcore"
    prepared = qcore.prepare(Halving().eval(), example_inputs=(x,), backend="reference")
    prepared(x)
    model = qcore.convert(prepared)
    with pytest.raises(qcore.UnsupportedError, match=r"calls halved.*give it as `allow` to save and load"):
        qcore.save(model, path)
    qcore.save(model, path, ALLOW)
    with pytest.raises(qcore.ArgumentError, match=r"calls tests\.api\.kept_models\.halved.*give it as `allow`"):
        qcore.load(path)
    assert type(qcore.load(path, allow=ALLOW)(x)) is Pair
    with pytest.raises(qcore.ArgumentTypeError, match="allow: give functions and classes, not a str"):
        qcore.load(path, allow=["halved"])
