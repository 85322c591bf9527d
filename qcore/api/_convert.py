"""convert: swap calibrated float modules for quantized ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from qcore.api._layers import (
    OBSERVER,
    OBSERVING,
    Layer,
    apply_swaps,
    check_mapping,
    keep_hooks,
    layers,
    lent,
    opaque,
    without_hooks,
)
from qcore.api._prepare import IN_FLOAT, CustomConfig, bind_model, described, raise_if_refused
from qcore.api._reference import reference_form
from qcore.api._watch import Watch
from qcore.errors import QuantizationError
from qcore.nn import catalog
from qcore.nn.quantizable import Quantizable
from qcore.nn.quantized.in_float import InFloat
from qcore.nn.weights import copied
from qcore.registry import registry
from qcore.report import Report, Row
from qcore.tensor.arguments import check_module, check_type
from qcore.tensor.entering import on_the_cpu


@on_the_cpu()
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
    """Swap each prepared and calibrated module for its quantized form, which runs on the backend chosen in `prepare`.

    `mapping`: float class -> quantized class, instead of the default; `remove_qconfig`: also take away qconfigs and
    observers of what is left float; `is_reference`: modules compute in float, with the weights and roundings of the
    quantized ones, which they hold as `quantized` (sigmoid and tanh are not rounded); `convert_custom_config_dict`:
    {"observed_to_quantized_custom_module_class": {Observed: Quantized}}, instead of the default for what prepare takes
    apart. What became of each module is `model.qcore_report`. A root that is a layer itself is returned swapped. On
    error nothing is changed. Raises QuantizationError, naming the module, for missing calibration or statistics that
    are not finite, or, with `strict`, for layers that stay float.
    """
    check_module("convert", module)
    table = catalog.conversion() if mapping is None else mapping
    check_mapping(table)
    custom = _custom(convert_custom_config_dict)
    if not inplace:
        module = copied(module)
    backend = registry.choose(getattr(module, "qcore_backend", None)).name
    planned: Report | None = getattr(module, "qcore_report", None)
    left = {} if planned is None else {row.path: row for row in planned if row.outcome != "quantized"}
    rows: list[Row] = []
    swaps: dict[int, nn.Module] = {}
    wholes = [kind for kind in custom if not issubclass(kind, Quantizable)]
    plan = layers(module, {}, (*wholes, *table, *opaque(module)))
    if planned is None and all(layer.qconfig is None for layer in plan):
        raise QuantizationError("no module of this model has a qconfig: call prepare, and calibrate, before convert")
    for layer in plan:
        kind = type(layer.module)
        if layer.path in left:
            row = left[layer.path]
            if isinstance(layer.module._modules.get(OBSERVER), Watch):
                new, row = _watched(layer, backend, row)
                swaps |= {} if new is None or is_reference else {id(layer.module): new}
            rows.append(row)
        elif layer.qconfig is None:
            continue
        elif kind in custom:
            target: Any = custom[kind]
            if is_reference and kind not in wholes:
                continue
            swaps[id(layer.module)] = target.from_observed(layer.module)
            if kind in wholes:
                rows.append(Row(layer.path, kind.__name__, "quantized", backend, "custom"))
        elif layer.whole:
            found = catalog.match(kind, table)
            if found.target is not None:
                new = build(layer, found.target, backend)
                row = described(layer.path, kind.__name__, new)
                if is_reference:
                    new = reference_form(layer.module, new)
                    if getattr(new, "layer", None) is not layer.module:
                        keep_hooks(layer.module, new)
                    row = replace(row, backend="", reason="in reference form: it computes in float")
                swaps[id(layer.module)] = new
                rows.append(row)
    report = Report(backend, tuple(rows), "" if planned is None else planned.why_backend)
    raise_if_refused(report, strict)
    module = apply_swaps(module, swaps)
    strip(module, remove_qconfig or is_reference)
    bind_model(module, report)
    return module


def _watched(layer: Layer, backend: str, row: Row) -> tuple[nn.Module | None, Row]:
    """What calibration has found of a layer without a quantized form: what stands in its place, and its row."""
    module = layer.module
    watch: Any = module._modules[OBSERVER]
    if watch.works is not False:
        if row.outcome == "passed through":
            return None, row
        if watch.works:
            return None, replace(row, outcome="passed through", reason="", asked=False)
        return None, replace(row, outcome="float", reason="calibration never called it with floats")
    bare = without_hooks(module)
    bare = bare if bare is not module else copy.copy(module)
    bare._modules = {name: each for name, each in module._modules.items() if name != OBSERVER}
    vars(bare).pop("qconfig", None)
    with lent(module, qcore_path=layer.path, qcore_backend=backend):
        new = InFloat.around(bare, module, watch.observers)
    keep_hooks(module, new)
    if not any(new.results()):
        return new, replace(row, outcome="float", reason=_GIVES_FLOATS)
    return new, replace(row, outcome="in float", reason=row.reason or IN_FLOAT)


_GIVES_FLOATS = "no kernel on integers: it dequantizes and gives floats, as calibration saw no finite results of it"


def _custom(config: CustomConfig | None) -> catalog.Mapping:
    if config is None:
        return catalog.converted()
    check_type("convert", Mapping, convert_custom_config_dict=config)
    found = config.get("observed_to_quantized_custom_module_class", {})
    check_type("convert", Mapping, observed_to_quantized_custom_module_class=found)
    return found


def build(layer: Layer, target: Any, backend: str, **attributes: Any) -> nn.Module:
    """The quantized module for a layer; `attributes` are lent to the float one meanwhile."""
    with lent(layer.module, qcore_path=layer.path, qcore_backend=backend, **attributes):
        new: nn.Module = target.from_float(layer.module)
    keep_hooks(layer.module, new)
    return new


def swap_module(
    mod: nn.Module,
    mapping: catalog.Mapping,
    custom_module_class_mapping: Mapping[type[nn.Module], Any] | None = None,
    use_precomputed_fake_quant: bool = False,
) -> nn.Module:
    """The quantized form of one module with a `qconfig`, hooks kept; the module itself where there is none.

    Raises QuantizationError for missing calibration or statistics that are not finite.
    """
    check_module("swap_module", mod)
    if getattr(mod, "qconfig", None) is None:
        return mod
    custom: Any = (custom_module_class_mapping or {}).get(type(mod))
    if custom is not None:
        new: nn.Module = custom.from_observed(mod)
        keep_hooks(mod, new)
        return new
    target: Any = catalog.match(type(mod), mapping).target
    if target is None:
        return mod
    new = target.from_float(mod)
    keep_hooks(mod, new)
    return new


def strip(model: nn.Module, everything: bool = True) -> None:
    """Take away what prepare has added to the modules of a model; or only to those that now see integers."""
    for module in list(model.modules()):
        if everything:
            module.__dict__.pop("qconfig", None)
        elif not isinstance(module, catalog.TRANSPARENT) and not isinstance(module._modules.get(OBSERVER), Watch):
            continue
        for key, hook in list(module._forward_hooks.items()):
            if hook in OBSERVING:
                del module._forward_hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
                del module._modules[OBSERVER]
