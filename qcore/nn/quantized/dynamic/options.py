"""What a QConfig says to a dynamically quantized module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import QuantizationError
from qcore.nn.quantized.observed import path_of
from qcore.tensor.dtypes import as_qdtype, as_qscheme, is_qdtype, quint8


def is_float16(qconfig: Any) -> bool:
    """Whether the weight is only rounded, to float16."""
    return getattr(qconfig.weight(), "dtype", None) == torch.float16


def reason_against_dynamic(qconfig: Any) -> str:
    """Why a layer with this qconfig stays float; empty if nothing stands against it."""
    if is_float16(qconfig):
        return ""
    for what, observer in (("weights", qconfig.weight()), ("activations", qconfig.activation())):
        if not is_qdtype(getattr(observer, "dtype", None)):
            return f"its qconfig does not quantize {what} (it gives {type(observer).__name__})"
    return ""


def dynamic_options(observer: Any, module: nn.Module) -> tuple[bool, bool]:
    """(per_row, reduce_range) that an activation observer asks for.

    torch's dynamic presets, one range for the whole tensor, mean 7 bits; per row, all 8 are used. Raises
    QuantizationError, naming the module, for activations of other dtypes than quint8.
    """
    if not is_qdtype(observer.dtype) or as_qdtype(observer.dtype) != quint8:
        raise QuantizationError(f"{path_of(module)}: dynamic activations are {quint8!r}, not {observer.dtype}")
    per_row = as_qscheme(getattr(observer, "qscheme", None) or "per_tensor_affine").per_channel
    return per_row, not per_row


def to_float16(weight: Tensor) -> Tensor:
    """A float weight rounded to float16; what is too large becomes the largest float16 number."""
    largest = torch.finfo(torch.float16).max
    return weight.detach().float().clamp(-largest, largest).half()
