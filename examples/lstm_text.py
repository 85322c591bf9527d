"""A character model of English, an LSTM: float, quantized dynamically, and statically.

python -m examples.lstm_text [--quick]
"""

from __future__ import annotations

import copy

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

import qcore
from examples.common import fit, run, usable_backends
from qcore.api.qconfig import get_default_qconfig

STEPS = 32


class CharacterModel(nn.Module):
    """Characters (batch, steps) -> logits of the next ones (batch, steps, characters)."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 32)
        self.quant = qcore.QuantStub()
        self.lstm = nn.LSTM(32, 96, batch_first=True)
        self.head = nn.Linear(96, characters)
        self.dequant = qcore.DeQuantStub()

    def forward(self, text: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.quant(self.embedding(text)))
        return self.dequant(self.head(hidden))


def pieces(limit: int) -> tuple[Tensor, int]:
    """Pieces of STEPS + 1 characters of scikit-learn's descriptions of its data sets, and the number of characters."""
    loaders = (
        datasets.load_breast_cancer,
        datasets.load_diabetes,
        datasets.load_digits,
        datasets.load_iris,
        datasets.load_linnerud,
        datasets.load_wine,
    )
    text = " ".join(" ".join(load().DESCR.lower().split()) for load in loaders)
    known = sorted(set(text))
    codes = torch.tensor([known.index(character) for character in text])
    found = codes.unfold(0, STEPS + 1, STEPS + 1)
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))][:limit], len(known)


@torch.inference_mode()
def bits(model: nn.Module, held_out: Tensor) -> float:
    """Bits that the model needs for each character."""
    logits = model(held_out[:, :-1])
    return float(F.cross_entropy(logits.flatten(0, 1), held_out[:, 1:].flatten()) / torch.log(torch.tensor(2.0)))


def static(model: CharacterModel, calibration: Tensor, backend: str) -> nn.Module:
    """The LSTM and the head in integers from end to end; the table stays float."""
    marked = copy.deepcopy(model)
    marked.qconfig = get_default_qconfig(backend)
    marked.embedding.qconfig = None
    prepared = qcore.prepare(marked, backend=backend)
    with torch.inference_mode():
        prepared(calibration)
    return qcore.convert(prepared)


def main(quick: bool) -> dict[str, float]:
    """Print and return the bits for each character of each model on held-out text."""
    text, characters = pieces(200 if quick else 1000)
    held_out, training = text[:60], text[60:]
    model = CharacterModel(characters)
    fit(model, training[:, :-1], training[:, 1:], 2 if quick else 40, rate=5e-3)
    models: dict[str, nn.Module] = {"float": model}
    for backend in usable_backends():
        models[f"dynamic, {backend}"] = qcore.quantize_dynamic(model, {nn.LSTM, nn.Linear}, backend=backend)
        models[f"static, {backend}"] = static(model, training[:64, :-1], backend)
    found = {name: bits(each, held_out) for name, each in models.items()}
    for name, value in found.items():
        print(f"{name:24} {value:6.3f} bits for each character")
    return found


if __name__ == "__main__":
    run(main, __doc__)
