"""From observers to numbers: quantization parameters of an activation, and integer weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError, NotCalibratedError, QuantizationError
from qcore.selection import Selection
from qcore.tensor.dtypes import as_qdtype, as_qscheme, is_qdtype, per_channel_affine_float_qparams
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import QParams, per_channel, per_tensor
from qcore.tensor.qtensor import QTensor


def path_of(module: nn.Module) -> str:
    """How messages name a module: its path in the model where it is known, and its class."""
    path = getattr(module, "qcore_path", "")
    kind = type(module).__name__
    return f"module {path!r} ({kind})" if path else f"this {kind}"


def weight_observer(module: Any) -> Any:
    """What observes a module's weight: its own fake-quantize after quantization-aware training, else its qconfig's."""
    own = getattr(module, "weight_fake_quant", None)
    return module.qconfig.weight() if own is None else own


def planned_qparams(observer: Any, channels: int, axis: int) -> QParams:
    """Parameters of the kind that a weight observer will find, before it has seen anything."""
    dtype, scheme = as_qdtype(observer.dtype), as_qscheme(observer.qscheme)
    zero_point = 0 if scheme.symmetric else 1
    if not scheme.per_channel:
        return QParams(dtype, 1.0, zero_point)
    floating = scheme == per_channel_affine_float_qparams
    zero_points = torch.full((channels,), zero_point, dtype=torch.float32 if floating else torch.int64)
    return QParams(dtype, torch.ones(channels, dtype=torch.float64), zero_points, axis)


def no_static_activation(qconfig: Any) -> str:
    """Why a qconfig gives activations no fixed scale and zero point; empty if it does."""
    observer = qconfig.activation()
    if not is_qdtype(getattr(observer, "dtype", None)):
        return f"its qconfig does not quantize activations (it gives {type(observer).__name__})"
    if getattr(observer, "is_dynamic", False):
        return "its qconfig is for dynamic quantization: use quantize_dynamic"
    return ""


def backend_of(module: nn.Module) -> str | None:
    """The backend that quantizes a float module's weights: the one prepare has chosen; None where it has not.

    A fallback that the model may not run on may still do this, once, at convert.
    """
    name: str | None = getattr(module, "qcore_backend", None)
    return None if name is None else str(replace(Selection.of(name), fallback=None))


def output_qparams(module: nn.Module) -> QParams:
    """Parameters that a prepared module's observer has found for its output, per tensor.

    Raises QuantizationError, naming the module, if there is no observer, it saw no data, or saw NaN or infinity.
    """
    observer = getattr(module, "activation_post_process", None)
    if observer is None or isinstance(observer, nn.Identity):
        raise QuantizationError(
            f"{path_of(module)} has no observer of its output: call prepare, with a qconfig that quantizes "
            "activations, and run calibration data through the model before convert"
        )
    found = observer_qparams(observer, module)
    if found.axis is not None:
        raise QuantizationError(
            f"{path_of(module)}: its activation observer is per channel; activations are quantized per tensor"
        )
    return found


def observer_qparams(observer: Any, module: nn.Module) -> QParams:
    """What an observer of `module` has found, checked; per channel (along `ch_axis`) where its scheme says so."""
    if not is_qdtype(observer.dtype):
        raise QuantizationError(
            f"{path_of(module)}: its observer is for {observer.dtype}, which is not a quantized dtype"
        )
    if getattr(observer, "min_val", None) is not None and observer.min_val.numel() == 0:
        raise NotCalibratedError(f"{path_of(module)} was never calibrated: run data through the model after prepare")
    dtype, scheme = as_qdtype(observer.dtype), as_qscheme(observer.qscheme)
    scale, zero_point = observer.calculate_qparams()
    try:
        if scheme.per_channel:
            return per_channel(scale.flatten(), zero_point.flatten(), observer.ch_axis, dtype)
        return per_tensor(scale, zero_point, dtype)
    except ArgumentError as error:
        raise QuantizationError(f"{path_of(module)}: {error}") from error


def quantize_weight(weight: Tensor, observer: Any, module: nn.Module, axis: int = 0) -> QTensor:
    """Integers for a float weight, with parameters found by the observer (which is shown the weight first).

    `axis`: where the channels of this kind of weight lie, whatever the observer's default.
    """
    weight = weight.detach().float()
    if weight.is_meta:
        raise QuantizationError(f"{path_of(module)}: its weight is on the meta device, without values; load them first")
    if not bool(torch.isfinite(weight).all()):
        raise QuantizationError(f"{path_of(module)}: its weight holds NaN or infinity")
    if as_qscheme(observer.qscheme).per_channel:
        observer.ch_axis = axis
    observer(weight)
    return quantize(weight, observer_qparams(observer, module), backend_of(module))
