"""Quantization-aware training of eager models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from qcore.api._convert import convert
from qcore.api._prepare import CustomConfig, prepare_model
from qcore.errors import QuantizationError
from qcore.nn import catalog
from qcore.nn.weights import copied
from qcore.selection import BackendLike, Selection
from qcore.tensor.arguments import check_callable, check_module

__all__ = ["prepare_qat", "quantize_qat"]


def prepare_qat(
    model: nn.Module,
    mapping: catalog.Mapping | None = None,
    inplace: bool = False,
    *,
    prepare_custom_config_dict: CustomConfig | None = None,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """Choose the backend, and make the model round weights and activations in training as that will in integers.

    Then train, and `convert`. The model must be in training mode; fuse it before, by `fuse_modules_qat`. `mapping`:
    float class -> class with fake quantization, instead of the default. Where no module has a `qconfig`, the backend's
    default for training is used. Everything else, errors too, as of `prepare`; and QuantizationError for a model in
    eval mode.
    """
    check_module("prepare_qat", model)
    if not model.training:
        raise QuantizationError("prepare_qat takes a model in training mode; call model.train() first, or prepare")
    table = catalog.mapping("qat") if mapping is None else mapping
    return prepare_model(
        model, inplace, None, None, prepare_custom_config_dict, Selection.of(backend, fallback), strict, table
    )


def quantize_qat(
    model: nn.Module,
    run_fn: Callable[..., Any],
    run_args: Iterable[Any],
    inplace: bool = False,
    *,
    backend: BackendLike = "auto",
    fallback: str | None = None,
    strict: bool = False,
) -> nn.Module:
    """prepare_qat, train by `run_fn(model, *run_args)`, and convert, in training mode until then; errors as
    theirs."""
    check_module("quantize_qat", model)
    check_callable(run_fn=run_fn)
    model = model if inplace else copied(model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        prepared = prepare_qat(model.train(), inplace=True, backend=backend, fallback=fallback, strict=strict)
    except Exception:
        for module, mode in modes:
            module.training = mode
        raise
    run_fn(prepared, *run_args)
    return convert(prepared, inplace=True, strict=strict)
