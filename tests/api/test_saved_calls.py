"""Files hold what graphs call, of torch's functions on tensors; nothing that reads where its arguments say."""

from __future__ import annotations

import math
import random
from collections import OrderedDict

import pytest
import torch
from torch import nn

import qcore
from qcore.api.qconfig_mapping import get_default_qconfig_mapping
from qcore.fx.callables import functions, methods

CALLS = {
    "fields of several results": lambda y: y.max(1, keepdim=True).values + y.sort(1).indices,
    "fft": lambda y: torch.fft.rfft(y).abs(),
    "linalg": lambda y: torch.linalg.vector_norm(y, dim=-1),
    "special": lambda y: torch.special.expit(y),
    "unflatten": lambda y: y.unflatten(-1, (2, 2)),
    "math": lambda y: y / math.sqrt(y.size(-1)),
    "out, which is none": lambda y: torch.nn.functional.normalize(y),
    "complex": lambda y: (y * 1j).imag,
    "made": lambda y: y + y.new_tensor([1.0, 2.0, 3.0, 4.0]),
}


class Model(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call
        self.fc = nn.Linear(4, 4)

    def forward(self, x, more=None):
        y = self.fc(x)
        return self.call(y if more is None else y + more["a"] * more["b"])


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("more", [(), (OrderedDict(a=torch.ones(4), b=2.0),)], ids=["", "with a container"])
def test_a_graph_comes_back_with_what_it_calls(name, more, tmp_path):
    inputs = (torch.randn(3, 4), *more)
    prepared = qcore.prepare(Model(CALLS[name]).eval(), example_inputs=inputs, backend="reference")
    prepared(*inputs)
    model = qcore.convert(prepared)
    qcore.save(model, tmp_path / "model.qcore")
    again = qcore.load(tmp_path / "model.qcore")
    assert torch.equal(model(*inputs), again(*inputs))
    assert [(p, n) for p, n, _ in again.qcore_fixed] == [(p, n) for p, n, _ in model.qcore_fixed]
    if more:
        with pytest.raises(qcore.ArgumentError, match="was made for more="):
            again(inputs[0], dict(more[0]))


def test_layers_that_stay_float_keep_their_dtype(tmp_path):
    model = qcore.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1)).eval().double())
    qcore.save(model, tmp_path / "model.qcore")
    assert qcore.load(tmp_path / "model.qcore")[1].weight.dtype is torch.float64


def test_nothing_that_reads_where_its_arguments_say_is_on_the_list():
    assert not {name for name in (*functions(), *methods()) if "ctc_loss" in name or "as_strided" in name}


OTHERS = (range(3), range(5, -2, -3), b"", b"\x00\xff", 2**63, -(2**200), torch.Size([2, 3]), (torch.Size([]), 2**70))


@pytest.mark.parametrize("given", OTHERS, ids=str)
def test_arguments_that_json_has_no_form_of_come_back(given, tmp_path):
    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x, more):
            return self.fc(x)

    x = torch.randn(2, 4)
    prepared = qcore.prepare(Given().eval(), example_inputs=(x, given), backend="reference")
    prepared(x, given)
    model = qcore.convert(prepared)
    qcore.save(model, tmp_path / "model.qcore")
    again = qcore.load(tmp_path / "model.qcore")
    assert repr(again.qcore_fixed) == repr(model.qcore_fixed)
    assert torch.equal(again(x, given), model(x, given))


def test_what_is_not_on_the_list_is_allowed_by_its_owner(tmp_path):
    x = torch.randn(4, 4)
    prepared = qcore.prepare(Model(torch.linalg.inv).eval(), example_inputs=(x,), backend="reference")
    prepared(x)
    model, path = qcore.convert(prepared), tmp_path / "model.qcore"
    with pytest.raises(qcore.UnsupportedError, match=r"calls linalg_inv, which is not on the list.*`allow`"):
        qcore.save(model, path)
    qcore.save(model, path, allow=[torch.linalg.inv])
    with pytest.raises(qcore.ArgumentError, match=r"linalg_inv, which is not on the list.*`allow`"):
        qcore.load(path)
    assert torch.equal(qcore.load(path, allow=[torch.linalg.inv])(x), model(x))


class Bags(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(5, 4, mode="sum", include_last_offset=last), nn.Linear(4, 2)

    def forward(self, index, offsets):
        return self.fc(self.bag(index, offsets))


@pytest.mark.parametrize("last", [False, True])
def test_a_float_embedding_bag_of_a_file_checks_what_it_is_called_with(last, tmp_path):
    index, offsets = torch.tensor([0, 3, 4]), torch.tensor([0, 1, 3])
    mapping = get_default_qconfig_mapping("reference").set_module_name("bag", None)
    prepared = qcore.prepare(
        Bags(last).eval(), qconfig_mapping=mapping, example_inputs=(index, offsets), backend="reference"
    )
    prepared(index, offsets)
    model = qcore.convert(prepared)
    qcore.save(model, tmp_path / "model.qcore")
    again = qcore.load(tmp_path / "model.qcore")
    assert torch.equal(again(index, offsets), model(index, offsets))
    qcore.save(again, tmp_path / "model.qcore")
    chance, refused = random.Random(0), 0
    for _ in range(200):
        index = torch.tensor([chance.choice((0, 1, 4, 4, 5, -1, 2**40)) for _ in range(chance.randrange(5))]).long()
        offsets = torch.tensor([chance.choice((0, 0, 1, 2, 4, -1, 2**40)) for _ in range(chance.randrange(4))]).long()
        rises = bool((offsets.diff() >= 0).all()) and len(offsets) > last and offsets[0] == 0
        fits = rises and int(offsets[-1]) <= len(index) and all(0 <= each < 5 for each in index.tolist())
        if fits:
            again(index, offsets)
        else:
            refused += 1
            with pytest.raises(qcore.ArgumentError, match="EmbeddingBag: "):
                again(index, offsets)
    assert 50 < refused < 200
