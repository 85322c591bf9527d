"""Where the names of torch's legacy modules are in qcore: for each module the places to look, first hit wins."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from qcore.compat.reasons import reason_against
from qcore.compat.refused import refused

_QUANTIZATION = (
    "qcore.compat.quantization.presets",
    "qcore.compat.quantization.eager",
    "qcore.compat.quantization.fx",
    "qcore.compat.quantization.mappings",
    "qcore.compat.quantization.fusers",
    "qcore.compat.quantization.kinds",
    "qcore.api",
    "qcore.api.observer",
    "qcore.api.fake_quantize",
    "qcore.api.qconfig",
    "qcore.api.qconfig_mapping",
    "qcore.api.quantize_fx",
    "qcore.compat.quantization.utils",
)
_NN = "qcore.nn.quantized"

HOMES: dict[str, tuple[str, ...]] = {
    "torch": ("qcore.compat.functions.dtypes", "qcore.compat.functions.tensors", "qcore.compat.functions.training"),
    "torch.ops.quantized": (
        "qcore.compat.ops.elementwise",
        "qcore.compat.ops.activations",
        "qcore.compat.ops.norms",
        "qcore.compat.ops.linear",
        "qcore.compat.ops.conv",
        "qcore.compat.ops.conv_transpose",
        "qcore.compat.ops.embedding",
        "qcore.compat.ops.embedding_rows",
        "qcore.compat.ops.recurrent",
    ),
    "torch.ao.quantization": _QUANTIZATION,
    "torch.ao.quantization.backend_config": ("qcore.compat.quantization.backend_configs", "qcore.api.backend_config"),
    "torch.ao.quantization.fx": (
        "qcore.api.custom_config",
        "qcore.compat.quantization.graphs",
        "qcore.compat.quantization.fusers",
        "qcore.compat.quantization.utils",
        "qcore.compat.quantization.kinds",
    ),
    "torch.ao.quantization.quantize_fx": (
        *_QUANTIZATION,
        "qcore.compat.quantization.graphs",
        "qcore.api.backend_config",
        "qcore.compat.quantization.backend_configs",
        "qcore.api.custom_config",
    ),
    "torch.ao.quantization.qconfig_mapping": (*_QUANTIZATION,),
    "torch.ao.quantization._equalize": ("qcore.compat.quantization.equalize",),
    "torch.ao.quantization._correct_bias": ("qcore.compat.quantization.correct_bias", "qcore.compat.ns.eager"),
    "torch.ao.ns._numeric_suite": ("qcore.compat.ns.eager", *_QUANTIZATION),
    "torch.ao.ns": ("qcore.compat.ns.measures", "qcore.compat.ns.graphs", *_QUANTIZATION),
    "torch.quantization._numeric_suite": ("qcore.compat.ns.eager", *_QUANTIZATION),
    "torch.quantization._numeric_suite_fx": ("qcore.compat.ns.measures", "qcore.compat.ns.graphs", *_QUANTIZATION),
    "torch.ao.nn": (),
    "torch.ao.nn.intrinsic": ("qcore.nn.intrinsic",),
    "torch.ao.nn.intrinsic.qat": ("qcore.nn.intrinsic.qat",),
    "torch.ao.nn.intrinsic.quantized": ("qcore.nn.intrinsic.quantized",),
    "torch.ao.nn.intrinsic.quantized.dynamic": ("qcore.nn.intrinsic.quantized.dynamic",),
    "torch.ao.nn.qat": ("qcore.nn.qat", "qcore.nn.intrinsic"),
    "torch.ao.nn.qat.dynamic": ("qcore.nn.qat.dynamic",),
    "torch.ao.nn.quantizable": ("qcore.nn.quantizable",),
    "torch.ao.nn.quantized": (_NN, "qcore.compat.nn.modules", "qcore.compat.nn.packed"),
    "torch.ao.nn.quantized.dynamic": (f"{_NN}.dynamic", "qcore.compat.nn.packed"),
    "torch.ao.nn.quantized.functional": (f"{_NN}.functional",),
    "torch.ao.nn.quantized.reference": ("qcore.compat.nn.reference",),
    "torch.nn.quantized._reference": ("qcore.compat.nn.reference",),
}
"""The longest name that a module lies under decides; what is under torch.nn and torch.quantization is as under
torch.ao, where it has no entry of its own."""

MOVED = {
    "torch.quantization": "torch.ao.quantization",
    "torch.nn.intrinsic": "torch.ao.nn.intrinsic",
    "torch.nn.qat": "torch.ao.nn.qat",
    "torch.nn.quantizable": "torch.ao.nn.quantizable",
    "torch.nn.quantized": "torch.ao.nn.quantized",
}
"""Old home -> new home."""


@cache
def inventory() -> dict[str, tuple[str, ...]]:
    """Every public name of torch 2.13's legacy stack, by module."""
    lines = files("qcore.compat").joinpath("torch_2_13.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {module: tuple(names.split()) for module, _, names in pairs}


def homes(module: str) -> tuple[str, ...]:
    """The modules of qcore that hold the names of one of torch's."""
    own = _longest(module, HOMES)
    old = _longest(module, MOVED)
    if old and len(old) > len(own):
        return homes(MOVED[old] + module[len(old) :])
    return HOMES[own]


@cache
def resolve(module: str, name: str) -> Any:
    """What stands for a name of torch's: qcore's own, or a stand-in that says what to use instead.

    An overload of an operator ("add.Scalar") is the operator itself, whose arguments say which is meant.
    """
    if "." in name:
        return resolve(module, name.partition(".")[0])
    for home in homes(module):
        found = vars(import_module(home))
        public = found.get("__all__", found)
        if name in found and (name in public or name.startswith("_")):
            return found[name]
    return refused(module, name, reason_against(module, name))


def _longest(module: str, table: dict[str, Any]) -> str:
    fitting = [key for key in table if module == key or module.startswith(key + ".")]
    return max(fitting, key=len, default="")
