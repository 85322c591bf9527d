"""What users call: the eager flow, under the names and with the arguments of torch.ao.quantization (PyTorch 2.13).

Observers, fake-quantizers, qconfigs and the FX flow are in modules of their own.
"""

from __future__ import annotations

from qcore.api.fuse_modules import fuse_modules, fuse_modules_qat
from qcore.api.quantize import (
    add_observer_,
    convert,
    default_eval_fn,
    get_observer_dict,
    prepare,
    propagate_qconfig_,
    quantize,
    quantize_dynamic,
    swap_module,
)
from qcore.api.quantize_qat import prepare_qat, quantize_qat
from qcore.api.size import model_size
from qcore.api.stubs import DeQuantStub, QuantStub, QuantWrapper, add_quant_dequant

__all__ = [
    "DeQuantStub",
    "QuantStub",
    "QuantWrapper",
    "add_observer_",
    "add_quant_dequant",
    "convert",
    "default_eval_fn",
    "fuse_modules",
    "fuse_modules_qat",
    "get_observer_dict",
    "model_size",
    "prepare",
    "prepare_qat",
    "propagate_qconfig_",
    "quantize",
    "quantize_dynamic",
    "quantize_qat",
    "swap_module",
]
