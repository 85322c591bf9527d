"""Modules of quantization-aware training against torch's originals, over several training steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qcore.api import qconfig as qconfigs
from qcore.nn import qat as nnqat
from qcore.nn.qat import dynamic as nnqatd
from tests.nn.test_qat_modules import FUSED, PLAIN, QCONFIGS, built, example, made, ours_config


def torch_config(name):
    from torch.ao.quantization import fake_quantize as fq
    from torch.ao.quantization import qconfig

    if name == "per channel":
        return qconfig.QConfig(fq.default_fused_act_fake_quant, fq.default_per_channel_weight_fake_quant)
    return getattr(qconfig, QCONFIGS[name])


KNOWN_TO_TORCH = [name for name in (*FUSED, *PLAIN) if name not in ("ConvReLU1d", "Conv1d") and "Transpose" not in name]


@pytest.fixture
def torch_twin():
    """Makes torch's original with the same values."""
    pytest.importorskip("torch.ao.nn.intrinsic.qat", reason="torch's own modules are the oracle")
    import torch.ao.nn.intrinsic as their_nni
    import torch.ao.nn.intrinsic.qat as their_nniqat
    import torch.ao.nn.qat as their_nnqat

    return lambda name, qconfig, bias=True: made(name, qconfig, bias, their_nni, their_nnqat, their_nniqat)


def trained_steps(module, name, steps):
    """Results, gradients of the input and of all parameters, and buffers, at each training step and in eval mode."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    seen = {}
    for step in range(steps):
        if step == steps - 1 and hasattr(module, "freeze_bn_stats"):
            module.freeze_bn_stats()
        x = example(name).requires_grad_()
        optimizer.zero_grad()
        result = module(x)
        (result * torch.linspace(-1, 1, result.numel()).reshape(result.shape)).sum().backward()
        seen[f"{step} result"] = result.detach()
        seen[f"{step} input gradient"] = x.grad
        grads = ((key, parameter.grad) for key, parameter in module.named_parameters())
        seen |= {f"{step} gradient {key}": torch.zeros(()) if grad is None else grad for key, grad in grads}
        optimizer.step()
        buffers = module.named_buffers()
        seen |= {f"{step} {key}": value.clone() for key, value in buffers if not key.endswith(".eps")}
    seen["eval"] = module.eval()(example(name)).detach()
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("config", QCONFIGS)
@pytest.mark.parametrize("name", KNOWN_TO_TORCH)
def test_training_steps_equal_torchs(torch_twin, name, config, bias):
    ours = trained_steps(built(name, ours_config(config), bias), name, 4)
    theirs = trained_steps(torch_twin(name, torch_config(config), bias), name, 4)
    assert ours.keys() == theirs.keys()
    different = {key: (ours[key] - theirs[key]).abs().max() for key in ours if not torch.equal(ours[key], theirs[key])}
    assert not different


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", [name for name in FUSED if name.startswith("ConvBn")])
def test_the_exact_path_equals_torchs(torch_twin, name, bias):
    modules = built(name, ours_config("fused"), bias), torch_twin(name, torch_config("fused"), bias)
    for module in modules:
        module._enable_slow_path_for_better_numerical_stability = True
    ours, theirs = (trained_steps(module, name, 4) for module in modules)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-6, atol=1e-6, msg=key)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", KNOWN_TO_TORCH)
def test_the_keys_of_the_state_dict_are_torchs_and_theirs_loads(torch_twin, name, bias):
    theirs, ours = torch_twin(name, torch_config("fused"), bias), built(name, ours_config("fused"), bias)
    theirs(example(name))
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = example(name)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


TABLES = {
    "Embedding": (lambda: nn.Embedding(10, 8, padding_idx=2), (torch.tensor([[0, 3], [2, 9]]),)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(10, 8, mode="sum"), (torch.tensor([1, 5, 9]), torch.tensor([0, 2]))),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("config", ["default_embedding_qat_qconfig", "default_embedding_qat_qconfig_4bit"])
def test_embeddings_equal_torchs(name, config):
    their_qat = pytest.importorskip("torch.ao.nn.qat", reason="torch's own modules are the oracle")
    from torch.ao.quantization import qconfig as their_qconfigs

    make, inputs = TABLES[name]
    results = []
    for package, configs in ((nnqat, qconfigs), (their_qat, their_qconfigs)):
        torch.manual_seed(0)
        table = make()
        table.qconfig = getattr(configs, config)
        module = getattr(package, name).from_float(table)
        result = module(*inputs)
        (result * torch.arange(result.numel()).reshape(result.shape)).sum().backward()
        results.append((result, module.weight.grad))
    for mine, their in zip(*results, strict=True):
        assert torch.equal(mine, their)


def test_dynamic_linear_equals_torchs():
    theirs_module = pytest.importorskip("torch.ao.nn.qat.dynamic", reason="torch's own modules are the oracle")
    from torch.ao.quantization import qconfig as their_qconfigs

    results = []
    for kind, config in (
        (nnqatd.Linear, qconfigs.default_dynamic_qat_qconfig),
        (theirs_module.Linear, their_qconfigs.default_dynamic_qat_qconfig),
    ):
        torch.manual_seed(0)
        layer = nn.Linear(5, 7)
        layer.qconfig = config
        results.append(kind.from_float(layer)(torch.randn(3, 5)))
    assert torch.equal(*results)
