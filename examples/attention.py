"""Digits read row by row through MultiheadAttention: float, and quantized after training.

python -m examples.attention [--quick]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qcore
from examples import vision
from examples.common import fit, run, usable_backends


class AttentionNet(nn.Module):
    """Images (batch, 1, 8, 8), as 8 rows of 8 pixels -> logits (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = qcore.QuantStub()
        self.rows = nn.Linear(8, 32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.relu = nn.ReLU()
        self.head = nn.Linear(8 * 32, 10)
        self.dequant = qcore.DeQuantStub()

    def forward(self, images: Tensor) -> Tensor:
        rows = self.rows(self.quant(images.squeeze(1)))
        attended, _ = self.attention(rows, rows, rows)
        return self.dequant(self.head(self.relu(attended).flatten(1)))


def quantized(model: nn.Module, calibration: Tensor, backend: str) -> nn.Module:
    """Prepare, calibrate, convert."""
    prepared = qcore.prepare(model, backend=backend)
    with torch.inference_mode():
        prepared(calibration)
    return qcore.convert(prepared)


def main(quick: bool) -> dict[str, float]:
    """Print and return the accuracy of each model on the held-out images."""
    images, labels, test_images, test_labels = vision.digits()
    model = AttentionNet()
    fit(model, images, labels, 5 if quick else 30, rate=5e-3)
    models: dict[str, nn.Module] = {"float": model}
    models |= {backend: quantized(model, images[:512], backend) for backend in usable_backends()}
    found = {name: vision.accuracy(each, test_images, test_labels) for name, each in models.items()}
    for name, accuracy in found.items():
        print(f"{name:24} accuracy {100 * accuracy:6.2f} %")
    return found


if __name__ == "__main__":
    run(main, __doc__)
