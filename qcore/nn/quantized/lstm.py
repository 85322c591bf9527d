"""A statically quantized LSTM."""

from __future__ import annotations

from typing import Any

from qcore.nn.quantizable.lstm import LSTM as QuantizableLSTM
from qcore.nn.quantized.ranges import bounds, share, widen, widest
from qcore.nn.quantized.static import StaticOutput


class LSTM(QuantizableLSTM):
    """What convert makes of nn.quantizable.LSTM: the same parts, quantized; quantized tensors in, and out."""

    def share_ranges(self) -> None:
        """Let the ranges of h and c of directions and layers hold what they are joined with."""
        for sources in self._sources():
            for directions in sources:
                share(*directions)
            firsts = [directions[0] for directions in sources]
            if all(isinstance(first, StaticOutput) for first in firsts):
                at = widest(firsts)
                widen(firsts[at], *(bounds(first._out) for first in firsts if first is not firsts[at]))

    def _joined_first(self, part: int) -> int:
        return widest([directions[0] for directions in self._sources()[part]])

    def _sources(self) -> tuple[list[list[Any]], ...]:
        """What gives h, and what gives c, in each direction of each layer."""
        layers: list[Any] = list(self.layers)
        names = ("layer_fw", "layer_bw") if self.bidirectional else ("layer_fw",)
        cells = [[getattr(layer, name).cell for name in names] for layer in layers]
        return tuple(
            [[getattr(cell, name) for cell in directions] for directions in cells]
            for name in ("ogate_cy", "fgate_cx_igate_cgate")
        )

    def _get_name(self) -> str:
        return "QuantizedLSTM"
