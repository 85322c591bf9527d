"""prepare: bind the model to a backend, check that it can run what is asked, and put observers in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from qcore.api._layers import (
    OBSERVER,
    Layer,
    apply_swaps,
    check_names,
    children_of,
    keep_hooks,
    layers,
    lent,
    observe_input,
    observe_output,
    opaque,
    watch,
)
from qcore.api._watch import Watch
from qcore.api.fake_quantize import (
    FakeQuantizeBase,
    default_fixed_qparams_range_0to1_fake_quant,
    default_fixed_qparams_range_neg1to1_fake_quant,
)
from qcore.api.observer import ObserverBase
from qcore.api.qconfig import get_default_qat_qconfig, get_default_qconfig
from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError, QuantizationError, UnsupportedError
from qcore.nn import catalog
from qcore.nn.intrinsic.folding import first_layer
from qcore.nn.qat import dynamic as nnqatd
from qcore.nn.quantizable import Quantizable
from qcore.nn.quantized.base import QuantizedModule, float_dtype_of
from qcore.nn.quantized.functional_modules import FloatFunctional
from qcore.nn.quantized.observed import no_static_activation
from qcore.nn.weights import check_plain, copied
from qcore.registry import BY_NAME, Choice, registry
from qcore.report import Report, Row
from qcore.selection import BackendLike, Selection
from qcore.tensor.arguments import check_flag, check_module
from qcore.tensor.dtypes import as_qdtype, quint8
from qcore.tensor.entering import on_the_cpu

CustomConfig = dict[str, dict[type[nn.Module], type[nn.Module]]]


def propagate_qconfig_(
    module: nn.Module,
    qconfig_dict: dict[Any, Any] | None = None,
    prepare_custom_config_dict: CustomConfig | None = None,
) -> None:
    """Give every module its `qconfig`, in place: its own, else by name or type in `qconfig_dict`, else its parent's.

    Raises QuantizationError for a name that the model does not have.
    """
    check_module("propagate_qconfig_", module)
    if not isinstance(qconfig_dict, dict | None):
        raise ArgumentTypeError(f"qconfig_dict must be a dict to QConfigs, not {type(qconfig_dict).__name__}")
    rules = qconfig_dict or {}
    check_names(module, [key for key in rules if isinstance(key, str) and key], "qconfig_dict")
    for layer in layers(module, rules, tuple(_custom(prepare_custom_config_dict))):
        layer.module.qconfig = layer.qconfig


def prepare(
    model: nn.Module,
    inplace: bool = False,
    allow_list: Collection[type[nn.Module]] | None = None,
    observer_non_leaf_module_list: Collection[type[nn.Module]] | None = None,
    prepare_custom_config_dict: CustomConfig | None = None,
    *,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """Choose the backend, check that it runs the model as its qconfigs say, and insert observers.

    Then calibrate and `convert`. `backend`: a name, or several in order of preference; `fallback`: who runs what they
    do not declare, "error" for nobody, None for any that offers itself. They stay with the model as
    `model.qcore_backend`; the plan is `model.qcore_report`. Where no module has a `qconfig`, the backend's default is
    used. `allow_list`: the only module classes to quantize; `observer_non_leaf_module_list`: further classes to
    observe; `prepare_custom_config_dict`: {"float_to_observed_custom_module_class": {Float: Observed}}, instead of the
    default, which takes nn.LSTM and nn.MultiheadAttention apart into layers. On error nothing is changed. Raises
    BackendError for a backend that is missing or unable to run here, QuantizationError for a qconfig that it cannot
    run, or, with `strict`, for layers that will stay float.
    """
    return prepare_model(
        model,
        inplace,
        allow_list,
        observer_non_leaf_module_list,
        prepare_custom_config_dict,
        Selection.of(backend, fallback),
        strict,
    )


@on_the_cpu()
def prepare_model(
    model: nn.Module,
    inplace: bool,
    allow_list: Collection[type[nn.Module]] | None,
    non_leaf: Collection[type[nn.Module]] | None,
    custom_config: CustomConfig | None,
    selection: Selection,
    strict: bool,
    trained: catalog.Mapping | None = None,
) -> nn.Module:
    """prepare, or with `trained` (float class -> class with fake quantization) prepare_qat."""
    check_module("prepare", model)
    check_flag(inplace=inplace)
    for name, given in (("allow_list", allow_list), ("observer_non_leaf_module_list", non_leaf)):
        if given is not None and not (isinstance(given, Collection) and all(isinstance(kind, type) for kind in given)):
            raise ArgumentTypeError(f"{name}={given!r} must be a list of module classes")
    choice = registry.choose(str(selection))
    name = choice.name
    custom = _custom(custom_config)
    if not inplace:
        model = copied(model)
    wholes = (*custom, *catalog.mapping("static"), *opaque(model))
    plan = _resolved(model, name, wholes, get_default_qconfig if trained is None else get_default_qat_qconfig)
    plan, apart = _taken_apart(plan, custom)
    table = {**catalog.mapping("static"), **_ends_of(trained or {})}
    rows = [row for layer in plan for row in _row(layer, name, allow_list, custom, table)]
    report = Report(name, tuple(rows), explain(choice))
    raise_if_refused(report, strict)
    quantized = {row.path for row in rows if row.outcome == "quantized"}
    watched = {row.path for row in rows if row.outcome in ("in float", "passed through") and allow_list is None}
    swaps = _for_training([layer for layer in plan if layer.path in quantized], trained or {})
    for layer in plan:
        swaps.get(id(layer.module), layer.module).qconfig = layer.qconfig
    model = apply_swaps(apply_swaps(model, apart), swaps)
    _insert(model, quantized, custom, non_leaf, watched=watched)
    if trained is not None:
        _round_fixed_ranges(model)
    bind_model(model, report)
    return model


def _taken_apart(plan: list[Layer], custom: catalog.Mapping) -> tuple[list[Layer], dict[int, nn.Module]]:
    """The plan with the parts of each layer that is quantized part by part; the new modules by the id of the old."""
    expanded: list[Layer] = []
    swaps: dict[int, nn.Module] = {}
    for layer in plan:
        target: Any = custom.get(type(layer.module))
        static = layer.qconfig is not None and not no_static_activation(layer.qconfig)
        if target is None or not issubclass(target, Quantizable) or not static:
            expanded.append(layer)
            continue
        try:
            with lent(layer.module, qconfig=layer.qconfig):
                whole: Any = target.from_float(layer.module)
        except UnsupportedError as error:
            raise QuantizationError(
                f"module {layer.path!r} ({type(layer.module).__name__}): {error}; set its qconfig to None to leave it "
                "float"
            ) from error
        swaps[id(layer.module)] = whole
        whole.qcore_path = layer.path
        keep_hooks(layer.module, whole)
        for part in layers(whole, {"": layer.qconfig}):
            expanded.append(replace(part, path=".".join(name for name in (layer.path, part.path) if name)))
    return expanded, swaps


def _ends_of(trained: catalog.Mapping) -> catalog.Mapping:
    """Float class -> what convert makes of the class that it is trained as."""
    ends = catalog.conversion()
    return {kind: ends[target] for kind, target in trained.items() if target in ends}


def _for_training(plan: list[Layer], trained: catalog.Mapping) -> dict[int, nn.Module]:
    """The module with fake quantization for each float one that has such a form, by id."""
    swaps: dict[int, nn.Module] = {}
    for layer in plan:
        target: Any = catalog.match(type(layer.module), trained).target
        if target is not None:
            check_plain(layer.module, "prepare_qat", layer.path)
            with lent(layer.module, qconfig=layer.qconfig):
                swaps[id(layer.module)] = target.from_float(layer.module)
            keep_hooks(layer.module, swaps[id(layer.module)])
    return swaps


def bind_model(model: nn.Module, report: Report) -> None:
    """Note the backend and the report on the model, and the backend on what observes in it."""
    as_any: Any = model
    as_any.qcore_backend = report.backend
    as_any.qcore_report = report
    for part in model.modules():
        if isinstance(part, ObserverBase | FakeQuantizeBase | Watch):
            part.qcore_backend = report.backend


def raise_if_refused(report: Report, strict: bool) -> None:
    """With `strict`, QuantizationError that lists each layer which was asked for and stays float."""
    if strict and report.refused_rows:
        lines = [f"  {row.path or '(root)'} ({row.float_type}): {row.reason}" for row in report.refused_rows]
        raise QuantizationError(
            "strict=True, and these layers would stay float:\n"
            + "\n".join(lines)
            + "\nSet their qconfig to None to accept that"
        )


def _custom(config: CustomConfig | None) -> dict[type[nn.Module], type[nn.Module]]:
    if config is not None and not isinstance(config, dict):
        raise ArgumentTypeError(f"the custom config must be a dict or None, not {type(config).__name__}")
    unknown = sorted(set(config or {}) - {"float_to_observed_custom_module_class"})
    if unknown:
        raise ArgumentError(
            f"the custom config's key is 'float_to_observed_custom_module_class', not {', '.join(map(repr, unknown))}"
        )
    return catalog.observed() if config is None else config.get("float_to_observed_custom_module_class", {})


def explain(choice: Choice) -> str:
    """Why a model runs on this backend, where the user did not name it."""
    return "" if choice.reason == BY_NAME else f"{choice.backend.name}: {choice.reason}"


def _resolved(
    model: nn.Module, backend: str, wholes: tuple[type[nn.Module], ...], default: Callable[[str], Any]
) -> list[Layer]:
    plan = layers(model, {}, wholes)
    if any(getattr(layer.module, "qconfig", None) is not None for layer in plan):
        return plan
    return layers(model, {"": default(backend)}, wholes)


IN_FLOAT = "no kernel on integers: what is quantized is dequantized before it, and quantized again after it"


def _row(
    layer: Layer,
    backend: str,
    allow_list: Collection[type[nn.Module]] | None,
    custom: catalog.Mapping,
    table: catalog.Mapping,
) -> list[Row]:
    """What will become of a layer; nothing for containers."""
    kind = type(layer.module)
    name = kind.__name__
    found = catalog.match(kind, table)
    if kind in custom and layer.qconfig is not None and not issubclass(custom[kind], Quantizable):
        return [Row(layer.path, name, "quantized", backend, "custom")]
    if not layer.whole:
        return []
    asked = layer.qconfig is not None
    is_static = allow_list is None and _is_static(layer.qconfig)
    if found.target is None and catalog.is_transparent(layer.module):
        return [Row(layer.path, name, "passed through", asked=asked)]
    reason = _reason_against(layer, found, allow_list)
    known = found.target is not None or bool(found.reason) or any(True for _ in layer.module.parameters())
    if is_static and found.target is None and float_dtype_of(layer.module) is torch.float32:
        return [
            Row(layer.path, name, "in float", reason="; ".join(filter(None, (found.reason, IN_FLOAT))), asked=known)
        ]
    if reason:
        return [Row(layer.path, name, "float", reason=reason, asked=asked and known)]
    target: Any = found.target
    try:
        planned: QuantizedModule = target.planned(layer.module, layer.qconfig, backend)
        return [described(layer.path, name, planned)]
    except UnsupportedError as error:
        raise QuantizationError(
            f"module {layer.path!r} ({name}): backend {backend!r} cannot run its qconfig {layer.qconfig}: {error}"
        ) from error
    except QcoreError as error:
        raise QuantizationError(f"module {layer.path!r} ({name}): {error}") from error


def _is_static(qconfig: Any) -> bool:
    return qconfig is not None and not no_static_activation(qconfig)


def _reason_against(layer: Layer, found: catalog.Match, allow_list: Collection[type[nn.Module]] | None) -> str:
    """Why a layer stays float; empty if nothing stands against quantizing it."""
    kind = type(layer.module)
    if layer.qconfig is None:
        return "its qconfig is None"
    if found.target is None:
        return found.reason or f"{kind.__name__} has no statically quantized form"
    if allow_list is not None and kind not in allow_list:
        return "its class is not in allow_list"
    target: Any = found.target
    reason: str = target.reason_against(layer.qconfig) or target.reason_against_layer(first_layer(layer.module))
    return reason


def described(path: str, float_type: str, module: nn.Module) -> Row:
    """The row of a quantized module; UnsupportedError if no backend runs it."""
    if not isinstance(module, QuantizedModule):
        return Row(
            path, float_type, "quantized", operator=type(module).__name__, reason="a class of the user's own mapping"
        )
    output = getattr(module, "_out", None)
    binding = module.binding(quint8 if output is None else output.dtype)
    weight = getattr(module, "_qweight", None)
    names = [str(qparams.dtype.name) for qparams in (weight, output) if qparams is not None]
    names += ["float16"] if getattr(module, "float16", False) else []
    return Row(
        path, float_type, "quantized", binding.runs_on, str(binding.operator), " -> ".join(names), binding.reason
    )


# --- observers --------------------------------------------------------------------------------------------------------


def add_observer_(
    module: nn.Module,
    qconfig_propagation_list: Collection[type[nn.Module]] | None = None,
    non_leaf_module_list: Collection[type[nn.Module]] | None = None,
    device: Any = None,
    custom_module_class_mapping: dict[type[nn.Module], type[nn.Module]] | None = None,
) -> None:
    """Put an observer on the output of each layer that has a `qconfig` and a statically quantized form; in place.

    Raises no errors of its own.

    `qconfig_propagation_list`: the only classes to observe; `non_leaf_module_list`: further classes to observe, leaves
    or not.
    """
    custom = custom_module_class_mapping or {}
    paths = set()
    for layer in layers(module, {}, tuple(custom)):
        found = catalog.match(type(layer.module), catalog.mapping("static"))
        if layer.whole and not _reason_against(layer, found, qconfig_propagation_list):
            paths.add(layer.path)
    _insert(module, paths, custom, non_leaf_module_list, device)


def _insert(
    model: nn.Module,
    paths: Collection[str],
    custom: dict[type[nn.Module], type[nn.Module]],
    non_leaf: Collection[type[nn.Module]] | None,
    device: Any = None,
    watched: Collection[str] = (),
) -> None:
    table = catalog.conversion()
    for layer in layers(model, {}, (*custom, *table, *opaque(model))):
        module: Any = layer.module
        kind = type(module)
        if kind in custom and layer.qconfig is not None and not issubclass(custom[kind], Quantizable):
            observed: Any = custom[kind]
            _replace(model, layer.path, observed.from_float(module))
        elif layer.path in paths:
            if getattr(catalog.match(kind, table).target, "observes_output", False):
                _observe(layer, device)
            elif isinstance(module, nnqatd.Linear):
                _observe(layer, device, before=True)
        elif kind in (non_leaf or ()) and layer.qconfig is not None:
            _observe(layer, device)
        elif layer.path in watched and kind not in _FIXED_RANGES and _is_static(layer.qconfig):
            module.add_module(OBSERVER, Watch(layer.qconfig, layer.path, probes=not children_of(module)))
            module.register_forward_hook(watch, prepend=True, with_kwargs=True)


_FIXED_RANGES = {
    nn.Sigmoid: default_fixed_qparams_range_0to1_fake_quant,
    nn.Hardsigmoid: default_fixed_qparams_range_0to1_fake_quant,
    nn.Tanh: default_fixed_qparams_range_neg1to1_fake_quant,
}
"""Layers whose quantized results have a scale and zero point that no data decides."""


def _round_fixed_ranges(model: nn.Module) -> None:
    """Let training see the rounding of results in fixed ranges, for layers whose qconfig is for 8-bit activations."""
    for layer in layers(model, {}):
        rounding = _FIXED_RANGES.get(type(layer.module))
        if rounding is None or layer.qconfig is None or no_static_activation(layer.qconfig):
            continue
        if as_qdtype(layer.qconfig.activation().dtype) == quint8:
            layer.module.add_module(OBSERVER, rounding())
            layer.module.register_forward_hook(observe_output, prepend=True)


def _observe(layer: Layer, device: Any, before: bool = False) -> None:
    module = layer.module
    observer = layer.qconfig.activation()
    observer.qcore_path = layer.path
    if device is not None:
        observer.to(device)
    already = isinstance(getattr(module, OBSERVER, None), nn.Module) and not isinstance(module, FloatFunctional)
    module.add_module(OBSERVER, observer)
    if before:
        module.register_forward_pre_hook(observe_input, with_kwargs=True)
    elif not already and not isinstance(module, FloatFunctional):
        module.register_forward_hook(observe_output, prepend=True)


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = new


def get_observer_dict(mod: nn.Module, target_dict: dict[str, Any], prefix: str = "") -> None:
    """Put every observer of a model into `target_dict`, under its own path (module path, "activation_post_process")."""
    check_module("get_observer_dict", mod)
    for path, module in mod.named_modules():
        observer = module._modules.get(OBSERVER)
        if observer is not None:
            key = ".".join(part for part in (prefix, path, OBSERVER) if part)
            target_dict[key] = observer
