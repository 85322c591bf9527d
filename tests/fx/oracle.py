"""torch's own graph mode as the oracle: the same float model through its prepare_fx and convert_fx, on fbgemm."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

import qcore
from tests.fx.qconfigs import OURS
from tests.oracle import engine


def theirs(kind: str) -> Any:
    """torch's mapping with the same meaning, and its own rules for sigmoid and its like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.quantization as ao

        activation = {
            "per_tensor": ao.MinMaxObserver.with_args(quant_min=0, quant_max=127),
            "per_channel": ao.MinMaxObserver.with_args(quant_min=0, quant_max=127),
            "moving": ao.MovingAverageMinMaxObserver.with_args(quant_min=0, quant_max=127, averaging_constant=0.3),
        }[kind]
        weight = ao.default_weight_observer if kind == "per_tensor" else ao.default_per_channel_weight_observer
        mapping = ao.QConfigMapping().set_global(ao.QConfig(activation, weight))
        fixed = ao.get_default_qconfig_mapping("fbgemm").object_type_qconfigs
        for target, qconfig in fixed.items():
            if any(word in str(target).lower() for word in ("sigmoid", "tanh", "softmax")):
                mapping.set_object_type(target, qconfig)
        return mapping


def torch_converted(model: nn.Module, kind: str, batches: list[tuple[Any, ...]]) -> tuple[nn.Module, nn.Module]:
    """What torch makes of a model: prepared and calibrated, and converted. Run the latter under `engine()`."""
    with engine():
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        prepared = prepare_fx(copy.deepcopy(model), theirs(kind), batches[0])
        with torch.no_grad():
            for batch in batches:
                prepared(*batch)
        return prepared, convert_fx(copy.deepcopy(prepared))


def ours_converted(
    model: nn.Module, kind: str, batches: list[tuple[Any, ...]], backend: str = "auto"
) -> tuple[nn.Module, nn.Module]:
    """What we make of it: prepared and calibrated, and converted."""
    prepared = qcore.prepare_fx(model, OURS[kind], batches[0], backend=backend)
    with torch.no_grad():
        for batch in batches:
            prepared(*batch)
    return prepared, qcore.convert_fx(prepared)


def scales(converted: nn.Module) -> list[tuple[float, int]]:
    """Scale and zero point of each quantized layer's output, in the order of the model."""
    found = []
    for module in converted.modules():
        if "uantize" in type(module).__module__ and hasattr(module, "scale") and hasattr(module, "weight"):
            found.append((float(torch.tensor(module.scale, dtype=torch.float32)), int(module.zero_point)))
    return found
