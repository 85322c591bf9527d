"""Modules of quantization-aware training on their own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import qcore
from qcore.api import qconfig as qconfigs
from qcore.api.fake_quantize import FakeQuantize
from qcore.nn import intrinsic as nni
from qcore.nn import qat as nnqat
from qcore.nn.intrinsic import qat as nniqat
from qcore.nn.qat import dynamic as nnqatd

QCONFIGS = {
    "per tensor": "default_qat_qconfig",
    "fused": "default_qat_qconfig_v2",
    "per channel": "per channel",
}


def ours_config(name):
    if name == "per channel":
        from qcore.api import fake_quantize as fq

        return qcore.QConfig(fq.default_fused_act_fake_quant, fq.default_per_channel_weight_fake_quant)
    return getattr(qconfigs, QCONFIGS[name])


def conv(name, bias):
    kind = getattr(nn, ("ConvTranspose" if "Transpose" in name else "Conv") + name[-2:])
    return kind(4, 6, 3, stride=2, padding=1, groups=2, bias=bias)


def float_parts(name, bias=True):
    """The float layers that a fused class is made of."""
    if name.startswith("Linear"):
        parts = [nn.Linear(5, 7, bias=bias)]
        parts += [nn.BatchNorm1d(7)] if "Bn" in name else []
    else:
        rank = int(name[-2])
        parts = [conv(name, bias)]
        parts += [getattr(nn, f"BatchNorm{rank}d")(6, eps=1e-3, momentum=0.2)] if "Bn" in name else []
    return parts + ([nn.ReLU()] if "ReLU" in name else [])


def example(name):
    return torch.randn(8, 5) if name.startswith("Linear") else torch.randn(4, 4, *(7, 6, 5)[: int(name[-2])])


FUSED = nniqat.__all__[:-2]
PLAIN = ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


def made(name, qconfig, bias, fused, qat, intrinsic_qat):
    """The module for training, from float parts drawn with a fixed seed."""
    torch.manual_seed(0)
    parts = float_parts(name, bias)
    for part in parts:
        part.qconfig = qconfig
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.normal_(part.bias)
    if name in PLAIN:
        return getattr(qat, name).from_float(parts[0])
    float_module = getattr(fused, name)(*parts)
    float_module.qconfig = qconfig
    return getattr(intrinsic_qat, name).from_float(float_module)


def built(name, qconfig, bias=True):
    return made(name, qconfig, bias, nni, nnqat, nniqat)


@pytest.mark.parametrize("name", ["ConvBn2d", "LinearBn1d"])
def test_the_former_layout_of_batch_norm_loads(name):
    module = built(name, ours_config("fused"))
    module(example(name))
    former = module.state_dict()
    for new, old in {"bn.weight": "gamma", "bn.bias": "beta"}.items():
        former[old] = former.pop(new)
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        former[key] = former.pop(f"bn.{key}")
    former._metadata[""]["version"] = 1
    fresh = built(name, ours_config("fused"))
    fresh.load_state_dict(former)
    x = example(name)
    assert torch.equal(fresh.eval()(x), module.eval()(x))


@pytest.mark.parametrize("name", [*FUSED, *PLAIN])
def test_copies_pickles_and_files_compute_the_same(name, tmp_path):
    module = built(name, ours_config("per channel"))
    module(example(name))
    module.weight_fake_quant.disable_observer()
    x = example(name)
    expected = module.eval()(x)
    torch.save(module.state_dict(), tmp_path / "state")
    loaded = built(name, ours_config("per channel")).eval()
    loaded.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize("name", [*FUSED, *PLAIN])
def test_to_float_computes_the_same_without_rounding(name):
    module = built(name, ours_config("fused"))
    module(example(name))
    module.eval().weight_fake_quant.disable_fake_quant()
    x = example(name)
    float_module = module.to_float()
    torch.testing.assert_close(float_module(x), module(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in float_module.modules())
    assert all(
        parameter.data_ptr() != own.data_ptr() for parameter in float_module.parameters() for own in module.parameters()
    )


@pytest.mark.parametrize("name", [name for name in FUSED if "Bn" in name])
def test_both_paths_compute_the_same(name):
    x = example(name)
    results = []
    for slow in (False, True):
        module = built(name, ours_config("fused"))
        module.weight_fake_quant.disable_fake_quant()
        module._enable_slow_path_for_better_numerical_stability = slow
        results += [(module(x), module.bn.running_mean, module.bn.running_var), (module.eval()(x),)]
    for fast, exact in zip(results[:2], results[2:], strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-4, atol=1e-5)


def test_gradients_of_gradients_are_there():
    torch.manual_seed(4)
    layer = nniqat.ConvBn2d(2, 3, 3, qconfig=qconfigs.default_qat_qconfig).train()
    images = torch.randn(2, 2, 5, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(images).pow(2).sum(), images, create_graph=True)
    gradient.pow(2).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


def test_the_exact_path_holds_for_gamma_zero():
    module = built("ConvBn2d", ours_config("fused"))
    module._enable_slow_path_for_better_numerical_stability = True
    with torch.no_grad():
        module.bn.weight.zero_()
    expected = module.bn.bias.reshape(1, -1, 1, 1)
    result = module(example("ConvBn2d"))
    torch.testing.assert_close(result, expected.expand_as(result))


@pytest.mark.parametrize("name", ["ConvBnReLU2d", "LinearBn1d"])
def test_frozen_statistics_stay(name):
    module = nn.Sequential(built(name, ours_config("fused")))
    module.apply(nniqat.freeze_bn_stats)
    module.train()
    before = module[0].bn.running_mean.clone()
    module(example(name))
    assert torch.equal(module[0].bn.running_mean, before)
    module.apply(nniqat.update_bn_stats)
    module(example(name))
    assert not torch.equal(module[0].bn.running_mean, before)
    module[0].reset_running_stats()
    assert not module[0].bn.running_mean.any()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("config", QCONFIGS)
def test_transposed_convolutions_train_with_a_rounded_weight(rank, config):
    name = f"ConvTranspose{rank}d"
    module, x = built(name, ours_config(config)), example(name).requires_grad_()
    result = module(x)
    direction = torch.randn_like(result)
    (result * direction).sum().backward()
    fake = module.weight_fake_quant
    shape = (1, -1, *(1,) * rank)
    assert fake.scale.numel() == (3 if fake.is_per_channel else 1)  # as many as channels of a group
    fake.disable_observer()
    rounded = module.quantized_weight().detach()
    steps = rounded / (fake.scale.reshape(shape) if fake.is_per_channel else fake.scale)
    torch.testing.assert_close(steps, torch.round(steps), rtol=0, atol=1e-3)
    assert ((rounded - module.weight).abs() <= fake.scale.max() * 0.51).all()
    weight, other = rounded.requires_grad_(), x.detach().clone().requires_grad_()
    convolve = getattr(nn.functional, f"conv_transpose{rank}d")
    expected = convolve(other, weight, module.bias, stride=2, padding=1, groups=2)
    (expected * direction).sum().backward()
    inside = steps.abs() < 126.5  # the ends may have been clamped, and then have no gradient
    gradients = module.weight.grad[inside], weight.grad[inside]
    for mine, wanted in ((result, expected), gradients, (x.grad, other.grad)):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)
    size = [2 * n for n in x.shape[2:]]
    assert module(x, output_size=size).shape[2:] == torch.Size(size)


def test_bad_arguments_are_refused():
    config = ours_config("fused")
    with pytest.raises(qcore.ArgumentError, match="qconfig=None; give"):
        nnqat.Linear(3, 4)
    with pytest.raises(qcore.ArgumentTypeError, match="takes a Conv2d; got a Linear"):
        nnqat.Conv2d.from_float(nn.Linear(3, 4))
    with pytest.raises(qcore.ArgumentError, match="qconfig=None; give"):
        nnqat.Conv2d.from_float(nn.Conv2d(3, 4, 1))
    with pytest.raises(qcore.ArgumentError, match="per_channel_affine_float_qparams"):
        nnqat.Embedding(3, 4, qconfig=config)
    with pytest.raises(qcore.ArgumentError, match="remembers former ones"):
        nnqatd.Linear(3, 4, qconfig=config)
    fused = nni.ConvBn2d(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False))
    fused.qconfig = config
    with pytest.raises(qcore.ArgumentError, match="no weight; it needs affine=True"):
        nniqat.ConvBn2d.from_float(fused)


def test_the_weight_fake_quant_is_the_qconfigs():
    module = built("ConvBn2d", ours_config("per channel"))
    assert isinstance(module.weight_fake_quant, FakeQuantize)
    assert module.weight_fake_quant.is_per_channel
