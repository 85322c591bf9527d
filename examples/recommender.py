"""Which of scikit-learn's data sets a sentence is about, by a bag of its words: tables of 32, 8 and 4 bits.

python -m examples.recommender [--quick]
"""

from __future__ import annotations

import io
import re

import torch
from sklearn import datasets
from torch import Tensor, nn

import qcore
from examples import vision
from examples.common import fit, run, usable_backends

WORDS = 16
LOADERS = (datasets.load_breast_cancer, datasets.load_diabetes, datasets.load_wine, datasets.load_digits)


class Recommender(nn.Module):
    """Words (batch, WORDS) -> a score for each data set (batch, data sets)."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(words, 64, mode="mean")
        self.head = nn.Linear(64, len(LOADERS))

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.bag(words))


def passages() -> tuple[Tensor, Tensor, int]:
    """Passages of WORDS words of the descriptions, the data set of each, and the number of different words."""
    texts = [re.findall(r"[a-z]+", load().DESCR.lower()) for load in LOADERS]
    known = {word: index for index, word in enumerate(sorted({word for text in texts for word in text}))}
    found = [torch.tensor([known[word] for word in text]).unfold(0, WORDS, WORDS) for text in texts]
    labels = [torch.full((len(each),), index) for index, each in enumerate(found)]
    order = torch.randperm(sum(map(len, found)), generator=torch.Generator().manual_seed(0))
    return torch.cat(found)[order], torch.cat(labels)[order], len(known)


def kilobytes(model: nn.Module) -> float:
    """Size of the state dict on disk."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / 1e3


def main(quick: bool) -> dict[str, float]:
    """Print the size of each model, print and return its accuracy on held-out passages."""
    words, labels, known = passages()
    model = Recommender(known)
    fit(model, words[40:], labels[40:], 10 if quick else 30, rate=1e-2)
    models: dict[str, nn.Module] = {"float": model}
    for backend in usable_backends():
        for bits, dtype in ((8, qcore.quint8), (4, qcore.quint4x2)):
            models[f"{bits} bits, {backend}"] = qcore.quantize_dynamic(
                model, {nn.EmbeddingBag}, dtype=dtype, backend=backend
            )
    found = {name: vision.accuracy(each, words[:40], labels[:40]) for name, each in models.items()}
    for name, accuracy in found.items():
        print(f"{name:24} accuracy {100 * accuracy:6.2f} %  {kilobytes(models[name]):8.1f} kB on disk")
    return found


if __name__ == "__main__":
    run(main, __doc__)
