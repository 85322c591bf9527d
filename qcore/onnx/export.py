"""export_onnx: a converted model as an ONNX file; export_graph: a quantized graph as an ONNX model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from qcore.errors import ArgumentError, QcoreError, UnsupportedError
from qcore.graph.ir import Graph
from qcore.nn.quantized.base import QuantizedModule


def export_onnx(
    model: nn.Module,
    path: str | Path,
    example_inputs: tuple[Any, ...],
    dynamic_shapes: Any = None,
    *,
    unsigned_weights: bool = False,
) -> None:
    """Write a converted model as ONNX: QuantizeLinear and DequantizeLinear around float operators, int8 weights.

    Static, dynamic, graph mode or eager; what stayed float is exported as it is. `example_inputs`: a tuple as the model
    is called with. The first dimension of every input is free, unless `dynamic_shapes`, as of torch.onnx.export, says
    otherwise. With `unsigned_weights`, int8 weights are stored as uint8, 128 greater: for ONNX Runtime on x86 CPUs
    without VNNI, whose kernels for int8 weights saturate. Results of an operator are within one step of the model's
    own: ONNX rounds a little differently.
    Raises UnsupportedError that names each module without a translation, or the function that torch has none for;
    ArgumentError for a model that was not converted; QcoreError where `onnx` and `onnxscript` are not installed.
    Source: the ONNX operators, version 21.
    """
    if not isinstance(example_inputs, tuple):
        raise ArgumentError(
            "export_onnx: example_inputs must be a tuple of inputs as the model is called with; got "
            f"{type(example_inputs).__name__}"
        )
    if not any(isinstance(module, QuantizedModule) for module in model.modules()):
        raise ArgumentError(
            f"export_onnx: this {type(model).__name__} has no quantized module; convert it first, or use "
            "torch.onnx.export for a float model"
        )
    _need_packages("onnx", "onnxscript")
    from qcore.onnx.rewrite import rewritten

    if dynamic_shapes is None:
        dynamic_shapes = _free_batch(model, example_inputs)
    exported = _export(rewritten(model, example_inputs, unsigned_weights), example_inputs, dynamic_shapes)
    exported.save(str(path))


def export_graph(graph: Graph, ranks: tuple[int, ...], *, unsigned_weights: bool = False) -> bytes:
    """A quantized graph as a serialized ONNX model for any sizes: inputs and outputs are integers, or floats.

    `ranks`: the numbers of dimensions of its inputs; `unsigned_weights` as in export_onnx. Raises UnsupportedError that
    names each node without a translation.
    """
    _need_packages("onnx")
    from qcore.onnx.graph import written

    return written(graph, ranks, unsigned_weights)


def _free_batch(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first dimension of each input free; of tensors in lists, such as the states of an LSTM, where that may be."""
    shapes = tuple(
        {0: torch.export.Dim.DYNAMIC}
        if isinstance(each, Tensor) and each.ndim
        else tree_map(lambda part: {0: torch.export.Dim.AUTO} if isinstance(part, Tensor) and part.ndim else None, each)
        for each in inputs
    )
    kinds = [each.kind for each in signature(model.forward).parameters.values()]
    if Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    named = kinds.index(Parameter.VAR_POSITIONAL)
    return (*shapes[:named], shapes[named:])


def _export(module: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any) -> Any:
    from qcore.onnx.custom_ops import OPSET, translations

    try:
        with _quiet(), torch.no_grad():
            return torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=dynamic_shapes,
                custom_translation_table=translations(),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UnsupportedError(
            f"cannot be exported to ONNX: {_causes(error)}\nChange this part of the model; where a size cannot be "
            "free, leave it out of `dynamic_shapes`"
        ) from error


def _causes(error: BaseException) -> str:
    """What torch's exporter names, without its advice for those who develop it."""
    found = []
    cause = error.__cause__
    while cause is not None:
        found.append(str(cause).replace(" See the stack trace for more information.", ""))
        cause = cause.__cause__
    return "; ".join(found) or str(error)


def _need_packages(*names: str) -> None:
    for name in names:
        if find_spec(name) is None:
            raise QcoreError(f"exporting to ONNX needs {name}, which is not installed: pip install 'torch-qcore[onnx]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of itself and of packages that are not needed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
