"""The eager flow as the tutorials show it: stubs, fusing, calibrating, converting, and training."""

import torch
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub


class ConvBNReLU(nn.Sequential):
    """A convolution with its batch norm and ReLU."""

    def __init__(self, inputs, outputs, kernel=3, stride=1, groups=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.1),
            nn.ReLU(inplace=False),
        )


class InvertedResidual(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            ConvBNReLU(inputs, hidden, 1),
            ConvBNReLU(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.1),
        )
        self.skip_add = nn.quantized.FloatFunctional()

    def forward(self, x):
        return self.skip_add.add(x, self.conv(x)) if self.residual else self.conv(x)


class MobileNet(nn.Module):
    """A small MobileNetV2 with stubs."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            ConvBNReLU(3, 8, stride=2),
            InvertedResidual(8, 8, 1, 2),
            InvertedResidual(8, 12, 2, 3),
            InvertedResidual(12, 12, 1, 3),
            ConvBNReLU(12, 32, 1),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10))
        self.quant, self.dequant = QuantStub(), DeQuantStub()

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(self.features(self.quant(x)), (1, 1))
        return self.dequant(self.classifier(torch.flatten(x, 1)))

    def fuse_model(self, is_qat=False):
        fuse = torch.ao.quantization.fuse_modules_qat if is_qat else torch.ao.quantization.fuse_modules
        for m in self.modules():
            if type(m) is ConvBNReLU:
                fuse(m, ["0", "1", "2"], inplace=True)
            if type(m) is InvertedResidual:
                fuse(m.conv, ["2", "3"], inplace=True)


def settled(model):
    """Statistics of batch norms other than 0 and 1."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 32, 32))
    return model


def _static(qconfig, batches):
    model, data = settled(MobileNet()).eval(), [torch.randn(4, 3, 32, 32) for _ in range(batches)]
    model.fuse_model()
    model.qconfig = qconfig
    torch.ao.quantization.prepare(model, inplace=True)
    for batch in data:
        model(batch)
    torch.ao.quantization.convert(model, inplace=True)
    assert type(model.features[0][0]).__name__ == "ConvReLU2d"
    return {"logits": model(data[0]), "keys": sorted(model.state_dict()), "repr": "QuantizedConvReLU2d" in repr(model)}


def static_default():
    """The tutorial's first try: default_qconfig."""
    return _static(torch.ao.quantization.default_qconfig, 3)


def static_per_channel():
    """The tutorial's second: the engine's qconfig, per channel, by histograms, which qcore adds up without torch's loss
    when there are more batches than one."""
    torch.backends.quantized.engine = "fbgemm"
    return _static(torch.ao.quantization.get_default_qconfig("fbgemm"), 1)


def training():
    """Quantization-aware training, with observers and batch norms frozen on the way."""
    model = MobileNet()
    model.fuse_model(is_qat=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    torch.ao.quantization.prepare_qat(model.train(), inplace=True)
    inputs, target = torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))
    losses = []
    for step in range(4):
        if step > 1:
            model.apply(torch.ao.quantization.disable_observer)
        if step > 2:
            model.apply(torch.nn.intrinsic.qat.freeze_bn_stats)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    quantized = torch.ao.quantization.convert(model.eval(), inplace=False)
    return {"losses": losses, "logits": quantized(inputs), "keys": sorted(model.state_dict())}


def wrapped():
    """QuantWrapper, quantize with a run function, and layers of many kinds."""

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3),
                nn.LeakyReLU(0.1),
                nn.GroupNorm(2, 8),
                nn.Hardswish(),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(8 * 9, 5),
                nn.ELU(),
                nn.LayerNorm(5),
            )

        def forward(self, x):
            return self.body(x)

    model = torch.quantization.QuantWrapper(Layers()).eval()
    model.qconfig = torch.quantization.default_qconfig
    data = [(torch.randn(2, 3, 8, 8), 0) for _ in range(2)]
    quantized = torch.quantization.quantize(model, torch.quantization.default_eval_fn, [data])
    return {"logits": quantized(data[0][0])}


def observers():
    """An observer of the caller's own, printed qparams, and states that are saved and loaded."""
    from torch.ao.quantization import MinMaxObserver, get_observer_state_dict, load_observer_state_dict

    class Clipped(MinMaxObserver):
        def forward(self, x):
            return super().forward(x.clamp(-2, 2))

    model = nn.Sequential(QuantStub(), nn.Linear(6, 4), DeQuantStub()).eval()
    model.qconfig = torch.ao.quantization.QConfig(
        activation=Clipped.with_args(reduce_range=True),
        weight=MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric),
    )
    first = torch.ao.quantization.prepare(model)
    x = torch.randn(5, 6)
    first(x)
    second = torch.ao.quantization.prepare(model)
    load_observer_state_dict(second, get_observer_state_dict(first))
    scale, zero_point = second[0].activation_post_process.calculate_qparams()
    return {"scale": scale, "zero_point": zero_point, "result": torch.ao.quantization.convert(second)(x)}
