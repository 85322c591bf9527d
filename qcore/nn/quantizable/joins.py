"""Results of several parts side by side, whose ranges may differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qcore.tensor.functions import quantize_per_tensor
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor

_LEFT_OUT = 1 / 16


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """torch.cat, which gives quantized tensors the first one's range, as torch's own does, bit for bit; where that
    leaves out more than a sixteenth of its width, the result has the range of all. Each part computes in its own."""
    first = parts[0]
    if isinstance(first, QTensor):
        ranges = [_bounds(each.qparams) for each in parts if isinstance(each, QTensor)]
        least, most = min(low for low, _ in ranges), max(high for _, high in ranges)
        (low, high), dtype = ranges[0], first.qparams.dtype
        left_out = _LEFT_OUT * (high - low)
        if least < low - left_out or most > high + left_out:
            scale = torch.tensor((most - least) / (dtype.qmax - dtype.qmin), dtype=torch.float32).item()
            zero_point = round(dtype.qmin - least / scale)
            first = quantize_per_tensor(first.dequantize(), scale, zero_point, dtype, backend=first.backend)
    return torch.cat([first, *parts[1:]], dim)


def _bounds(qparams: QParams) -> tuple[float, float]:
    """The real numbers that the least and the greatest integer stand for."""
    scale, zero_point = float(qparams.scale), int(qparams.zero_point)
    return (qparams.dtype.qmin - zero_point) * scale, (qparams.dtype.qmax - zero_point) * scale
