"""`qcore explain` tells node by node who runs a model, and why."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore
from qcore.cli import main
from qcore.explain import explained, lines, load_model

pytest.importorskip("qcore_reference", reason="somebody has to run the models")

MODELS = """
import torch
from torch import nn
import qcore

def traced():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.ReLU()).eval(), (torch.randn(1, 3, 8, 8),)

def stubs():
    return nn.Sequential(qcore.QuantStub(), nn.Conv2d(3, 4, 3), qcore.DeQuantStub()).eval()

def plain():
    return nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1)).eval()

def number():
    return 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "some_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def cells(text: str, node: str) -> str:
    return next(line for line in text.splitlines() if line.split(" ")[0] == node)


@pytest.mark.parametrize(
    ("name", "node", "operator"),
    [("traced", "0", "conv"), ("stubs", "1", "conv"), ("plain", "0", "linear_dynamic")],
)
def test_each_kind_of_model_is_told_node_by_node(folder, capsys, name, node, operator):
    assert main(["explain", f"some_models:{name}", "--backend", "reference"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["node", "type", "outcome", "runs", "on", "operator", "why"]
    line = cells(out, node)
    assert "reference" in line and operator in line and "first of the chosen that declares it" in line
    assert "backend reference:" in out and "0 of them by a fallback" in out


def test_every_line_has_a_reason(folder):
    for name in ("traced", "stubs", "plain"):
        model, inputs = load_model(f"some_models:{name}")
        told = list(lines(explained(model, inputs, None)))
        assert told and all(line[-1] for line in told)


def test_a_quantized_model_is_told_as_it_is_and_for_another_backend(folder, capsys):
    quantized = qcore.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)).eval(), backend="reference")
    qcore.save(quantized, folder / "model.safetensors")
    assert main(["explain", "model.safetensors"]) == 0
    assert cells(capsys.readouterr().out, "0").split()[1:4] == ["Linear", "quantized", "reference"]
    assert explained(quantized, None, "reference", "error").backend == "reference; fallback=error"
    assert quantized[0].backend == "reference"
    with pytest.raises(qcore.BackendError, match="'nobody' is not installed"):
        explained(quantized, None, "nobody")


class Hostile:
    """What writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("name", ["model.pt", "model.qcore"])
def test_no_file_is_unpickled(name, is_zip, folder, capsys):
    torch.save(Hostile(folder / "ran"), folder / name, _use_new_zipfile_serialization=is_zip)
    assert main(["explain", name]) == 2
    assert (
        f"'{name}' cannot be loaded: it is no file of qcore.save, but one like torch.save's" in capsys.readouterr().err
    )
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("no_file.pt", "'no_file.pt' is no file"),
        ("no_module:f", "'no_module:f' cannot be found: No module named 'no_module'"),
        ("some_models:nothing", "cannot be found: .* has no attribute 'nothing'"),
        ("some_models:number", "gives a int; it must be a torch.nn.Module"),
    ],
)
def test_what_is_no_model_is_refused_in_words(folder, capsys, where, message):
    assert main(["explain", where]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qcore: ")
    with pytest.raises(qcore.QcoreError, match=message):
        load_model(where)
