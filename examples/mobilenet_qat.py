"""A small MobileNetV2 on scikit-learn's digits: float, quantized after training, and trained for it.

python -m examples.mobilenet_qat [--quick]
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import qcore
from examples import vision
from examples.common import fit, run, usable_backends
from qcore.api import prepare_qat
from qcore.nn.intrinsic.qat import freeze_bn_stats
from qcore.nn.quantized import FloatFunctional


class ConvBnReLU(nn.Sequential):
    """A convolution, its batch norm and, unless it projects, a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, project; the input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        wide = inputs * factor
        self.body = nn.Sequential(
            ConvBnReLU(inputs, wide, 1),
            ConvBnReLU(wide, wide, 3, stride, groups=wide),
            ConvBnReLU(wide, outputs, 1, relu=False),
        )
        self.add = FloatFunctional() if stride == 1 and inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.add is None else self.add.add(x, self.body(x))


class MobileNet(nn.Module):
    """Images (batch, 1, 8, 8) -> logits (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = qcore.QuantStub()
        self.features = nn.Sequential(
            ConvBnReLU(1, 16, 3),
            InvertedResidual(16, 16, 1, 3),
            InvertedResidual(16, 24, 2, 3),
            InvertedResidual(24, 24, 1, 3),
            ConvBnReLU(24, 64, 1),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(64, 10)
        self.dequant = qcore.DeQuantStub()

    def forward(self, images: Tensor) -> Tensor:
        return self.dequant(self.classifier(self.features(self.quant(images)).flatten(1)))

    def groups(self) -> list[list[str]]:
        """What is fused: the layers of each ConvBnReLU."""
        blocks = [(path, block) for path, block in self.named_modules() if isinstance(block, ConvBnReLU)]
        return [[f"{path}.{index}" for index in range(len(block))] for path, block in blocks]


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> None:
    """Train in place; batch norms are frozen for the last third of the epochs."""

    def freeze(epoch: int) -> None:
        if epoch >= epochs - epochs // 3:
            model.apply(freeze_bn_stats)

    fit(model, images, labels, epochs, rate, freeze)


def after_training(model: MobileNet, images: Tensor, backend: str) -> nn.Module:
    """Fold the batch norms, calibrate, convert."""
    fused = qcore.fuse_modules(model, model.groups())
    prepared = qcore.prepare(fused, backend=backend)
    with torch.inference_mode():
        prepared(images)
    return qcore.convert(prepared)


def in_training(model: MobileNet, images: Tensor, labels: Tensor, epochs: int, backend: str) -> nn.Module:
    """Fuse with the batch norms kept, train on with fake quantization, convert."""
    fused = qcore.fuse_modules_qat(copy.deepcopy(model).train(), model.groups())
    prepared = prepare_qat(fused, backend=backend)
    train(prepared, images, labels, epochs, rate=5e-4)
    return qcore.convert(prepared)


def in_training_as_a_graph(model: MobileNet, images: Tensor, labels: Tensor, epochs: int, backend: str) -> nn.Module:
    """The same without stubs and groups: the graph says what fuses."""
    prepared = qcore.prepare_qat_fx(copy.deepcopy(model).train(), None, (images[:2],), backend=backend)
    train(prepared, images, labels, epochs, rate=5e-4)
    return qcore.convert_fx(prepared)


def main(quick: bool) -> dict[str, float]:
    """Print and return the accuracy of each model on the held-out images."""
    images, labels, test_images, test_labels = vision.digits()
    model = MobileNet()
    train(model, images, labels, 3 if quick else 12, rate=5e-3)
    models: dict[str, nn.Module] = {"float": model}
    epochs = 1 if quick else 3
    for backend in usable_backends():
        models[f"PTQ, {backend}"] = after_training(model, images[:512], backend)
        models[f"QAT, {backend}"] = in_training(model, images, labels, epochs, backend)
    models[f"QAT as a graph, {backend}"] = in_training_as_a_graph(model, images, labels, epochs, backend)
    found = {name: vision.accuracy(each, test_images, test_labels) for name, each in models.items()}
    for name, accuracy in found.items():
        print(f"{name:28} accuracy {100 * accuracy:6.2f} %")
    return found


if __name__ == "__main__":
    run(main, __doc__)
