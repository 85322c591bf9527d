"""int8 inference for PyTorch, with the hardware as installable plugins.

model = qcore.prepare(model, backend="auto")   # the backend is chosen here and stays with the model
calibrate(model)
model = qcore.convert(model)
"""

from __future__ import annotations

from qcore.api.fuse_modules import fuse_modules, fuse_modules_qat
from qcore.api.modes import convert, prepare
from qcore.api.qconfig import QConfig, get_qconfig_preset
from qcore.api.qconfig_mapping import QConfigMapping
from qcore.api.quantize import quantize, quantize_dynamic
from qcore.api.quantize_fx import (
    convert_fx,
    convert_to_reference_fx,
    fuse_fx,
    lower_fx,
    prepare_fx,
    prepare_qat_fx,
)
from qcore.api.quantize_qat import prepare_qat, quantize_qat
from qcore.api.saving import load, save
from qcore.api.scripting import script
from qcore.api.size import model_size
from qcore.api.stubs import DeQuantStub, QuantStub, QuantWrapper
from qcore.backend import API_VERSION, Availability, Backend, Kernel
from qcore.capability import Capability, Limit, OpSpec, Pattern, Verdict, WeightSpec, standard_patterns
from qcore.custom_ops import library as _custom_ops  # noqa: F401  (registers torch.ops.qcore)
from qcore.errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendError,
    QcoreError,
    QuantizationError,
    UnsupportedError,
)
from qcore.extension import Extension
from qcore.graph.compile import compile
from qcore.graph.execution import on_modules
from qcore.graph.profile import profile
from qcore.hookspec import hookimpl
from qcore.onnx.export import export_onnx
from qcore.registry import registry
from qcore.report import report
from qcore.tensor.dtypes import (
    per_channel_affine,
    per_channel_affine_float_qparams,
    per_channel_symmetric,
    per_tensor_affine,
    per_tensor_symmetric,
    qint8,
    qint32,
    quint4x2,
    quint8,
)
from qcore.tensor.functions import dequantize, quantize_per_channel, quantize_per_tensor
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor

__version__ = "0.1.0"

__all__ = [
    "API_VERSION",
    "ArgumentError",
    "ArgumentTypeError",
    "Availability",
    "Backend",
    "BackendError",
    "Capability",
    "DeQuantStub",
    "Extension",
    "Kernel",
    "Limit",
    "OpSpec",
    "Pattern",
    "QConfig",
    "QConfigMapping",
    "QParams",
    "QTensor",
    "QcoreError",
    "QuantStub",
    "QuantWrapper",
    "QuantizationError",
    "UnsupportedError",
    "Verdict",
    "WeightSpec",
    "compile",
    "convert",
    "convert_fx",
    "convert_to_reference_fx",
    "dequantize",
    "export_onnx",
    "fuse_fx",
    "fuse_modules",
    "fuse_modules_qat",
    "get_qconfig_preset",
    "hookimpl",
    "load",
    "lower_fx",
    "model_size",
    "on_modules",
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "per_channel_symmetric",
    "per_tensor_affine",
    "per_tensor_symmetric",
    "prepare",
    "prepare_fx",
    "prepare_qat",
    "prepare_qat_fx",
    "profile",
    "qint8",
    "qint32",
    "quantize",
    "quantize_dynamic",
    "quantize_per_channel",
    "quantize_per_tensor",
    "quantize_qat",
    "quint4x2",
    "quint8",
    "registry",
    "report",
    "save",
    "script",
    "standard_patterns",
]
