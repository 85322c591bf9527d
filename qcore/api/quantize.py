"""Quantization of eager models: prepare and convert, quantize in one call, and dynamic quantization."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from qcore.api._convert import build, convert, swap_module
from qcore.api._layers import Layer, apply_swaps, check_mapping, check_names, layers
from qcore.api._prepare import (
    add_observer_,
    bind_model,
    described,
    explain,
    get_observer_dict,
    prepare,
    propagate_qconfig_,
    raise_if_refused,
)
from qcore.api.qconfig import (
    float16_dynamic_qconfig,
    float_qparams_weight_only_qconfig,
    float_qparams_weight_only_qconfig_4bit,
    get_default_dynamic_qconfig,
)
from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError, QuantizationError, UnsupportedError
from qcore.nn import catalog
from qcore.nn.intrinsic.folding import first_layer
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.weights import copied
from qcore.registry import registry
from qcore.report import Report, Row
from qcore.selection import BackendLike
from qcore.tensor.arguments import check_callable, check_module, check_type
from qcore.tensor.dtypes import as_qdtype, is_qdtype, qint8, quint4x2, quint8
from qcore.tensor.entering import on_the_cpu

__all__ = [
    "add_observer_",
    "convert",
    "default_eval_fn",
    "get_observer_dict",
    "prepare",
    "propagate_qconfig_",
    "quantize",
    "quantize_dynamic",
    "swap_module",
]

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_MULTIPLYING = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.Bilinear, nn.MultiheadAttention)


def default_eval_fn(model: nn.Module, calib_data: Iterable[Any]) -> None:
    """Run a model on each input of (input, target) pairs; ArgumentTypeError for what is no module, or no pairs."""
    check_module("default_eval_fn", model)
    check_type("default_eval_fn", Iterable, calib_data=calib_data)
    for pair in calib_data:
        try:
            data, _ = pair
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(f"default_eval_fn: calib_data must hold (input, target) pairs: {error}") from error
        model(data)


def quantize(
    model: nn.Module,
    run_fn: Callable[..., Any],
    run_args: Iterable[Any],
    mapping: catalog.Mapping | None = None,
    inplace: bool = False,
    *,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """prepare, calibrate by `run_fn(model, *run_args)`, and convert, in eval mode.

    Arguments and errors as theirs.
    """
    check_callable(run_fn=run_fn)
    check_type("quantize", Iterable, run_args=run_args)
    prepared = prepare(model, inplace, backend=backend, fallback=fallback, strict=strict).eval()
    run_fn(prepared, *run_args)
    return convert(prepared, mapping, inplace=True, strict=strict)


@on_the_cpu()
def quantize_dynamic(
    model: nn.Module,
    qconfig_spec: Mapping[Any, Any] | Iterable[Any] | None = None,
    dtype: Any = qint8,
    mapping: catalog.Mapping | None = None,
    inplace: bool = False,
    *,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """Give layers integer weights; their activations stay float between layers and are quantized inside of them.

    `qconfig_spec`: module classes or paths, as a set, or as a dict to the QConfig of each; without one, all classes
    that have a dynamic form. Where it gives no QConfig, `dtype` says: qint8, the backend's own default (per-channel
    weights, all 8 bits of the activations); float16; quint8 or quint4x2, for embeddings. `mapping`: float class ->
    quantized class, instead of the default; `backend`, `fallback`: as of prepare. What became of each layer is
    `model.qcore_report`. A root that is a layer itself is returned swapped. On error nothing is changed. Raises
    BackendError for a backend that is missing or unable to run here, QuantizationError for a name that the model does
    not have, or, with `strict`, for layers that stay float.
    """
    choice = registry.choose(backend, fallback)
    name = choice.name
    rules = _rules(qconfig_spec, dtype, name)
    check_module("quantize_dynamic", model)
    check_names(model, [key for key in rules if isinstance(key, str) and key], "qconfig_spec")
    table = catalog.mapping("dynamic") if mapping is None else mapping
    check_mapping(table)
    if not inplace:
        model = copied(model)
    rows: list[Row] = []
    swaps: dict[int, nn.Module] = {}
    for layer in layers(model, rules, tuple(table)):
        found = catalog.match(type(layer.module), table)
        reason = _reason_against(layer, found)
        if reason:
            rows += _left(layer, reason, rules, qconfig_spec is None)
            continue
        try:
            new = build(layer, found.target, name, qconfig=layer.qconfig)
            row = described(layer.path, type(layer.module).__name__, new)
        except UnsupportedError as error:
            rows += _left(layer, str(error), rules, qconfig_spec is None)
            continue
        except QcoreError as error:
            raise QuantizationError(f"module {layer.path!r}: {error}") from error
        swaps[id(layer.module)] = new
        rows.append(row)
    rows += _absent(model, rules) if qconfig_spec is not None else []
    report = Report(name, tuple(rows), explain(choice))
    raise_if_refused(report, strict)
    model = apply_swaps(model, swaps)
    bind_model(model, report)
    return model


def _rules(spec: Mapping[Any, Any] | Iterable[Any] | None, dtype: Any, backend: str) -> dict[Any, Any]:
    """A QConfig for each class or path."""
    if isinstance(spec, str | type) or (spec is not None and not isinstance(spec, Iterable)):
        raise ArgumentTypeError(f"qconfig_spec={spec!r}: give a set of module classes and paths, or a dict to QConfigs")
    for key in spec or ():
        if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, nn.Module)):
            raise ArgumentTypeError(f"qconfig_spec: {key!r} is neither a module class nor a path")
    if isinstance(spec, Mapping):
        return dict(spec)
    default = _default(dtype, backend)
    if spec is not None:
        return dict.fromkeys(spec, default)
    embeddings = is_qdtype(dtype) and as_qdtype(dtype) in (quint8, quint4x2)
    kinds = [kind for kind in catalog.mapping("dynamic") if issubclass(kind, _EMBEDDINGS) == embeddings]
    return dict.fromkeys(kinds, default)


def _default(dtype: Any, backend: str) -> Any:
    if dtype == torch.float16:
        return float16_dynamic_qconfig
    known = {qint8: get_default_dynamic_qconfig(backend), quint8: float_qparams_weight_only_qconfig}
    known[quint4x2] = float_qparams_weight_only_qconfig_4bit
    if not is_qdtype(dtype) or as_qdtype(dtype) not in known:
        raise ArgumentError(
            f"dtype={dtype!r}: dynamic quantization has qint8, float16, and quint8 and quint4x2 for embeddings"
        )
    return known[as_qdtype(dtype)]


def _reason_against(layer: Layer, found: catalog.Match) -> str:
    """Why a layer stays float; empty if nothing stands against quantizing it."""
    if found.target is None:
        return found.reason or f"{type(layer.module).__name__} has no dynamically quantized form"
    if layer.qconfig is None:
        return "not asked for"
    target: Any = found.target
    if not issubclass(target, QuantizedModule):
        return ""
    reason: str = target.reason_against(layer.qconfig) or target.reason_against_layer(first_layer(layer.module))
    return reason


def _left(layer: Layer, reason: str, rules: Mapping[Any, Any], everything: bool) -> list[Row]:
    """The row of a layer that stays float; nothing for containers and layers without parameters."""
    module, kind = layer.module, type(layer.module)
    if not layer.whole or not any(True for _ in module.parameters()):
        return []
    if "qconfig" in module.__dict__ and module.qconfig is None:
        return [Row(layer.path, kind.__name__, "float", reason="its qconfig is None", asked=False)]
    named = layer.qconfig is not None or isinstance(module, tuple(key for key in rules if isinstance(key, type)))
    asked = named or (everything and isinstance(module, _MULTIPLYING))
    return [Row(layer.path, kind.__name__, "float", reason=reason, asked=asked)]


def _absent(model: nn.Module, rules: Mapping[Any, Any]) -> list[Row]:
    """A row for each class of the rules that the model has no module of."""
    kinds = [key for key in rules if isinstance(key, type)]
    absent = [kind for kind in kinds if not any(isinstance(module, kind) for module in model.modules())]
    return [Row("", kind.__name__, "float", reason="the model has no module of this class") for kind in absent]
