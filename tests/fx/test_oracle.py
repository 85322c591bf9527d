"""Graph mode beside torch's own: the same observers find the same scales, and the results are equal to the bit."""

from __future__ import annotations

import pytest
import torch

import qcore
from qcore.api.observer import MinMaxObserver, default_per_channel_weight_observer
from tests.fx import nets
from tests.fx.oracle import ours_converted, scales, torch_converted
from tests.fx.qconfigs import OURS
from tests.oracle import engine, missing, vectorized

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(not vectorized(), reason="torch does not use its vector code here"),
]


def results(model, batches):
    with torch.no_grad():
        found = [model(*batch) for batch in batches]
    return [each for result in found for each in (result if isinstance(result, tuple | list) else (result,))]


def assert_equal_to_torch(model, kind, batches):
    _, ours = ours_converted(model, kind, batches)
    _, theirs = torch_converted(model, kind, batches)
    with engine():
        expected = results(theirs, batches)
    for mine, other in zip(results(ours, batches), expected, strict=True):
        assert torch.equal(mine, other)
    return ours, theirs


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("model", [nets.Residual, nets.Gated], ids=lambda model: model.__name__)
def test_results_are_those_of_torch(model, kind):
    ours, theirs = assert_equal_to_torch(nets.made(model), kind, nets.batches(model))
    assert scales(ours) == scales(theirs)


@pytest.mark.parametrize("kind", OURS)
def test_observers_see_what_those_of_torch_see(kind):
    model, batches = nets.made(nets.Residual), nets.batches(nets.Residual)
    ours, _ = ours_converted(model, kind, batches)
    theirs, _ = torch_converted(model, kind, batches)

    def seen(prepared):
        """Ranges by the node before each observer."""
        found = {}
        for node in prepared.graph.nodes:
            if node.op == "call_module" and "activation_post_process" in node.target:
                observer = prepared.get_submodule(node.target)
                found[node.args[0].name] = (float(observer.min_val), float(observer.max_val))
        return found

    mine, other = seen(ours), seen(theirs)
    mine.pop("drop", None)
    other.pop("drop", None)  # torch observes dropout on its own, and then takes its input's scale
    assert list(mine.values()) == list(other.values()) and len(mine) > 10


@pytest.mark.parametrize("kind", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torchvision_nets_are_those_of_torch(name, kind):
    model, batches = nets.torchvision_model(name)
    ours, _ = assert_equal_to_torch(model, kind, batches)
    assert qcore.report(ours).float_rows == ()


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_small", "googlenet"])
def test_more_torchvision_nets_are_those_of_torch(name):
    model, batches = nets.torchvision_model(name)
    ours, _ = assert_equal_to_torch(model, "per_channel", batches)
    assert qcore.report(ours).float_rows == ()


def test_shufflenet_shares_scales_through_chunk_and_stays_close_to_float():
    # torch goes through float at each chunk, and so finds other scales
    model, batches = nets.torchvision_model("shufflenet_v2_x0_5")
    prepared = qcore.prepare_fx(model, qcore.QConfig(MinMaxObserver, default_per_channel_weight_observer), batches[0])
    results(prepared, batches)
    ours = qcore.convert_fx(prepared)
    assert qcore.report(ours).float_rows == ()
    exact, found = torch.cat(results(model, batches)), torch.cat(results(ours, batches))
    assert (found - exact).square().sum() <= 1e-4 * exact.square().sum()
