"""A conv net trained on scikit-learn's handwritten digits, quantized after training with calibrated ranges."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

import qcore


class DigitNet(nn.Module):
    """Images (batch, 1, 8, 8) -> logits (batch, 10); the stubs mark where the quantized part begins and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = qcore.QuantStub()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(128, 10)
        self.dequant = qcore.DeQuantStub()

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(self.quant(images))
        return self.dequant(self.classifier(features.flatten(1)))

    def fuse(self) -> None:
        """Fold each BatchNorm, and fuse each ReLU, into its convolution."""
        triples = [[f"features.{first + offset}" for offset in range(3)] for first in (0, 3, 7)]
        qcore.fuse_modules(self, triples, inplace=True)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images and labels: 1,797 real scans, 30 % held out."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    chosen, held_out = train_test_split(range(len(pixels)), test_size=0.3, random_state=0, stratify=labels)
    targets = torch.tensor(labels)
    return pixels[chosen], targets[chosen], pixels[held_out], targets[held_out]


def train(images: Tensor, labels: Tensor, epochs: int, step: Callable[[], object] = lambda: None) -> DigitNet:
    """A trained net in eval mode; `step` is called after each epoch."""
    torch.manual_seed(0)
    model = DigitNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for chunk in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chunk]), labels[chunk]).backward()
            optimizer.step()
        step()
    return model.eval()


@torch.inference_mode()
def quantize(model: DigitNet, calibration: Tensor, backend: str) -> nn.Module:
    """Fuse, prepare for the backend, calibrate on training images, convert."""
    prepared = copy.deepcopy(model)
    prepared.fuse()
    prepared = qcore.prepare(prepared, backend=backend)
    for chunk in calibration.split(64):
        prepared(chunk)
    return qcore.convert(prepared)


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is the label."""
    return float((model(images).argmax(1) == labels).float().mean())
