"""export_onnx: a converted model as an ONNX file; export_graph: a quantized graph as an ONNX model."""

from __future__ import annotations

import copy
import logging
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError, QuantizationError, UnsupportedError
from qcore.graph.ir import Graph
from qcore.nn.quantized.base import QuantizedModule
from qcore.process import TRACING
from qcore.tensor.arguments import check_module, check_type, check_whole


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
    is called with. The first dimension of every input is free, or, where the model forbids that, of the first input and
    of those others that it lets; unless `dynamic_shapes`, as of torch.onnx.export, says otherwise. With
    `unsigned_weights`, int8 weights are stored as uint8, 128 greater: for ONNX Runtime on x86 CPUs without VNNI, whose
    kernels for int8 weights saturate. Results of an operator are within one step of the model's own: ONNX rounds a
    little differently.
    Raises UnsupportedError that names each module without a translation, or the function that torch has none for;
    ArgumentError for a model that was not converted; QcoreError where `onnx` and `onnxscript` are not installed.
    Source: the ONNX operators, version 21.
    """
    check_module("export_onnx", model)
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
    taken = [name for name, _ in model.named_children() if hasattr(fx.GraphModule(nn.Module(), fx.Graph()), name)]
    if taken:
        raise UnsupportedError(
            f"export_onnx: module {taken[0]!r} has the name of an attribute of graph modules, which torch.export "
            "cannot hold; rename it in the float model, or export torch.nn.Sequential(model)"
        )
    _need_packages("onnx", "onnxscript")
    _save(_written(model, example_inputs, dynamic_shapes, unsigned_weights), Path(path))


def export_graph(graph: Graph, ranks: tuple[int, ...], *, unsigned_weights: bool = False) -> bytes:
    """A quantized graph as a serialized ONNX model for any sizes: inputs and outputs are integers, or floats.

    `ranks`: the numbers of dimensions of its inputs; `unsigned_weights` as in export_onnx. Raises UnsupportedError that
    names each node without a translation.
    """
    check_type("export_graph", Graph, graph=graph)
    check_type("export_graph", (tuple, list), ranks=ranks)
    check_whole(0, **{f"ranks[{number}]": rank for number, rank in enumerate(ranks)})
    if len(ranks) != len(graph.inputs):
        raise ArgumentError(f"export_graph: the graph has {len(graph.inputs)} inputs, and ranks={ranks!r}")
    _need_packages("onnx")
    from qcore.onnx.graph import written

    return written(graph, ranks, unsigned_weights)


def _written(model: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any, unsigned: bool) -> Any:
    from qcore.onnx.custom_ops import OPSET, translations
    from qcore.onnx.rewrite import rewrite

    if any(module.training for module in model.modules()):
        model = copy.deepcopy(model).eval()
    with TRACING, _quiet(), torch.no_grad():
        recorded, shapes = _recorded(model, inputs, dynamic_shapes)
        rewrite(recorded, unsigned)
        for module in recorded.modules():
            module.training = False  # eval() is not for modules of torch.export
        try:
            return torch.onnx.export(
                recorded,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                custom_translation_table=translations(),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise UnsupportedError(_told(_causes(error))) from error


def _recorded(model: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any) -> tuple[Any, Any]:
    """What the model does to these inputs, as a graph of operators on plain tensors, and the sizes that are free."""
    if dynamic_shapes is None:
        try:
            return _recorded(model, inputs, _free_batch(model, inputs, torch.export.Dim.DYNAMIC))
        except UnsupportedError:
            if sum(isinstance(each, Tensor) for each in inputs) < 2:
                raise
        return _recorded(model, inputs, _free_batch(model, inputs, torch.export.Dim.AUTO))
    free = tree_map(lambda each: torch.export.Dim.DYNAMIC if isinstance(each, str) else each, dynamic_shapes)
    try:
        program = torch.export.export(model, inputs, dynamic_shapes=free, strict=False)
    except (ArgumentError, ArgumentTypeError, QuantizationError):
        raise
    except Exception as error:
        path = _innermost(model, error)
        raise UnsupportedError(_told(f"{f'module {path!r}: ' if path else ''}{error}")) from error
    return program.module(check_guards=False), _one_by_one(model, dynamic_shapes)


def _free_batch(model: nn.Module, inputs: tuple[Any, ...], others: Any) -> tuple[Any, ...]:
    """The first dimension of the first input free, of further ones as `others` says; of tensors in lists, such as the
    states of an LSTM, where that may be."""
    dims = iter([torch.export.Dim.DYNAMIC])
    shapes = tuple(
        {0: next(dims, others)}
        if isinstance(each, Tensor) and each.ndim
        else tree_map(lambda part: {0: torch.export.Dim.AUTO} if isinstance(part, Tensor) and part.ndim else None, each)
        for each in inputs
    )
    named = _named(model)
    return shapes if named is None or named >= len(shapes) else (*shapes[:named], shapes[named:])


def _one_by_one(model: nn.Module, shapes: Any) -> Any:
    """Free sizes for a recorded model, which takes one by one what the model's own forward takes as *arguments."""
    named = _named(model)
    if named is None or named >= len(shapes):
        return shapes
    if isinstance(shapes, dict):
        shapes = tuple(shapes.values())
    return (*shapes[:named], *shapes[named])


def _named(model: nn.Module) -> int | None:
    """How many parameters of a model's forward have names, before those that have none; None where all have."""
    kinds = [each.kind for each in signature(model.forward).parameters.values()]
    return kinds.index(Parameter.VAR_POSITIONAL) if Parameter.VAR_POSITIONAL in kinds else None


def _innermost(model: nn.Module, error: Exception) -> str:
    """The path of the module in whose code an error was raised."""
    paths = {id(module): path for path, module in model.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            found = paths.get(id(owner), found)
    return found


def _told(why: str) -> str:
    return (
        f"cannot be exported to ONNX: {why}\nChange this part of the model; where a size cannot be free, leave it out "
        "of `dynamic_shapes`"
    )


def _save(exported: Any, path: Path) -> None:
    """Write a model, and the file of its weights where it has one beside it: both whole, or neither."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        exported.save(str(Path(folder) / path.name))
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.name == path.name):
            part.replace(path.parent / part.name)


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
