"""Files written by torch here and now, in both containers: the loaded models have the results of torch's."""

from __future__ import annotations

import pytest
import torch

import qcore
from qcore.compat.checkpoints import load
from tests.compat.checkpoints import models, torch_files
from tests.compat.checkpoints.ours import FRESH, assert_same, inputs
from tests.fx import nets
from tests.fx.oracle import ours_converted, torch_converted
from tests.oracle import engine, missing, vectorized

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(not vectorized(), reason="torch does not use its vector code here"),
]

THEIRS = {
    "static": lambda: torch_files.static(True),
    "static_per_tensor": lambda: torch_files.static(False),
    "dynamic": lambda: torch_files.dynamic(torch.qint8),
    "dynamic_float16": lambda: torch_files.dynamic(torch.float16),
    "embeddings": lambda: torch_files.embeddings(8),
    "embeddings_4bit": lambda: torch_files.embeddings(4),
}
CLASSES = (models.ConvNet, models.Speech, models.Tables)


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    def write(value):
        path = tmp_path / "file.pt"
        torch.save(value, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return write


@pytest.mark.parametrize("name", THEIRS)
def test_state_dicts_and_modules(name, save):
    with engine():
        theirs = THEIRS[name]()
    expected = torch_files.run(theirs, inputs(name))
    from_state = load(save(theirs.state_dict()), FRESH[name]())
    from_module = load(save(theirs), allow=CLASSES)
    for model in (from_state, from_module):
        assert_same(name, torch_files.run(model, inputs(name)), expected)


@pytest.mark.parametrize("name", ["static", "dynamic", "embeddings"])
def test_scripted_archives(name, tmp_path):
    with engine():
        theirs = THEIRS[name]()
        torch.jit.save(torch.jit.script(theirs), tmp_path / "file.pt")
    model = load(tmp_path / "file.pt", FRESH[name]())
    assert_same(name, torch_files.run(model, inputs(name)), torch_files.run(theirs, inputs(name)))


def graph_models(net, kind):
    """torch's converted model, ours, calibrated with other data, an input and torch's result."""
    if net[0].isupper():
        model, batches = nets.made(getattr(nets, net)), nets.batches(getattr(nets, net))
    else:
        model, batches = nets.torchvision_model(net)
    _, theirs = torch_converted(model, kind, batches)
    _, ours = ours_converted(model, kind, [tuple(2 * each for each in batch) for batch in batches])
    return theirs, ours, batches[0], torch_files.run(theirs, *batches[0])


@pytest.mark.parametrize("net", ["Residual", "mobilenet_v2"])
def test_state_dicts_of_graph_models(net, tmp_path):
    theirs, ours, inputs, expected = graph_models(net, "per_channel")
    torch.save(theirs.state_dict(), tmp_path / "file.pt")
    load(tmp_path / "file.pt", ours)
    assert torch.equal(torch_files.run(ours, *inputs), expected)


@pytest.mark.parametrize("kind", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("net", ["Residual", "Gated"])
def test_pickled_graph_models(net, kind, save):
    theirs, ours, inputs, expected = graph_models(net, kind)
    load(save(theirs), ours)
    torch.testing.assert_close(torch_files.run(ours, *inputs), expected, rtol=0, atol=0)


def test_the_scale_that_torch_leaves_out_of_state_dicts_is_asked_for(save):
    theirs, ours, _, _ = graph_models("Gated", "per_channel")
    with pytest.raises(qcore.ArgumentError, match=r"Missing key\(s\) in state_dict: .elu.scale"):
        load(save(theirs.state_dict()), ours)


def test_a_graph_prepared_in_another_way_is_told(save):
    theirs, _, _, _ = graph_models("Residual", "per_channel")
    _, other, _, _ = graph_models("Gated", "per_channel")
    with pytest.raises(qcore.ArgumentError, match="they were not prepared alike"):
        load(save(theirs.state_dict()), other)
