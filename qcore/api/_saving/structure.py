"""The modules of a model as JSON, and a model with those modules, made of a float one or of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from qcore.api._layers import settle_transformers
from qcore.api._saving import graphs
from qcore.api._saving.arguments import arguments, known, name_of
from qcore.api._saving.values import Reader, Writer
from qcore.errors import ArgumentError, QcoreError, UnsupportedError
from qcore.fx.graph_module import NOTES, QuantizedGraphModule
from qcore.nn.quantized.base import QuantizedModule

GRAPH = "qcore.fx.QuantizedGraphModule"
_NOTES = ("qcore_quantized_inputs", "qcore_quantized_outputs", "qcore_fixed")


def write(model: nn.Module, writer: Writer) -> list[dict[str, Any]]:
    """An entry for each module, parents first; UnsupportedError, naming the module, for what a file cannot hold."""
    first: dict[int, str] = {}
    entries = []
    shared: list[str] = []
    for path, module in model.named_modules(remove_duplicate=False):
        if any(path.startswith(f"{other}.") for other in shared):
            continue
        if id(module) in first:
            shared.append(path)
            entries.append({"path": path, "same_as": first[id(module)]})
            continue
        first[id(module)] = path
        entries.append({"path": path, "training": module.training, **_entry(module, path, writer)})
    return entries


def _entry(module: nn.Module, path: str, writer: Writer) -> dict[str, Any]:
    try:
        if isinstance(module, QuantizedGraphModule):
            entry: dict[str, Any] = {"class": GRAPH, "graph": graphs.write(module.graph, writer, path)}
            preserved = [name for name in getattr(module, "qcore_preserved", ()) if name not in module._modules]
            notes = {name: getattr(module, name) for name in (*_NOTES, *preserved) if hasattr(module, name)}
            entry["notes"] = writer.write(notes, path)
            constants = _constants(module)
            return {**entry, "tensors": _own_tensors(module), "constants": writer.write(constants, path)}
        if isinstance(module, fx.GraphModule):
            raise UnsupportedError("a graph module that qcore did not make")
        entry = {"class": name_of(module)}
        given = arguments(module)
        if given is not None:
            entry["arguments"] = writer.write(given, f"{path}.arguments")
        return {**entry, "tensors": _own_tensors(module)} if type(module) is nn.Module else entry
    except UnsupportedError as error:
        raise UnsupportedError(f"module {path or '(root)'!r} ({type(module).__name__}): {error}") from error


def _own_tensors(module: nn.Module) -> dict[str, str]:
    """What a module without a constructor for it holds: parameters and buffers, by name."""
    found = {name: "parameter" for name, value in module._parameters.items() if value is not None}
    return found | {name: "buffer" for name, value in module._buffers.items() if value is not None}


def _constants(module: QuantizedGraphModule) -> dict[str, Tensor]:
    """Tensors that the graph reads and that are no part of the state dict."""
    targets = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    saved = module.state_dict()
    found = {}
    for target in sorted(targets - set(saved)):
        owner, _, name = target.rpartition(".")
        value = getattr(module.get_submodule(owner), name)
        if not isinstance(value, Tensor):
            raise UnsupportedError(f"its graph reads {target!r}, a {type(value).__name__}")
        found[target] = value
    return found


def build(entries: Any, reader: Reader, state: dict[str, Any], given: nn.Module | None) -> nn.Module:
    """A model with the modules of `entries`; where they are none of ours or torch's, those of `given` are kept.

    Raises ArgumentError, naming the module, where the two do not fit.
    """
    made: dict[str, nn.Module] = {}
    built: dict[str, Any] = {}
    for entry in entries:
        path = entry.get("path")
        if not isinstance(path, str) or (path and _parent(path) not in made):
            raise ArgumentError(f"its list of modules is corrupt at {str(path)[:60]!r}")
        if "same_as" in entry:
            module = made.get(entry["same_as"])
            if module is None:
                raise ArgumentError(f"module {path!r} is said to be {entry['same_as']!r}, which is not there")
        else:
            existing = made[_parent(path)]._modules.get(_last(path)) if path else given
            if existing is None and given is not None:
                existing = dict(given.named_modules(remove_duplicate=False)).get(path)  # under a graph, which is new
            module = _module(entry, path, existing, reader, state)
            module.training = entry.get("training") is True
        made[path] = module
        built[path] = entry
        if path:
            made[_parent(path)]._modules[_last(path)] = module
    if "" not in made:
        raise ArgumentError("its list of modules is empty")
    for path, module in made.items():
        _refuse_others(path, module, built)
    return _with_graphs(made, built, reader)


def _module(entry: Any, path: str, existing: nn.Module | None, reader: Reader, state: dict[str, Any]) -> nn.Module:
    """The module of one entry: the given one where its class is the same, else a new one."""
    name = entry.get("class")
    kind = nn.Module if name == GRAPH else known().get(str(name))
    # a class may have moved to another module since (out of __main__, for one)
    is_same = existing is not None and name_of(existing).rpartition(".")[2] == str(name).rpartition(".")[2]
    is_same = is_same and (kind is None or type(existing) is kind)
    if is_same and (kind is None or not issubclass(kind, QuantizedModule) or "arguments" not in entry):
        assert existing is not None
        return existing
    where = f"module {path or '(root)'!r}"
    if kind is None or (name != GRAPH and "arguments" not in entry):
        has = f"the model has a {name_of(existing)} there" if existing is not None else "no model has it"
        raise ArgumentError(
            f"{where} is a {name}, whose code is not in the file, and {has}: give qcore.load the float model that was "
            "quantized, or a function that makes it"
        )
    try:
        made = _made(kind, reader.read(entry.get("arguments", {"dict": {}})), reader.elements)
    except (TypeError, ValueError, RuntimeError, QcoreError) as error:
        raise ArgumentError(f"{where} ({name}) cannot be made: {error}") from error
    for tensor_name, role in entry.get("tensors", {}).items():
        key = f"{path}.{tensor_name}" if path else tensor_name
        value = state.get(key)
        if not isinstance(value, Tensor):
            raise ArgumentError(f"{where}: its tensor {tensor_name!r} is missing")
        if role == "parameter":
            made.register_parameter(tensor_name, nn.Parameter(torch.empty_like(value), value.is_floating_point()))
        else:
            made.register_buffer(tensor_name, torch.empty_like(value))
    return made


def _made(kind: type[nn.Module], given: dict[str, Any], elements: int) -> nn.Module:
    """A module by its constructor, which takes no more memory than the file's own numbers justify."""
    if kind.__module__.startswith("torch."):
        with torch.device("meta"):
            made = kind(**given)
        return made.to_empty(device="cpu")
    for name, value in given.items():
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > max(elements, 2**16):
            raise ArgumentError(f"{name}={value} is more than all tensors of the file have elements")
    return kind(**given)


def _refuse_others(path: str, module: nn.Module, built: dict[str, Any]) -> None:
    """ArgumentError for a module of the given model that the file does not have."""
    if "same_as" in built[path]:
        return
    for name in module._modules:
        inner = f"{path}.{name}" if path else name
        if module._modules[name] is not None and inner not in built:
            raise ArgumentError(f"the model has a module {inner!r}, and the file none: it was saved from another model")


def _with_graphs(made: dict[str, nn.Module], built: dict[str, Any], reader: Reader) -> nn.Module:
    """The root, once holders of graphs are graph modules, inner ones first."""
    for path in reversed(list(made)):
        entry = built[path]
        if entry.get("class") != GRAPH:
            continue
        holder = made[path]
        for target, value in reader.read(entry.get("constants")).items():
            setattr(made[".".join(filter(None, (path, _parent(target))))], _last(target), value)
        try:
            graph = QuantizedGraphModule(holder, graphs.read(entry.get("graph"), reader))
        except (AttributeError, TypeError, ValueError, RuntimeError, KeyError) as error:
            raise ArgumentError(f"the graph of module {path or '(root)'!r} is corrupt: {error}") from error
        notes = reader.read(entry.get("notes"))
        for name, value in notes.items():
            setattr(graph, name, value)
        graph.qcore_preserved = tuple(name for name in notes if name not in NOTES)  # type: ignore[assignment]
        graph.training = holder.training
        graph._modules = {name: graph._modules[name] for name in holder._modules if name in graph._modules}
        made[path] = graph
        for other, inside in built.items():
            if other and (other == path or inside.get("same_as") == path):
                made[_parent(other)]._modules[_last(other)] = graph
    root = made[""]
    settle_transformers(root)
    return root


def quantized_modules(model: nn.Module) -> Iterator[tuple[str, QuantizedModule]]:
    """Path and module of each quantized one, each once."""
    for path, module in model.named_modules():
        if isinstance(module, QuantizedModule):
            yield path, module


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _last(path: str) -> str:
    return path.rpartition(".")[2]
