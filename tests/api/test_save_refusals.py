"""Files that are cut, changed, newer or of another model, backends that are missing: each is told in words."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import qcore
from tests.api.saved_models import SAVED
from tests.backends import USABLE


@pytest.fixture
def saved(tmp_path):
    """The path of a saved graph model, which needs no float model to load."""
    model, _, _ = SAVED["graph-Residual"](USABLE[0])
    qcore.save(model, tmp_path / "model.qcore")
    return tmp_path / "model.qcore"


def rewritten(path, change):
    """The file with its header changed."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["qcore"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, {"qcore": json.dumps(header)})
    return path


def refusal(path, *arguments):
    with pytest.raises(qcore.ArgumentError, match="cannot be loaded") as error:
        qcore.load(path, *arguments)
    assert str(path) in str(error.value)
    return str(error.value)


def node(header, op):
    return next(each for each in header["modules"][0]["graph"] if each["op"] == op)


def test_what_is_not_converted_is_refused(tmp_path):
    prepared = qcore.prepare(nn.Sequential(qcore.QuantStub(), nn.Linear(2, 2)), backend="reference")
    for model in (nn.Linear(2, 2), prepared):
        with pytest.raises(qcore.QuantizationError, match=r"takes a converted model.*qcore\.convert"):
            qcore.save(model, tmp_path / "model.qcore")
    assert not (tmp_path / "model.qcore").exists()


def test_a_call_of_the_users_own_in_a_graph_is_refused_with_its_node(tmp_path):
    model, _, _ = SAVED["graph-Residual"](USABLE[0])
    last = next(each for each in model.graph.nodes if each.op == "output")
    with model.graph.inserting_before(last):
        call = model.graph.call_function(json.dumps, (last.args[0],))
    call.name = "mine"
    with pytest.raises(qcore.UnsupportedError, match=r"node .* calls dumps, which a checkpoint cannot hold"):
        qcore.save(model, tmp_path / "model.qcore")


def test_a_newer_version_is_told(saved):
    message = refusal(rewritten(saved, lambda header, tensors: header.update(schema=3)))
    assert "version 3 of the format; this qcore reads up to 2: pip install -U torch-qcore" in message


def test_a_missing_backend_is_told_with_what_to_do(saved):
    path = rewritten(saved, lambda header, tensors: header.update(backend="made_up"))
    with pytest.raises(qcore.BackendError, match="saved for the backend 'made_up'") as error:
        qcore.load(path)
    assert "pip install torch-qcore-made-up" in str(error.value)
    assert 'backend="auto"' in str(error.value)
    assert qcore.load(path, backend="auto").qcore_backend == qcore.registry.choose().name


def test_another_model_is_told_by_module(tmp_path):
    model, factory, _ = SAVED["dynamic-int8"](USABLE[0])
    path = tmp_path / "model.qcore"
    qcore.save(model, path)
    assert "whose code is not in the file, and no model has it" in refusal(path)
    assert "the model has a torch.nn.Linear there" in refusal(path, nn.Linear(2, 2))
    more = factory()
    more.extra = nn.Linear(2, 2)
    assert "the model has a module 'extra', and the file none" in refusal(path, more)
    with pytest.raises(qcore.ArgumentTypeError, match="model_or_factory gave a int"):
        qcore.load(path, lambda: 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h.pop("modules"), "header is corrupt"),
        (lambda h, t: h.update(schema="one"), "no schema version"),
        (lambda h, t: h.update(modules=[]), "list of modules is empty"),
        (lambda h, t: h["modules"].insert(0, {**h["modules"][1], "path": "a.b"}), "corrupt at 'a.b'"),
        (lambda h, t: h["modules"][1].update(arguments={"dict": {"in_channels": -1}}), "cannot be made"),
        (lambda h, t: h["modules"][1].update({"class": "os.system"}), "whose code is not in the file"),
        (lambda h, t: h["state"].update({"c1.weight": {"tensor": "nothing"}}), "tensor 'nothing' is missing"),
        (lambda h, t: h["state"]["c1.weight"]["qparams"].update(scale=float("1e-60"), axis=None), "is no number"),
        (lambda h, t: h["state"]["c1.weight"].update(shape=[1]), "of shape"),
        (lambda h, t: h["state"]["c1.weight"]["qparams"].update(axis=3), "do not fit axis 3"),
        (lambda h, t: h["state"]["c1.weight"]["qparams"].update(dtype="qint9"), "not a quantized dtype"),
        (lambda h, t: h["state"].pop("c1.weight"), "weights do not fit"),
        (lambda h, t: t.update({"c1.weight": torch.zeros(2, 2)}), "of shape"),
        (lambda h, t: t.update({"c1.weight.scale": torch.zeros(16, dtype=torch.float64)}), "positive, finite"),
        (lambda h, t: node(h, "call_function").update(target="os.system"), "not on the list of what it may call"),
        (lambda h, t: node(h, "call_function").update(target="torch.load"), "not on the list of what it may call"),
        (lambda h, t: node(h, "call_method").update(target="__class__"), "not on the list of what it may call"),
        (lambda h, t: node(h, "call_method").update(op="call_module", target="no.where"), "corrupt"),
        (lambda h, t: node(h, "call_method").update(args={"tuple": [{"node": "later"}]}), "no node before it"),
        (
            lambda h, t: node(h, "call_method").update(
                op="call_function", target="builtins.getattr", args={"tuple": ["text", "__class__"]}
            ),
            "asks for the attribute",
        ),
        (lambda h, t: node(h, "placeholder").update(target="x): import os #"), "not on the list"),
        (lambda h, t: node(h, "placeholder").update(name="x): import os #"), ""),
    ],
)
def test_a_header_that_lies_is_refused(saved, change, message):
    assert message in refusal(rewritten(saved, change))


def test_every_cut_of_a_file_is_refused(saved):
    data = saved.read_bytes()
    for length in [0, 1, 8, *range(20, len(data), len(data) // 40), len(data) - 1]:
        saved.write_bytes(data[:length])
        refusal(saved)


def test_changed_bytes_are_refused_or_read(saved):
    data = saved.read_bytes()
    chance = random.Random(0)
    for _ in range(40):
        changed = bytearray(data)
        for _ in range(3):
            changed[chance.randrange(len(data) // 2)] = chance.randrange(256)
        saved.write_bytes(changed)
        try:
            qcore.load(saved)
        except qcore.QcoreError as error:
            assert str(saved) in str(error)


def test_other_files_are_told(tmp_path):
    path = tmp_path / "other"
    path.write_text("hello")
    assert "no safetensors file, or cut or corrupt" in refusal(path)
    save_file({"a": torch.zeros(1)}, path)
    assert "without a qcore header" in refusal(path)
    with pytest.raises(FileNotFoundError):
        qcore.load(tmp_path / "nothing")
