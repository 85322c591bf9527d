"""Dynamically quantized modules: floats in and out, integers in between."""

from __future__ import annotations

from qcore.nn.quantized.dynamic.cells import GRUCell, LSTMCell, RNNCell
from qcore.nn.quantized.dynamic.linear import Linear
from qcore.nn.quantized.dynamic.rnn import GRU, LSTM

__all__ = ["GRU", "LSTM", "GRUCell", "LSTMCell", "Linear", "RNNCell"]
