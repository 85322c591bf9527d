"""The eager flow against torch's own: same observers, data and weights -> the same bits and state dict keys."""

from __future__ import annotations

import warnings

import pytest
import torch

from qcore import api
from qcore.api import qconfig as qconfigs
from tests import oracle
from tests.api.eager_models import MODELS, Activations, twins
from tests.backends import USABLE

PRESETS = ("default_qconfig", "default_per_channel_qconfig")


def theirs(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.quantization as legacy
    return getattr(legacy, name)


def converted(kind, preset, seed, backend="reference"):
    """The model, converted by qcore and by torch, and inputs."""
    ours, other = twins(kind, seed)
    inputs = [torch.randn(16, *kind.SHAPE) for _ in range(3)]
    ours.qconfig = getattr(qconfigs, preset)
    ours = api.fuse_modules(ours, kind.FUSE) if kind.FUSE else ours
    ours = api.prepare(ours, backend=backend)
    with oracle.engine(), torch.no_grad():
        other.qconfig = theirs(preset)
        other = theirs("fuse_modules")(other, kind.FUSE) if kind.FUSE else other
        other = theirs("prepare")(other)
        for x in inputs:
            ours(x)
            other(x)
        # beyond what was seen, activations take more than 7 bits, and torch's sums may saturate
        beyond = [] if oracle.saturates() else [3 * torch.randn(16, *kind.SHAPE)]
        return api.convert(ours), theirs("convert")(other), [*inputs, *beyond]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("backend", USABLE)
def test_converted_model_gives_the_bits_of_torchs(backend, kind, preset, seed):
    ours, other, inputs = converted(kind, preset, seed, backend)
    for x in inputs:
        with oracle.engine(), torch.no_grad():
            expected = other(x)
        assert torch.equal(ours(x), expected)


@pytest.mark.parametrize("kind", MODELS)
def test_state_dict_has_torchs_keys_and_shapes(kind):
    ours, other, _ = converted(kind, "default_per_channel_qconfig", 0)
    with oracle.engine():
        expected = other.state_dict()
    found = ours.state_dict()
    added = {"elu.scale", "elu.zero_point"} if kind is Activations else set()  # torch loses these
    assert set(found) == set(expected) | added
    for key, value in expected.items():
        if key.endswith("_packed_params._packed_params"):
            with oracle.engine():
                assert torch.equal(found[key][0].int_repr(), value[0].int_repr())
            assert (found[key][1] is None) == (value[1] is None)
        elif isinstance(value, torch.Tensor):
            assert found[key].shape == value.shape, key
            if not value.is_quantized:
                assert torch.equal(found[key], value), key
        else:
            assert found[key] == value, key


@pytest.mark.parametrize("preset", ["default_dynamic_qconfig", "per_channel_dynamic_qconfig"])
@pytest.mark.parametrize("backend", USABLE)
def test_dynamic_linear_gives_the_bits_of_torchs(backend, preset):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(17, 33), torch.nn.ReLU(), torch.nn.Linear(33, 5, bias=False))
    ours = api.quantize_dynamic(model, {torch.nn.Linear: getattr(qconfigs, preset)}, backend=backend)
    for scale in (0.01, 1.0, 30.0):
        x = scale * torch.randn(6, 17)
        with oracle.engine():
            other = theirs("quantize_dynamic")(model, {torch.nn.Linear: theirs(preset)})
            expected = other(x)
        assert torch.equal(ours(x), expected)
    with oracle.engine():
        assert list(ours.state_dict()) == list(other.state_dict())


@pytest.mark.parametrize("training", [False, True])
def test_fuse_modules_gives_torchs_classes_and_numbers(training):
    for kind in MODELS:
        if not kind.FUSE:
            continue
        ours, other = twins(kind, 0)
        name = "fuse_modules_qat" if training else "fuse_modules"
        with oracle.engine():
            other = theirs(name)(other.train(training), kind.FUSE)
        ours = getattr(api, name)(ours.train(training), kind.FUSE)
        for (path, mine), (_, its) in zip(ours.named_modules(), other.named_modules(), strict=True):
            assert type(mine).__name__ == type(its).__name__, path
        for key, value in other.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
