"""Float modules taken apart into layers that are observed, trained and quantized one by one.

Names and arguments as of torch's modules of this kind.
"""

from __future__ import annotations

from qcore.nn.quantizable.attention import MultiheadAttention
from qcore.nn.quantizable.base import Quantizable
from qcore.nn.quantizable.lstm import LSTM
from qcore.nn.quantizable.lstm_cell import LSTMCell

__all__ = ["LSTM", "LSTMCell", "MultiheadAttention", "Quantizable"]
