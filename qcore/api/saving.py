"""Converted models as files: safetensors with a JSON header, from which the model is made again. No pickle."""

from __future__ import annotations

import copy
import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from qcore.api._prepare import bind_model, described
from qcore.api._saving import compare, grammar, graphs, structure
from qcore.api._saving.values import Reader, Writer
from qcore.errors import ArgumentError, ArgumentTypeError, BackendError, QcoreError, QuantizationError, UnsupportedError
from qcore.nn.quantizable import Quantizable
from qcore.nn.quantized.base import QuantizedModule
from qcore.registry import registry
from qcore.report import Report, Row
from qcore.report import report as qcore_report
from qcore.tensor.arguments import check_callable, check_module, check_path

SCHEMA = 2
"""Version of the format; a reader takes its own and all before it."""

_KEY = "qcore"
Path = str | os.PathLike[str]


def save(model: nn.Module, path: Path, allow: Sequence[Callable[..., Any]] = ()) -> None:
    """Write a converted model to a safetensors file that `qcore.load` makes it again from, on any backend.

    It holds canonical integer weights, scales and zero points, what each module is, graphs, and the report. `allow`:
    functions and classes of yours that graphs call, by name: load needs the same. Raises
    QuantizationError for a model that was not converted, UnsupportedError, naming the module, for a part that a file
    cannot hold, or that would not be the same when it is loaded, before anything is written; OSError where it cannot be
    written. A file that is there stays until the new one is whole. Format: docs/checkpoints.md.
    """
    check_module("qcore.save", model)
    check_path("qcore.save", path)
    report = getattr(model, "qcore_report", None)
    stage = getattr(model, "qcore_stage", "converted")
    has_quantized = any(isinstance(module, QuantizedModule) for module in model.modules())
    if not isinstance(report, Report) or stage != "converted" or not has_quantized:
        raise QuantizationError(
            f"qcore.save takes a converted model, and this {type(model).__name__} is none: call qcore.convert or "
            "qcore.quantize_dynamic first"
        )
    allowed = graphs.named(allow)
    header, writer = _written(model, report, allowed)
    text = json.dumps(header, allow_nan=False, separators=(",", ":"))
    _check_that_it_loads(model, report, text, writer, allowed)
    _put(writer.tensors, os.path.realpath(path), text)


def _written(model: nn.Module, report: Report, allow: graphs.Allowed) -> tuple[dict[str, Any], Writer]:
    """The header of a model's file, and its tensors."""
    writer = Writer()
    modules = structure.write(model, writer, allow)
    state = model.state_dict()
    metadata: Any = getattr(state, "_metadata", {})
    values = {}
    for key, value in state.items():
        try:
            values[key] = writer.write(value, key)
        except UnsupportedError as error:
            raise UnsupportedError(f"the state of this model has {key!r}: {error}") from error
    header = {
        "schema": SCHEMA,
        "backend": report.backend,
        "why_backend": report.why_backend,
        "report": [astuple(row) for row in report],
        "modules": modules,
        "tied": structure.tied(model),
        "options": {key: writer.write(entry["qcore"], key) for key, entry in metadata.items() if "qcore" in entry},
        "versions": {key: entry["version"] for key, entry in metadata.items() if "version" in entry},
        "state": values,
    }
    return json.loads(json.dumps(header, allow_nan=False)), writer


def _check_that_it_loads(model: nn.Module, report: Report, text: str, writer: Writer, allow: graphs.Allowed) -> None:
    """UnsupportedError, naming the module, where what would be written does not give the same model."""
    try:
        header = grammar.parsed(text)
        grammar.check(header)
        again = _built(header, Reader(writer.tensors), structure.skeleton(model), report.backend, True, allow)
        found, other = _written(again, qcore_report(again), allow)
    except QcoreError as error:
        raise UnsupportedError(f"this model cannot be saved, as no file of it could be loaded: {error}") from error
    place = compare.difference((header, writer.tensors), (found, other.tensors))
    if place:
        raise UnsupportedError(f"this model cannot be saved, as it would not be the same when it is loaded: {place}")


def _put(tensors: dict[str, Tensor], path: str, text: str) -> None:
    """Write a file beside the place where it belongs, and move it there when it is whole."""
    beside = f"{path}.{secrets.token_hex(4)}.part"
    with open(beside, "xb"):
        pass  # an OSError of Python's own, with the path
    try:
        save_file(tensors, beside, {_KEY: text})
        os.replace(beside, path)
    except SafetensorError as error:
        raise OSError(f"{path!r} cannot be written: {error}") from error
    finally:
        if os.path.exists(beside):
            os.remove(beside)


def load(
    path: Path,
    model_or_factory: nn.Module | Callable[[], nn.Module] | None = None,
    backend: str | None = None,
    allow: Sequence[Callable[..., Any]] = (),
) -> nn.Module:
    """The converted model that `qcore.save` has written.

    `model_or_factory`: the float model that was quantized, which is not changed, or a function that makes one; it gives
    the modules whose code is not in the file, and is not needed where there are none, as for a traced model. `backend`:
    another than the one recorded; "auto" for the best here. `allow`: functions and classes of yours that its graphs may
    call. Tensors come to the CPU. Nothing of the file is run: docs/checkpoints.md says what was checked, and how.
    Raises ArgumentError for a file that is corrupt, of a newer version, or of another model; BackendError, with what to
    do, where the backend is missing; UnsupportedError where it cannot run a layer; OSError for one that cannot be read.
    """
    check_path("qcore.load", path)
    name = os.fspath(path)
    allowed = graphs.named(allow)
    given = _given(model_or_factory)
    header, reader = _opened(name)
    chosen = _backend(header, name, backend)
    try:
        return _built(header, reader, given, chosen, backend is None, allowed)
    except (ArgumentError, ArgumentTypeError, QuantizationError) as error:
        raise ArgumentError(f"{name!r} cannot be loaded: {error}") from error
    except QcoreError as error:
        raise type(error)(f"{name!r} cannot be loaded: {error}") from error


def _built(
    header: dict[str, Any],
    reader: Reader,
    given: nn.Module | None,
    backend: str,
    is_recorded: bool,
    allow: graphs.Allowed,
) -> nn.Module:
    """The model of a header that keeps to the grammar; an error of qcore's for one that makes no model."""
    try:
        graphs.check_calls(header["modules"], allow)
        stored = header["state"]
        state = OrderedDict((key, reader.read(value)) for key, value in stored.items())
        model = structure.build(header["modules"], reader, state, given, backend, allow)
        _fill(model, state, header, reader)
        structure.tie(model, header.get("tied", []))
        return _bound(model, header, backend, is_recorded)
    except QcoreError:
        raise
    except Exception as error:  # of torch's constructors and loaders, which name no file
        raise ArgumentError(f"its header is corrupt ({type(error).__name__}: {str(error)[:200]})") from error


def _given(model_or_factory: Any) -> nn.Module | None:
    if model_or_factory is None:
        return None
    is_model = isinstance(model_or_factory, nn.Module)
    if not is_model:
        check_callable(model_or_factory=model_or_factory)
    model = copy.deepcopy(model_or_factory) if is_model else model_or_factory()
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"model_or_factory gave a {type(model).__name__}; it must give a torch.nn.Module")
    return model


def _opened(name: str) -> tuple[dict[str, Any], Reader]:
    """The header of a file, and a reader of its tensors."""

    def refuse(reason: str, error: Exception | None = None) -> NoReturn:
        raise ArgumentError(f"{name!r} cannot be loaded: {reason}") from error

    with open(name, "rb") as file:  # or an OSError of Python's own, with the path
        begins = file.read(9)
    if begins.startswith((b"PK\x03\x04", b"\x80")) and begins[8:] != b"{":
        refuse(
            "it is no file of qcore.save, but one like torch.save's: a pickle, which would run what is in it. If you "
            "trust it, load it with torch.load yourself (for qcore explain, in a function: module:callable)"
        )
    try:
        with safe_open(name, framework="pt") as stored:
            header = _checked((stored.metadata() or {}).get(_KEY))
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except ArgumentError as error:
        refuse(str(error), error)
    except (SafetensorError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        refuse(f"it is no safetensors file, or cut or corrupt ({error})", error)
    return header, Reader(tensors)


def _checked(text: str | None) -> dict[str, Any]:
    """The header of a text; ArgumentError, without the name of the file, for what is none that can be read here."""
    if text is None:
        raise ArgumentError("it is a safetensors file without a qcore header: qcore.save did not write it")
    header = grammar.parsed(text)
    schema = header.get("schema") if isinstance(header, dict) else None
    if type(schema) is not int or schema < 1:
        raise ArgumentError("its header is corrupt: no schema version")
    if schema > SCHEMA:
        raise ArgumentError(
            f"it is in version {schema} of the format; this qcore reads up to {SCHEMA}: pip install -U torch-qcore"
        )
    grammar.check(header)
    return dict(header)


def _backend(header: dict[str, Any], name: str, asked: str | None) -> str:
    """The backend to load on, which can be had here."""
    if asked is not None:
        return registry.choose(asked).name
    recorded = header["backend"]
    try:
        return registry.choose(recorded).name
    except (ArgumentError, ArgumentTypeError) as error:
        raise ArgumentError(f"{name!r} cannot be loaded: its backend is {recorded[:60]!r}: {error}") from error
    except BackendError as error:
        raise BackendError(
            f"{name!r} was saved for the backend {recorded!r}: {error}\nOr load it on another, with the same results: "
            'qcore.load(path, ..., backend="auto")'
        ) from error


def _fill(model: nn.Module, state: OrderedDict[str, Any], header: dict[str, Any], reader: Reader) -> None:
    metadata: Any = OrderedDict()
    for where, version in header["versions"].items():
        metadata[where] = {"version": version}
    for where, options in header["options"].items():
        metadata.setdefault(where, {})["qcore"] = reader.read(options)
    state._metadata = metadata  # type: ignore[attr-defined]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ArgumentError(f"its weights do not fit its modules: {error}") from error


def _bound(model: nn.Module, header: dict[str, Any], backend: str, is_recorded: bool) -> nn.Module:
    """Bind the modules to a backend, and give the model its report; rows are asked anew on another backend."""
    modules = dict(structure.quantized_modules(model))
    for path, module in modules.items():
        module.qcore_path = path
        if not is_recorded:
            module.backend = backend
    for path, whole in model.named_modules():
        if isinstance(whole, Quantizable):
            whole.qcore_path = path
    rows = []
    for values in header["report"]:
        row = Row(*values)
        if not is_recorded and row.outcome == "quantized":
            on_other = described(row.path, row.float_type, modules[row.path]) if row.path in modules else None
            row = replace(row, backend="", reason="") if on_other is None else on_other
        rows.append(row)
    why = header["why_backend"] if is_recorded else "asked for when it was loaded"
    bind_model(model, Report(backend, tuple(rows), str(why)))
    for graph in model.modules():
        if isinstance(graph, torch.fx.GraphModule):
            graph.qcore_stage = "converted"  # type: ignore[assignment]
            graph.qcore_backend = backend  # type: ignore[assignment]
    return model
