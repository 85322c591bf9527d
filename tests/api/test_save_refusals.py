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


def graph(header):
    return header["modules"][0]["graph"]


def reshaped(header, sizes):
    found = node(header, "call_method")
    found.update(target="reshape", args={"tuple": [found["args"]["tuple"][0], *sizes]}, kwargs={"dict": {}})


def deep(levels):
    return {"tuple": [deep(levels - 1)]} if levels else 1


def an_input_called_self(header):
    old = json.dumps(graph(header)[0]["name"])
    header["modules"][0]["graph"] = json.loads(json.dumps(graph(header)).replace(old, '"self"'))


def put(header, *args, **kwargs):
    first = graph(header)[0]["name"]
    node(header, "call_function").update(
        target="qcore.put", args={"tuple": [{"node": first}, 1.0, *args]}, kwargs={"dict": kwargs}
    )


def fixed(header, *row):
    header["modules"][0]["notes"]["dict"]["qcore_fixed"] = {"tuple": [{"tuple": list(row)}]}


def lots(layers):
    return {"class": "torch.nn.Transformer", "arguments": {"dict": {"d_model": 8, "num_encoder_layers": layers}}}


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
    with pytest.raises(qcore.UnsupportedError, match=r"node .* calls dumps, which is not on the list"):
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
        (lambda h, t: node(h, "placeholder").update(name="x): import os #"), "must be an identifier"),
        (lambda h, t: node(h, "call_method").update(kwargs={"dict": {"*[f()], x": 1}}), "must be an identifier"),
        (lambda h, t: node(h, "call_method").update(kwargs={"dict": {"class": 1}}), "must be an identifier"),
        (lambda h, t: node(h, "call_method").update(name="lambda"), "must be an identifier"),
        (lambda h, t: node(h, "call_method").update(args={"tuple": ["text"]}), "of what is no tensor"),
        (lambda h, t: node(h, "call_method").update(args={"tuple": [{"tensor": "c1.weight"}]}), "it must be a number"),
        (lambda h, t: node(h, "call_module").update(target='c1"); f(("'), "not on the list of what it may call"),
        (lambda h, t: node(h, "call_module").update(target="c1.__class__"), "not on the list of what it may call"),
        (lambda h, t: node(h, "call_method").update(target="set_"), "not on the list of what it may call"),
        (lambda h, t: node(h, "call_method").update(target="data_ptr"), "not on the list of what it may call"),
        (
            lambda h, t: node(h, "call_function").update(target="torch.empty_like"),
            "not on the list of what it may call",
        ),
        (lambda h, t: node(h, "call_function").update(target="torch.autocast"), "not on the list of what it may call"),
        (lambda h, t: node(h, "call_function").update(target="torch.ctc_loss"), "not on the list of what it may call"),
        (
            lambda h, t: node(h, "call_function").update(target="torch.nn.functional.ctc_loss"),
            "not on the list of what it may call",
        ),
        (
            lambda h, t: node(h, "call_function").update(target="torch.grid_sampler_2d"),
            "not on the list of what it may call",
        ),
        (lambda h, t: h["modules"][1].update({"class": "torch.nn.CTCLoss"}), "whose code is not in the file"),
        (lambda h, t: node(h, "output").update(op="placeholder", target="y"), "does not end in one output"),
        (lambda h, t: h["modules"][0]["graph"].append(h["modules"][0]["graph"][-1]), "does not end in one output"),
        (lambda h, t: graph(h).insert(2, dict(graph(h)[1], name=graph(h)[0]["name"])), "has a name that another has"),
        (lambda h, t: reshaped(h, [2**32, 2**32]), "for more than 1099511627776 elements"),
        (lambda h, t: reshaped(h, [2**63]), "must be a whole number from"),
        (lambda h, t: h["modules"][0]["notes"]["dict"].update(qcore_runs_on="x"), "which is no attribute of a user's"),
        (lambda h, t: h["modules"][0]["notes"]["dict"].update(forward=1), "which is no attribute of a user's"),
        (lambda h, t: h["modules"][0]["notes"]["dict"].update(qcore_fixed={"tuple": [1]}), "it must be an object"),
        (lambda h, t: h["modules"].append({"path": "graph", "same_as": "c1"}), "something that every module has"),
        (lambda h, t: h["modules"].append({"path": "forward", "same_as": "c1"}), "something that every module has"),
        (lambda h, t: h["modules"].append({"path": "c1.itself", "same_as": "c1"}), "one holds itself"),
        (lambda h, t: h["modules"].append({"path": "more", "same_as": "nothing"}), "which is not there"),
        (lambda h, t: h["modules"].append(h["modules"][1]), "list of modules is corrupt at"),
        (lambda h, t: h["modules"].append({**h["modules"][1], "path": "a'b"}), "the path of a module"),
        (lambda h, t: h["modules"][1].update(extra=1), "which means nothing there"),
        (lambda h, t: h["modules"][1].update(training=1), "it must be true or false"),
        (lambda h, t: h["modules"][1]["arguments"]["dict"].update(stride="a"), "cannot be made: stride="),
        (lambda h, t: h["modules"][1]["arguments"]["dict"].update(stride=2**40), "more than all tensors"),
        (lambda h, t: h["modules"][1].update(buffers={"__class__": 1}), "a name without quotes"),
        (lambda h, t: h["modules"][1].update(buffers={"forward": {"tensor": "c1.weight"}}), "something else"),
        (lambda h, t: h.update(tied=[["c1.weight", "nothing"]]), "cannot be one"),
        (lambda h, t: h["state"].update(more={"float": "__import__('os')"}), "must be in ("),
        (lambda h, t: h["state"].update(more=deep(100)), "nested deeper than 64"),
        (lambda h, t: h["state"].update(more="a" * 2**17), "shorter than 65536"),
        (lambda h, t: h["report"].append(["a"]), "it must be a list of 8"),
        (lambda h, t: h.update(backend=3), "the header.backend is 3"),
        (lambda h, t: h.update(backend="x; y"), "backend"),
        (lambda h, t: an_input_called_self(h), "an input that has the name of the model"),
        (lambda h, t: graph(h)[0].update(cast=True), "is no cast of floats"),
        (lambda h, t: node(h, "call_method").update(cast=True), "is no cast of floats"),
        (lambda h, t: put(h, "__class__"), "writes to the view"),
        (lambda h, t: put(h, {"list": ["T"]}), "writes to the view"),
        (lambda h, t: put(h, "expand", 2**40, 2**40), "elements"),
        (lambda h, t: put(h, "T", out=1), "to change the sizes of"),
        (lambda h, t: node(h, "call_function").update(kwargs={"dict": {"out": {"node": "x"}}}), "change the sizes of"),
        (lambda h, t: fixed(h, 10**6, "x", 1), "its input 'x' is not at position"),
        (lambda h, t: fixed(h, 0, "x", {"range": [0, 1, 0]}), "a whole number other than 0"),
        (lambda h, t: fixed(h, 0, "x", {"bytes": "0g"}), "pairs of hexadecimal digits"),
        (lambda h, t: fixed(h, 0, "x", {"integer": "0x1"}), "beyond 64 bits"),
        (lambda h, t: fixed(h, 0, "x", {"complex": [{"float": "nan"}, 1.0]}), "a finite number"),
        (lambda h, t: h["modules"][0].update(example=[[[2], {"torch": "strided"}]]), "what is no dtype"),
        (
            lambda h, t: h["modules"][0]["constants"]["dict"].update(_graph={"tensor": next(iter(t))}),
            "has the name of something else",
        ),
        (lambda h, t: h["report"][0].__setitem__(0, "\ud800"), "a string of Unicode"),
        (lambda h, t: h["modules"].extend({"path": f"m{i}", "same_as": "c1"} for i in range(2**15)), "a list of 0 to"),
        (lambda h, t: h["modules"][1].update(attributes={"stride": 1}), "which has no attributes of yours"),
        (lambda h, t: h["modules"][1].update(lots(10**8)), "make more elements than all tensors of the file have"),
    ],
)
def test_a_header_that_lies_is_refused(saved, change, message):
    assert message in refusal(rewritten(saved, change))


def test_every_cut_of_a_file_is_refused(saved):
    data = saved.read_bytes()
    for length in [0, 1, 8, *range(20, len(data), len(data) // 40), len(data) - 1]:
        saved.write_bytes(data[:length])
        refusal(saved)


def test_a_header_with_a_name_twice_or_numbers_that_json_has_not_is_refused(saved):
    for old, new in (
        ('"schema":', '"backend":"x","schema":'),
        ('"axis":null', '"axis":NaN'),
        ('"axis":null', '"axis":1e999'),
    ):
        with safe_open(saved, "pt") as file:
            text = file.metadata()["qcore"]
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert old in text
        save_file(tensors, saved.with_suffix(".other"), {"qcore": text.replace(old, new, 1)})
        assert "its header is corrupt" in refusal(saved.with_suffix(".other"))


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
