"""Graph mode as the tutorials show it."""

import copy
from itertools import pairwise

import torch
from torch import nn


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = None
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x if self.down is None else self.down(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """ResNet-18's layout, narrow."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        widths = (8, 8, 8, 12, 12, 16, 16, 20, 20)
        self.blocks = nn.Sequential(*(Block(a, b, 1 if a == b else 2) for a, b in pairwise(widths)))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(20, 10)

    def forward(self, x):
        return self.fc(torch.flatten(self.avgpool(self.blocks(self.stem(x))), 1))


def _made():
    model = ResNet().train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 32, 32))
    return model.eval()


def resnet_static():
    """Post-training static quantization, by the engine's mapping; one batch, as histograms of more are added up better
    than torch does."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, fuse_fx, prepare_fx

    model, data = _made(), [torch.randn(4, 3, 32, 32)]
    torch.backends.quantized.engine = "fbgemm"
    prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping("fbgemm"), (data[0],))
    with torch.no_grad():
        for batch in data:
            prepared(batch)
    quantized = convert_fx(prepared)
    fused = fuse_fx(copy.deepcopy(model))
    return {"logits": quantized(data[0]), "close:fused": fused(data[0])}


def resnet_by_hand():
    """A QConfigMapping by type and name, given as one object; parts stay float."""
    from torch.ao.quantization import QConfigMapping, default_per_channel_qconfig
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    model, data = _made(), [torch.randn(2, 3, 32, 32) for _ in range(2)]
    mapping = (
        QConfigMapping()
        .set_global(default_per_channel_qconfig)
        .set_object_type(nn.Linear, None)
        .set_module_name("stem", None)
    )
    prepared = prepare_fx(model, mapping, example_inputs=(data[0],))
    with torch.no_grad():
        for batch in data:
            prepared(batch)
    quantized = convert_fx(prepared)
    assert type(quantized.fc) is nn.Linear
    return {"close:logits": quantized(data[0])}


def resnet_training():
    """Quantization-aware training in graph mode, and a dict of rules as old scripts have it."""
    from torch.ao.quantization import quantize_fx

    model = ResNet().train()
    qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    data = torch.randn(4, 3, 32, 32)
    prepared = quantize_fx.prepare_qat_fx(model, {"": qconfig}, (data,))
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        prepared(data).square().mean().backward()
        optimizer.step()
    quantized = quantize_fx.convert_fx(prepared.eval())
    return {"logits": quantized(data)}


def custom_config():
    """What search and training frameworks import: BackendConfig, PrepareCustomConfig, fixed parameters."""
    from torch.ao.quantization import QConfig, QConfigMapping
    from torch.ao.quantization.backend_config import BackendConfig, DTypeConfig, get_native_backend_config
    from torch.ao.quantization.fake_quantize import FakeQuantizeBase, FixedQParamsFakeQuantize
    from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
    from torch.ao.quantization.observer import (
        UniformQuantizationObserverBase,
        default_observer,
        default_weight_observer,
    )
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else self.fc(-x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.last = nn.Linear(6, 6), Inner(), nn.Linear(6, 3)

        def forward(self, x):
            return torch.relu(self.last(self.inner(self.first(x))))

    assert issubclass(FixedQParamsFakeQuantize, FakeQuantizeBase) and UniformQuantizationObserverBase is not None
    assert isinstance(get_native_backend_config(), BackendConfig)
    assert DTypeConfig(input_dtype=torch.quint8).input_dtype == torch.quint8
    x = torch.randn(4, 6)
    mapping = (
        QConfigMapping().set_global(QConfig(default_observer, default_weight_observer)).set_module_name("inner", None)
    )
    config = PrepareCustomConfig().set_non_traceable_module_names(["inner"])
    model = Outer().eval()
    prepared = prepare_fx(model, mapping, (x,), prepare_custom_config=config)
    prepared(x)
    quantized = convert_fx(prepared)
    assert (quantized(x) - model(x)).abs().max() < 0.05
    return {"inner": type(quantized.inner.fc).__name__}
