"""Files that torch 2.13 wrote, and the results that it had, without needing torch's stack of that time."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import qcore
from qcore import compat
from qcore.compat.checkpoints import load
from tests.backends import USABLE
from tests.compat.checkpoints import models
from tests.compat.checkpoints.ours import FRESH, assert_same, inputs

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = load_file(GOLDEN / "expected.safetensors")
FILES = sorted(path.stem for path in GOLDEN.glob("*.pt"))
CLASSES = (models.ConvNet, models.Speech, models.Tables)


def model_of(file: str) -> str:
    """The name of the model in a file."""
    return max((name for name in FRESH if file.startswith(name)), key=len)


def run(model, name):
    with torch.no_grad():
        return model(inputs(name))


@pytest.mark.parametrize("file", [file for file in FILES if not file.endswith("_module")])
def test_a_state_dict_gives_a_converted_model_the_results_of_torch(file):
    name = model_of(file)
    fresh = FRESH[name]()
    other = run(fresh, name)
    state = load(GOLDEN / f"{file}.pt")
    assert str(fresh.load_state_dict(state)) == "<All keys matched successfully>"
    assert_same(name, run(fresh, name), EXPECTED[name])
    assert not torch.equal(other, EXPECTED[name])


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("file", [file for file in FILES if file.endswith("_module")])
def test_a_pickled_module_comes_back_as_ours(file, backend):
    name = model_of(file)
    model = load(GOLDEN / f"{file}.pt", allow=CLASSES)
    assert_same(name, run(model, name), EXPECTED[name])
    assert len(qcore.report(model).quantized_rows) >= 2
    for part in model.modules():
        part.backend = backend
    assert_same(name, run(copy.deepcopy(model), name), EXPECTED[name])


def test_a_file_of_another_model_is_told():
    with pytest.raises(qcore.ArgumentError, match="does not fit the model; was that prepared and converted alike"):
        load(GOLDEN / "static.pt", FRESH["dynamic"]())


def test_a_module_goes_into_a_model_too():
    model = load(GOLDEN / "static_module.pt", FRESH["static"](), allow=CLASSES)
    assert torch.equal(run(model, "static"), EXPECTED["static"])


def test_weights_are_quantized_tensors_of_ours():
    state = load(GOLDEN / "static.pt")
    weight = state["first.weight"]
    assert isinstance(weight, qcore.QTensor)
    assert (weight.dtype, weight.q_per_channel_axis(), weight.shape) == (qcore.qint8, 0, (8, 3, 3, 3))
    table = load(GOLDEN / "embeddings_4bit.pt")["bags._packed_params._packed_weight"]
    assert (table.dtype, table.shape, table.qscheme()) == (
        qcore.quint4x2,
        (10, 16),
        qcore.per_channel_affine_float_qparams,
    )
    assert int(table.int_repr().max()) == 15


@pytest.fixture
def torch_load():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other tests have imported the originals before
        with compat.installed():
            yield torch.load


@pytest.mark.parametrize("file", [name for name in FILES if "module" not in name])
def test_torch_load_reads_state_dicts_where_installed(file, torch_load):
    expected = load(GOLDEN / f"{file}.pt")
    with open(GOLDEN / f"{file}.pt", "rb") as opened:
        for found in (torch_load(GOLDEN / f"{file}.pt"), torch_load(opened, map_location="cpu", weights_only=True)):
            assert found.keys() == expected.keys()
            fresh = FRESH[model_of(file)]()
            fresh.load_state_dict(found)


def test_torch_load_makes_modules_of_classes_it_can_import(torch_load):
    model = torch_load(GOLDEN / "static_module.pt", weights_only=False)
    with torch.no_grad():
        assert torch.equal(model(inputs("static")), EXPECTED["static"])
    with pytest.raises(qcore.ArgumentError, match=r"names tests.*\.ConvNet.*not on the list"):
        torch_load(GOLDEN / "static_module.pt")


def test_torch_load_leaves_other_files_to_torch(torch_load, tmp_path):
    kept = {"weight": torch.rand(3), "quantized": qcore.quantize_per_tensor(torch.rand(3), 0.1, 0, qcore.quint8)}
    for zipped in (True, False):
        torch.save(kept, tmp_path / "plain.pt", _use_new_zipfile_serialization=zipped)
        found = torch_load(tmp_path / "plain.pt", map_location="cpu")
        assert torch.equal(found["weight"], kept["weight"])
        assert torch.equal(found["quantized"].int_repr(), kept["quantized"].int_repr())
    (tmp_path / "no.pt").write_bytes(b"hello")
    with pytest.raises(KeyError):  # which is what torch says of it
        torch_load(tmp_path / "no.pt")


def test_torch_load_has_quantized_tensors_on_the_cpu_only(torch_load):
    with pytest.raises(qcore.ArgumentError, match="map_location='cuda': quantized tensors are on the CPU"):
        torch_load(GOLDEN / "static.pt", map_location="cuda")
