"""Models whose graphs run in ONNX Runtime, beside the same models on the exact reference."""

import copy

import pytest
import torch
from torch import nn

import qcore

plans = pytest.importorskip("qcore_onnxruntime.plan", reason="torch-qcore-onnxruntime is not installed here")


class Net(nn.Module):
    """Convolutions, a residual, pooling, a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = self.first(x)
        x = torch.relu(self.second(x) + x)
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    images = torch.randn(8, 3, 10, 10)
    prepared = qcore.prepare(Net().eval(), example_inputs=(images,), backend="reference")
    prepared(images)
    reference = qcore.convert_to_reference_fx(prepared)
    return qcore.lower_fx(copy.deepcopy(reference), "reference"), qcore.lower_fx(reference, "onnxruntime"), images


def test_the_graph_runs_in_one_session(models, monkeypatch):
    _, ours, images = models
    seen = []
    run = plans.Plan.__call__
    monkeypatch.setattr(plans.Plan, "__call__", lambda self, *inputs: seen.append(self) or run(self, *inputs))
    ours(images)
    assert len(seen) == 1
    assert len(seen[0].graph.nodes) >= 6


def test_results_are_within_the_declared_steps_at_any_batch_size(models):
    exact, ours, images = models
    for batch in (images, images[:3], images[:1]):
        steps = (exact(batch) - ours(batch)).abs() / exact.last.scale
        assert steps.max() <= 3.01  # a step of each of the roundings on the way
        assert (steps < 0.5).float().mean() > 0.8


def test_a_copy_and_a_state_dict_carry_over(models):
    _, ours, images = models
    twin = copy.deepcopy(ours)
    twin.load_state_dict(ours.state_dict())
    assert torch.equal(twin(images), ours(images))
