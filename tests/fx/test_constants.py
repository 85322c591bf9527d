"""Tensors of the model as operands: quantized once, when the model is converted."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import qcore
from tests.fx.test_inplace import QCONFIG


class Operands(nn.Module):
    """Buffers, parameters and tensors made in forward, as operands; one is read twice, one in part; (8, 4)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.fc = nn.Linear(4, 4)
        self.register_buffer("places", torch.randn(16, 4))
        self.scale, self.table = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4, 6))

    def forward(self, x):
        y = (self.fc(x) + self.places[: x.size(0)]) * self.scale
        y = torch.cat([y, self.scale.expand(x.size(0), 4)], 1)
        return (self.table.t() @ y[:, :4].t()) * torch.tensor([2.0])


X = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


def converted(seed=0, **options):
    model = Operands(seed).eval()
    prepared = qcore.prepare_fx(model, QCONFIG, (X,), **options)
    prepared(X)
    return model, prepared, qcore.convert_fx(prepared)


@torch.no_grad()
def test_constants_are_quantized_when_the_model_is_converted():
    model, prepared, found = converted()
    assert found.code.count("quantize(") == 2  # of the input, and its dequantize at the end
    assert not {"places", "scale", "table"} & set(found.state_dict())
    exact = model(X)
    assert (found(X) - exact).square().sum() < 0.001 * exact.square().sum()
    reference = qcore.convert_to_reference_fx(prepared)
    assert "places" in reference.state_dict()
    assert torch.equal(qcore.lower_fx(reference, "reference")(X), found(X))
    with qcore.on_modules():
        assert torch.equal(found(X), found(X[:8]))
    assert found(X[:3]).shape == (6, 3)


def test_copies_files_and_state_dicts_hold_the_integers(tmp_path):
    _, _, found = converted()
    expected = found(X)
    qcore.save(found, tmp_path / "model.qcore")
    _, _, other = converted(seed=5)
    other.load_state_dict(found.state_dict())
    loaded = qcore.load(tmp_path / "model.qcore", backend="reference")
    for model in (copy.deepcopy(found), pickle.loads(pickle.dumps(found)), other, loaded):
        assert torch.equal(model(X), expected)


def test_a_value_of_another_shape_is_refused():
    _, _, found = converted()
    constant = found.get_submodule("places_quantized")
    for wrong in (torch.zeros(16, 4), qcore.quantize_per_tensor(torch.zeros(3), 1.0, 0, qcore.quint8)):
        with pytest.raises(qcore.ArgumentError, match=r"'places_quantized'.*must be a tensor of.*\(16, 4\)"):
            constant.value = wrong
    assert torch.equal(found(X), found(X))
