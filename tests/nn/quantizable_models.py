"""Small models around an LSTM and a MultiheadAttention; `api` gives the stubs, qcore's or torch's."""

from __future__ import annotations

import torch
from torch import nn


class Recurrent(nn.Module):
    """(steps, batch, 6) -> every result through a Linear, and the last state."""

    FEATURES = 6

    def __init__(self, api, **settings):
        super().__init__()
        self.quant, self.dequant = api.QuantStub(), api.DeQuantStub()
        self.lstm = nn.LSTM(6, 8, **settings)
        self.fc = nn.Linear(16 if settings.get("bidirectional") else 8, 3)

    def forward(self, x):
        result, state = self.lstm(self.quant(x))
        return [self.dequant(each) for each in (self.fc(result), *state)]


class Attending(nn.Module):
    """(length, batch, 9) -> self-attention with 3 heads, and its weights."""

    FEATURES = 9

    def __init__(self, api, **settings):
        super().__init__()
        self.quant, self.dequant = api.QuantStub(), api.DeQuantStub()
        self.attention = nn.MultiheadAttention(9, 3, **settings)

    def forward(self, x):
        x = self.quant(x)
        return [self.dequant(each) for each in self.attention(x, x, x)]


def batches(model, count=4):
    """Inputs for a model."""
    torch.manual_seed(1)
    return [torch.randn(5, 4, model.FEATURES) for _ in range(count)]
