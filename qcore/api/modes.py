"""prepare and convert for both modes: by modules, or by the graph where example inputs are given."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from qcore.api._prepare import CustomConfig
from qcore.api.qconfig_mapping import QConfigMapping
from qcore.api.quantize import convert as convert_modules
from qcore.api.quantize import prepare as prepare_modules
from qcore.api.quantize_fx import convert_fx, convert_to_reference_fx, prepare_fx
from qcore.errors import ArgumentError
from qcore.nn import catalog
from qcore.selection import BackendLike
from qcore.tensor.arguments import check_module

__all__ = ["convert", "prepare"]


def prepare(
    model: nn.Module,
    inplace: bool = False,
    allow_list: Collection[type[nn.Module]] | None = None,
    observer_non_leaf_module_list: Collection[type[nn.Module]] | None = None,
    prepare_custom_config_dict: CustomConfig | None = None,
    *,
    example_inputs: tuple[Any, ...] | None = None,
    qconfig_mapping: Any = None,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """Choose the backend, check that it runs the model as its qconfigs say, and insert observers.

    With `example_inputs`, a tuple as the model is called with, the model is traced: no stubs are needed, functions are
    quantized and layers fused by themselves (see prepare_fx); parts that cannot be traced are quantized layer by layer.
    `qconfig_mapping`, or else the modules' own `qconfig`, says how. Without, the modules are quantized between
    QuantStub and DeQuantStub (see qcore.api.quantize.prepare, for the other arguments too). What will become of each
    call is `model.qcore_report`. Raises as these two; ArgumentError for arguments of one mode in the other.
    """
    check_module("prepare", model)
    if example_inputs is None:
        if qconfig_mapping is not None:
            raise ArgumentError("qconfig_mapping is for models that are traced: give example_inputs too")
        return prepare_modules(
            model,
            inplace,
            allow_list,
            observer_non_leaf_module_list,
            prepare_custom_config_dict,
            backend=backend,
            fallback=fallback,
            strict=strict,
        )
    if inplace or allow_list is not None or observer_non_leaf_module_list is not None:
        raise ArgumentError(
            "example_inputs: a model that is traced is not changed in place, and takes a qconfig_mapping instead of "
            "allow_list and observer_non_leaf_module_list"
        )
    mapping = _own_mapping(model) if qconfig_mapping is None else qconfig_mapping
    custom = {key: {"static": value} for key, value in (prepare_custom_config_dict or {}).items()}
    return prepare_fx(model, mapping, example_inputs, custom, backend=backend, fallback=fallback, strict=strict)


def convert(
    module: nn.Module,
    mapping: catalog.Mapping | None = None,
    inplace: bool = False,
    remove_qconfig: bool = True,
    is_reference: bool = False,
    convert_custom_config_dict: CustomConfig | None = None,
    use_precomputed_fake_quant: bool = False,
    *,
    strict: bool = False,
) -> nn.Module:
    """Turn a prepared and calibrated model into one that runs in integers, on the backend chosen in `prepare`.

    For a model prepared with example inputs it is convert_fx (`is_reference`: convert_to_reference_fx), else
    qcore.api.quantize.convert, which says what the other arguments mean; errors as theirs.
    """
    if getattr(module, "qcore_stage", None) is None:
        return convert_modules(
            module,
            mapping,
            inplace,
            remove_qconfig,
            is_reference,
            convert_custom_config_dict,
            use_precomputed_fake_quant,
            strict=strict,
        )
    if mapping is not None or inplace:
        raise ArgumentError("a model that was traced is not converted in place, and takes no mapping of module classes")
    custom = {key: {"static": value} for key, value in (convert_custom_config_dict or {}).items()}
    make = convert_to_reference_fx if is_reference else convert_fx
    return make(module, custom)


def _own_mapping(model: nn.Module) -> QConfigMapping | None:
    """The mapping that modules' own qconfigs amount to; None where none has one."""
    own = {path: module.__dict__["qconfig"] for path, module in model.named_modules() if "qconfig" in vars(module)}
    if not any(qconfig is not None for qconfig in own.values()):
        return None
    mapping = QConfigMapping().set_global(own.pop("", None))
    for path, qconfig in own.items():
        mapping.set_module_name(path, qconfig)
    return mapping
