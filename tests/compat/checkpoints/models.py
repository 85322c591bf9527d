"""Float models that torch.ao and qcore both quantize; `Kit` has the stubs and functions of one or the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import qcore
from qcore.nn.quantized import FloatFunctional


@dataclass(frozen=True)
class Kit:
    """Stubs of one library."""

    quant: Any
    dequant: Any
    functional: Any


OURS = Kit(qcore.QuantStub, qcore.DeQuantStub, FloatFunctional)


class ConvNet(nn.Module):
    """One of most static layers, with arithmetic between them: (batch, 3, 8, 8) -> (batch, 5)."""

    def __init__(self, kit: Kit) -> None:
        super().__init__()
        self.quant, self.dequant = kit.quant(), kit.dequant()
        self.first, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.swish, self.leaky = nn.Hardswish(), nn.LeakyReLU(0.2)
        self.group = nn.GroupNorm(2, 6)
        self.plus, self.times = kit.functional(), kit.functional()
        self.line = nn.Conv1d(6, 4, 3)
        self.last = nn.Linear(4, 5)

    def forward(self, x):
        x = self.relu(self.first(self.quant(x)))
        x = self.swish(self.plus.add(x, self.second(x)))
        x = self.norm(self.up(x))
        x = self.times.mul(self.leaky(self.group(x)), x)
        x = self.line(x.flatten(2)).mean(2)
        return self.dequant(self.last(x))


def conv_net(kit: Kit, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = ConvNet(kit).eval()
    nn.init.uniform_(model.norm.running_var, 0.5, 2)
    return model


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


class Speech(nn.Module):
    """Linear, LSTM, GRU on sequences (time, batch, 6), and cells: -> (batch, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 8)
        self.lstm = nn.LSTM(8, 7, 2, bidirectional=True)
        self.gru = nn.GRU(14, 5)
        self.cells = nn.ModuleList([nn.LSTMCell(5, 5), nn.GRUCell(5, 5), nn.RNNCell(5, 5)])

    def forward(self, x):
        x, _ = self.gru(self.lstm(self.enter(x))[0])
        h, _ = self.cells[0](x[-1])
        return self.cells[2](self.cells[1](h))


def speech(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Speech().eval()


def sequences() -> torch.Tensor:
    return torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(1))


class Tables(nn.Module):
    """Embeddings, and sums of bags of them: indices (bags, length) -> (bags, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(10, 12)
        self.bags = nn.EmbeddingBag(10, 16, mode="sum")

    def forward(self, indices):
        return torch.cat([self.rows(indices)[:, 0], self.bags(indices)], 1)


def tables(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Tables().eval()


INDICES = torch.tensor([[0, 3, 9], [2, 2, 7]])
