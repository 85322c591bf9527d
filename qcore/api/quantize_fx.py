"""Graph mode: prepare_fx, prepare_qat_fx, convert_fx, convert_to_reference_fx, fuse_fx and lower_fx.

As in torch, with `backend="..."`: the model is bound to it here. What became of each call is `model.qcore_report`.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn

from qcore.api._prepare import bind_model, explain, raise_if_refused
from qcore.api.backend_config import as_backend_config
from qcore.api.custom_config import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig, as_config
from qcore.api.qconfig_mapping import (
    as_qconfig_mapping,
    get_default_qat_qconfig_mapping,
    get_default_qconfig_mapping,
)
from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError, UnsupportedError
from qcore.fx import flow
from qcore.fx.allowed import Allowed
from qcore.fx.arguments import by_parameter
from qcore.fx.graph_module import preserve
from qcore.nn.weights import check_initialized, check_plain, copied, settle
from qcore.registry import registry
from qcore.report import Report
from qcore.selection import BackendLike, Selection
from qcore.tensor.arguments import check_module
from qcore.tensor.entering import on_the_cpu

__all__ = ["convert_fx", "convert_to_reference_fx", "fuse_fx", "lower_fx", "prepare_fx", "prepare_qat_fx"]


def prepare_fx(
    model: nn.Module,
    qconfig_mapping: Any = None,
    example_inputs: tuple[Any, ...] | None = None,
    prepare_custom_config: PrepareCustomConfig | dict[str, Any] | None = None,
    _equalization_config: None = None,
    backend_config: Any = None,
    *,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """Trace a model in eval mode, fuse it, and put observers where it will be quantized; the model stays as it is.

    `qconfig_mapping`: a QConfigMapping, its dict form or one QConfig; by default the backend's own. `example_inputs`: a
    tuple of inputs as the model takes them. Modules that cannot be traced become leaves, with graphs of their own
    inside where that can be; with `strict`, they and all that stays float unasked are a QuantizationError. `backend`: a
    name, or several in order of preference; `fallback`: who runs what they do not declare, "error" for nobody, None for
    any that offers itself. Raises BackendError for a backend that is missing or cannot run here, QuantizationError for
    rules that match nothing, or a QConfig that the backend cannot run, ArgumentError for missing example inputs.
    """
    if _equalization_config is not None:
        raise UnsupportedError("prepare_fx: _equalization_config: scales of inputs and weights are not equalized here")
    selection = Selection.of(backend, fallback)
    if qconfig_mapping is None:
        qconfig_mapping = get_default_qconfig_mapping(str(selection))
    return _prepare(
        model, qconfig_mapping, example_inputs, prepare_custom_config, backend_config, selection, strict, False
    )


def prepare_qat_fx(
    model: nn.Module,
    qconfig_mapping: Any = None,
    example_inputs: tuple[Any, ...] | None = None,
    prepare_custom_config: PrepareCustomConfig | dict[str, Any] | None = None,
    backend_config: Any = None,
    *,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """Trace a model in training mode, fuse it with batch norms kept, and put fake-quantizers where it will be
    quantized.

    Arguments and errors as of prepare_fx; the default mapping is the backend's own for training.
    """
    selection = Selection.of(backend, fallback)
    if qconfig_mapping is None:
        qconfig_mapping = get_default_qat_qconfig_mapping(str(selection))
    return _prepare(
        model, qconfig_mapping, example_inputs, prepare_custom_config, backend_config, selection, strict, True
    )


@on_the_cpu()
def _prepare(
    model: nn.Module,
    qconfig_mapping: Any,
    example_inputs: Any,
    prepare_custom_config: Any,
    backend_config: Any,
    selection: Selection,
    strict: bool,
    is_qat: bool,
) -> nn.Module:
    name = "prepare_qat_fx" if is_qat else "prepare_fx"
    mapping = as_qconfig_mapping(qconfig_mapping)
    custom = as_config(prepare_custom_config, PrepareCustomConfig, "prepare_custom_config")
    _check_model(name, model)
    _check_inputs(name, model, example_inputs)
    if is_qat != model.training:
        raise QuantizationError(
            f"{name}: the model is in {'training' if model.training else 'eval'} mode; call "
            f"model.{'train' if is_qat else 'eval'}() first"
        )
    choice = registry.choose(str(selection))
    allowed = Allowed(as_backend_config(backend_config), registry.brought(choice.name))
    run = flow.Preparation(mapping, custom, choice.name, strict, is_qat, allowed)
    for path, module in model.named_modules():
        check_initialized(path, module)
    if is_qat:
        check_plain(model, name)
    float_model = copied(model)
    settle(float_model)
    prepared: Any = run.run(float_model, by_parameter(float_model, example_inputs))
    report = Report(choice.name, tuple(run.rows), explain(choice))
    raise_if_refused(report, strict)
    prepared.qcore_stage = "prepared"
    preserve(prepared, float_model, custom.preserved_attributes, name)
    bind_model(prepared, report)
    return prepared  # type: ignore[no-any-return]


def _check_model(name: str, model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"{name}: model must be an nn.Module; got a {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise ArgumentTypeError(f"{name}: a scripted model cannot be traced; give the nn.Module that it was made from")
    stage = getattr(model, "qcore_stage", None) or ("prepared or converted" if "qcore_report" in vars(model) else None)
    if stage is not None:
        raise QuantizationError(f"{name}: this model is {stage} already; give it the float model")


def _check_inputs(name: str, model: nn.Module, example_inputs: Any) -> None:
    if not isinstance(example_inputs, tuple):
        given = "nothing" if example_inputs is None else type(example_inputs).__name__
        raise ArgumentError(
            f"{name}: example_inputs must be a tuple of inputs as the model is called with, such as "
            f"(torch.randn(1, 3, 224, 224),); got {given}"
        )
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*example_inputs)
    except TypeError as error:
        raise ArgumentError(
            f"{name}: example_inputs has {len(example_inputs)} values, which do not fit {type(model).__name__}.forward"
            f"{signature}: {error}"
        ) from error


@on_the_cpu()
def convert_fx(
    graph_module: nn.Module,
    convert_custom_config: ConvertCustomConfig | dict[str, Any] | None = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: Any = None,
    backend_config: Any = None,
    keep_original_weights: bool = False,
) -> nn.Module:
    """A calibrated model from prepare_fx or prepare_qat_fx -> one that runs on integers, on the backend chosen there.

    It is convert_to_reference_fx followed by lower_fx. What is quantized was decided in prepare: `backend_config` and
    `_remove_qconfig` change nothing here; a `qconfig_mapping`, or `keep_original_weights`, is an UnsupportedError.
    Raises QuantizationError for a model that was not prepared, or is converted already; naming the place, where it was
    not calibrated or its statistics are not finite.
    """
    if keep_original_weights:
        raise UnsupportedError(
            "convert_fx: keep_original_weights: keep the float model, which prepare_fx left as it was"
        )
    model = _reference(graph_module, convert_custom_config, qconfig_mapping, "convert_fx")
    return _lowered(model, model.qcore_backend)


@on_the_cpu()
def convert_to_reference_fx(
    graph_module: nn.Module,
    convert_custom_config: ConvertCustomConfig | dict[str, Any] | None = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: Any = None,
    backend_config: Any = None,
) -> nn.Module:
    """A calibrated model -> its reference form: float operations between Quantize and dequantize.

    It holds all that a backend needs, and names none of its kernels: lower_fx makes it run on any backend, with the
    same integers on each; run as it is, it computes in float, within one step of each result's scale of them. Raises
    as convert_fx.
    """
    reference: nn.Module = _reference(graph_module, convert_custom_config, qconfig_mapping, "convert_to_reference_fx")
    return reference


@on_the_cpu()
def lower_fx(model: nn.Module, backend: BackendLike | None = None) -> nn.Module:
    """A reference model -> one that runs on integers on a backend; None: the one it was prepared for.

    Raises QuantizationError for another kind of model, BackendError for a backend that is missing or cannot run here.
    """
    if getattr(model, "qcore_stage", None) != "reference":
        raise QuantizationError("lower_fx takes a model from convert_to_reference_fx")
    chosen = registry.choose(getattr(model, "qcore_backend", None) if backend is None else backend).name
    return _lowered(copy.deepcopy(model), chosen)


def _lowered(model: Any, backend: str) -> nn.Module:
    flow.to_quantized(model, backend)
    model.qcore_stage = "converted"
    model.qcore_backend = backend
    return model  # type: ignore[no-any-return]


def _reference(model: nn.Module, convert_custom_config: Any, qconfig_mapping: Any, name: str) -> Any:
    custom = as_config(convert_custom_config, ConvertCustomConfig, "convert_custom_config")
    stage = getattr(model, "qcore_stage", None)
    if stage in ("converted", "reference"):
        raise QuantizationError(f"{name}: this model is {stage} already; call it once, on the prepared model")
    if stage != "prepared":
        if isinstance(getattr(model, "qcore_report", None), Report):
            raise QuantizationError(
                f"{name}: this {type(model).__name__} was prepared or converted module by module, without a graph; "
                "qcore.convert converts what qcore.prepare has prepared"
            )
        raise QuantizationError(
            f"{name}: this {type(model).__name__} was not prepared; call prepare_fx first, calibrate"
        )
    if qconfig_mapping is not None:
        raise UnsupportedError(
            f"{name}: qconfig_mapping: rules are given to prepare_fx; None there leaves a layer float"
        )
    reference: Any = copy.deepcopy(model)
    flow.to_reference(reference, reference.qcore_backend, custom)
    reference.qcore_stage = "reference"
    preserve(reference, model, custom.preserved_attributes, name)
    return reference


def fuse_fx(
    model: nn.Module,
    fuse_custom_config: FuseCustomConfig | dict[str, Any] | None = None,
    backend_config: Any = None,
    *,
    backend: BackendLike = "auto",
) -> nn.Module:
    """Trace a model in eval mode and fuse what the backend runs as one operation; float in, float out as before.

    Raises QuantizationError for a model in training mode, BackendError as prepare_fx.
    """
    check_module("fuse_fx", model)
    if model.training:
        raise QuantizationError("fuse_fx: the model is in training mode; call model.eval() first")
    custom = as_config(fuse_custom_config, FuseCustomConfig, "fuse_custom_config")
    source = copy.deepcopy(model)
    graph = flow.fused(source, registry.choose(backend).name, Allowed(as_backend_config(backend_config)))
    preserve(graph, source, custom.preserved_attributes, "fuse_fx")
    return graph
