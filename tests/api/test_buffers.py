"""Statistics in memory that cannot be resized: shared between processes, lent by NumPy, mapped from a file."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import qcore
from qcore import api
from qcore.api.fake_quantize import default_fused_per_channel_wt_fake_quant, default_per_channel_weight_fake_quant
from qcore.api.observer import MovingAveragePerChannelMinMaxObserver, PerChannelMinMaxObserver

MAKE = (
    PerChannelMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    default_per_channel_weight_fake_quant,
    default_fused_per_channel_wt_fake_quant,
)


def lent(module, tmp_path):
    state = {key: torch.from_numpy(value.numpy().copy()) for key, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def mapped(module, tmp_path):
    torch.save(module.state_dict(), tmp_path / "state.pt")
    module.load_state_dict(torch.load(tmp_path / "state.pt", mmap=True), assign=True)


def shared(module, tmp_path):
    module.share_memory()


@pytest.mark.parametrize("place", [lent, mapped, shared])
@pytest.mark.parametrize("make", MAKE)
def test_observing_goes_on(make, place, tmp_path):
    x = torch.randn(3, 4)
    module = make()
    place(module, tmp_path)
    expected = make()
    module(x), expected(x)
    for ours, theirs in zip(module.calculate_qparams(), expected.calculate_qparams(), strict=True):
        assert torch.equal(ours, theirs)
    copied = copy.deepcopy(module)
    copied.load_state_dict(expected.state_dict())
    assert torch.equal(copied(x), expected(x))


def test_a_model_in_shared_memory_trains():
    model = qcore.prepare_qat(api.QuantWrapper(nn.Sequential(nn.Linear(4, 3))).train(), backend="reference")
    model.share_memory()
    model(torch.randn(2, 4)).sum().backward()
    assert all(each.grad is not None for each in model.parameters())
