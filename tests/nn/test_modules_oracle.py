"""Each module against torch's original, made from the same float module with the same statistics: the same bits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from qcore.api import qconfig as qconfigs
from qcore.nn import intrinsic as nni
from qcore.nn.intrinsic import FusedModule
from tests import oracle
from tests.nn.every_module import DYNAMIC, STATIC, swapped, tensors

LEFT_OUT = {
    nni.LinearBn1d: "torch has no static mapping for it",
    nni.ConvBn1d: "torch has no static mapping for it",
    nni.ConvBn2d: "torch has no static mapping for it",
    nni.ConvBn3d: "torch has no static mapping for it",
    nni.ConvBnReLU1d: "torch has no static mapping for it",
    nni.ConvBnReLU2d: "torch has no static mapping for it",
    nni.ConvBnReLU3d: "torch has no static mapping for it",
}

DYNAMIC_PRESETS = ("default_dynamic_qconfig", "per_channel_dynamic_qconfig", "float16_dynamic_qconfig")


def original(module, stage, preset):
    """torch's quantized module for a copy of the float one."""
    import torch.ao.nn.intrinsic as legacy_nni
    import torch.ao.quantization as legacy
    from torch.ao.quantization import quantization_mappings as legacy_mappings

    module = copy.deepcopy(module)
    kind = type(module)
    if isinstance(module, FusedModule):
        module = getattr(legacy_nni, kind.__name__)(*module)
    elif kind.__name__ in ("QuantStub", "DeQuantStub"):
        module = getattr(legacy, kind.__name__)()
    for each in module.modules():
        each.qconfig = getattr(legacy, preset)
    observer = legacy.MinMaxObserver(dtype=torch.quint8)
    observer(torch.tensor([-1.7, 2.9]))
    module.activation_post_process = observer
    mapping = getattr(legacy_mappings, f"DEFAULT_{stage.upper()}_QUANT_MODULE_MAPPINGS")
    return mapping[type(module)].from_float(module).eval()


def as_theirs(value):
    return oracle.to_torch(value.int_repr(), value.qparams) if hasattr(value, "qparams") else value


def compare(module, inputs, stage, preset):
    ours = swapped(copy.deepcopy(module), stage, getattr(qconfigs, preset))
    with oracle.engine(), torch.no_grad():
        theirs = original(module, stage, preset)
        for values in inputs:
            expected = tensors(theirs(*map(as_theirs, values)))
            yield tensors(ours(*values)), expected


@pytest.mark.parametrize("preset", ["default_qconfig", "default_per_channel_qconfig"])
@pytest.mark.parametrize("kind", [kind for kind in STATIC if kind not in LEFT_OUT])
def test_static(kind, preset):
    make, draw = STATIC[kind]
    if issubclass(kind, nn.Embedding | nn.EmbeddingBag):
        preset = "float_qparams_weight_only_qconfig"
    elif kind.__name__.startswith("ConvTranspose"):
        preset = "default_qconfig"  # torch refuses per-channel weights here
    for seed in range(5):
        torch.manual_seed(seed)
        module = make().eval()
        for found, expected in compare(module, [draw() for _ in range(4)], "static", preset):
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True)), seed


@pytest.mark.parametrize("preset", DYNAMIC_PRESETS)
@pytest.mark.parametrize("kind", [kind for kind in DYNAMIC if not issubclass(kind, nn.Embedding | nn.EmbeddingBag)])
def test_dynamic(kind, preset):
    recurrent = issubclass(kind, nn.RNNBase | nn.RNNCellBase)
    if issubclass(kind, nn.RNNCellBase) and preset == "float16_dynamic_qconfig":
        preset = "default_dynamic_qconfig"
    make, draw = DYNAMIC[kind]
    for seed in range(5):
        torch.manual_seed(seed)
        module = make().eval()
        for found, expected in compare(module, [draw() for _ in range(4)], "dynamic", preset):
            for mine, its in zip(found, expected, strict=True):
                if recurrent:
                    # gates are float functions, which torch computes by vector instructions of each CPU
                    assert torch.allclose(mine, its, rtol=0, atol=1e-6)
                else:
                    assert torch.equal(mine, its), seed
