"""torch's legacy stack as the oracle, and as something that must not run."""

from __future__ import annotations

import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import torch

_TORCH = Path(torch.__file__).parent
_FOLDERS = tuple(
    str(_TORCH.joinpath(*parts)) + "/"
    for parts in (
        ("ao", "quantization"),
        ("ao", "nn"),
        ("ao", "ns"),
        ("quantization",),
        ("nn", "quantized"),
        ("nn", "qat"),
        ("nn", "intrinsic"),
        ("nn", "quantizable"),
    )
)
_KEPT = str(_TORCH / "ao" / "quantization" / "fx" / "_decomposed.py")
_NATIVE = (
    "quantize_per_tensor",
    "quantize_per_tensor.tensor_qparams",
    "quantize_per_tensor_dynamic",
    "quantize_per_channel",
    "dequantize.self",
    "int_repr",
    "q_scale",
    "q_zero_point",
    "q_per_channel_scales",
    "q_per_channel_zero_points",
    "q_per_channel_axis",
    "_make_per_tensor_quantized_tensor",
    "_make_per_channel_quantized_tensor",
    "_empty_affine_quantized",
    "_empty_per_channel_affine_quantized",
    "fake_quantize_per_tensor_affine_cachemask",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_channel_affine_cachemask",
    "_fused_moving_avg_obs_fq_helper",
    "fused_moving_avg_obs_fake_quant",
    "quantized_max_pool2d",
    "quantized_batch_norm",
)
_KEYS = ("CPU", "QuantizedCPU", "CompositeExplicitAutograd")
_LIBRARIES: list[torch.library.Library] = []


class LegacyRan(BaseException):
    """A line of torch's legacy stack was reached; no `except Exception` hides it."""


def use_fbgemm() -> None:
    """Let the originals run under fbgemm, the engine whose arithmetic qcore has, whatever a caller asks for."""
    torch.backends.quantized.engine = "fbgemm"
    kind: Any = type(torch.backends.quantized)
    kind.engine = property(lambda self: "fbgemm", lambda self, value: None)


def raise_everywhere() -> None:
    """From now on, each Python line of the legacy stack raises LegacyRan, and so does each of its native kernels."""
    _raise_in_kernels()
    threading.settrace(_trace)
    sys.settrace(_trace)


def _trace(frame: FrameType, event: str, argument: object) -> None:
    name = frame.f_code.co_filename
    if name.startswith(_FOLDERS) and name != _KEPT:
        raise LegacyRan(f"{name}:{frame.f_lineno} ({frame.f_code.co_name})")


def _raise_in_kernels() -> None:
    operators = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("quantized::")}
    overloads = sorted(
        name + (f".{schema.overload_name}" if schema.overload_name else "")
        for name in operators
        for schema in torch._C._jit_get_schemas_for_operator(name)
    )
    for library, names in (("quantized", overloads), ("aten", _NATIVE)):
        implementation = torch.library.Library(library, "IMPL")
        _LIBRARIES.append(implementation)
        for name in names:
            for key in _KEYS:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    implementation.impl(name.removeprefix("quantized::"), _refusing(name), key)


def _refusing(name: str) -> Any:
    def refuse(*args: object, **kwargs: object) -> object:
        raise LegacyRan(f"native {name}")

    return refuse
