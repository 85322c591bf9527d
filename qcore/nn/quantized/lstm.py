"""A statically quantized LSTM."""

from __future__ import annotations

from qcore.nn.quantizable.lstm import LSTM as QuantizableLSTM


class LSTM(QuantizableLSTM):
    """What convert makes of nn.quantizable.LSTM: the same parts, quantized; quantized tensors in, and out."""

    def _get_name(self) -> str:
        return "QuantizedLSTM"
