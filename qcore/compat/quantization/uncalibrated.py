"""convert before calibration: how scripts for torch make the model that a quantized state dict is loaded into."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch import nn

from qcore.api.fake_quantize import FakeQuantizeBase
from qcore.api.observer import FixedQParamsObserver, UniformQuantizationObserverBase

_PLACE = "activation_post_process"


def with_defaults(model: nn.Module, inplace: bool, function: str) -> nn.Module:
    """The model, or a changed copy of it where some of its activations were never observed: these get scale 1 and zero
    point 0, as torch gives them, and a warning names them."""
    if not _unobserved(model):
        return model
    model = model if inplace else copy.deepcopy(model)
    places = _unobserved(model)
    for owner, name, observer, _ in places:
        low, high = observer.dtype.qmin, observer.dtype.qmax
        owner._modules[name] = FixedQParamsObserver(1.0, 0, observer.dtype, quant_min=low, quant_max=high)
    shown = ", ".join(repr(path) for *_, path in places[:3])
    rest = f" and {len(places) - 3} more" if len(places) > 3 else ""
    warnings.warn(
        f"{function}: never calibrated: {shown}{rest}. Their scale is 1 and their zero point 0 until a quantized state "
        "dict is loaded",
        stacklevel=3,
    )
    return model


def _unobserved(model: nn.Module) -> list[tuple[nn.Module, str, UniformQuantizationObserverBase, str]]:
    """Owner, name, observer and path of each static observer that has seen nothing."""
    found = []
    for path, owner in model.named_modules():
        if isinstance(owner, FakeQuantizeBase):
            continue
        for name, child in owner._modules.items():
            observer: Any = child.activation_post_process if isinstance(child, FakeQuantizeBase) else child
            is_static = isinstance(observer, UniformQuantizationObserverBase) and not observer.is_dynamic
            if name.startswith(_PLACE) and is_static and not observer._is_calibrated():
                found.append((owner, name, observer, path or name))
    return found
