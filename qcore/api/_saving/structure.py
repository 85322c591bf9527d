"""The modules of a model as JSON, and a model with those modules, made of a float one or of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from qcore.api._layers import settle_transformers
from qcore.api._saving import attributes, graphs
from qcore.api._saving.arguments import Budget, arguments, known, made, name_of
from qcore.api._saving.grammar import MOST_PLACES
from qcore.api._saving.graphs import Allowed
from qcore.api._saving.values import Reader, Writer
from qcore.errors import ArgumentError, UnsupportedError
from qcore.fx.graph_module import NOTES, RESERVED, QuantizedGraphModule
from qcore.fx.modules import ReferenceModule
from qcore.fx.names import is_part, is_path
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.in_float import InFloat

GRAPH = "qcore.fx.QuantizedGraphModule"
_NOTES = ("qcore_quantized_inputs", "qcore_quantized_outputs", "qcore_fixed", "qcore_layer", "qcore_preserved")


def write(model: nn.Module, writer: Writer, allow: Allowed) -> list[dict[str, Any]]:
    """An entry for each module, parents first; UnsupportedError, naming the module, for what a file cannot hold."""
    needs_code = not all(map(_is_known, model.modules()))
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
        try:
            _check_hooks(module, needs_code)
            entries.append({"path": path, "training": module.training, **_entry(module, path, writer, allow)})
        except UnsupportedError as error:
            raise UnsupportedError(f"module {path or '(root)'!r} ({type(module).__name__}): {error}") from error
    return entries


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _check_hooks(module: nn.Module, needs_code: bool) -> None:
    """UnsupportedError for hooks on a module that is made from the file: the float model that is given to load, where
    one is needed, brings those on others."""
    is_made = isinstance(module, QuantizedModule | fx.GraphModule) or not needs_code
    if is_made and any(vars(module).get(name) for name in _HOOKS):
        raise UnsupportedError(
            "it has hooks, code that a file cannot hold: take them off, and register them on what load gives"
        )


def _entry(module: nn.Module, path: str, writer: Writer, allow: Allowed) -> dict[str, Any]:
    if path and not is_path(path):
        raise UnsupportedError("its name has quotes or backslashes, or begins with two underscores")
    tensors = _own_tensors(module, path, writer)
    if isinstance(module, QuantizedGraphModule):
        return {"class": GRAPH, **_graph(module, path, writer, allow), **tensors}
    if isinstance(module, fx.GraphModule):
        raise UnsupportedError("a graph module that qcore did not make")
    given = arguments(module)
    if given is not None:
        return {"class": name_of(module), "arguments": writer.write(given, f"{path}.arguments"), **tensors}
    kept = attributes.write(module, writer, path)
    return {"class": name_of(module), **tensors, **({"attributes": kept} if kept else {})}


def _graph(module: QuantizedGraphModule, path: str, writer: Writer, allow: Allowed) -> dict[str, Any]:
    own = vars(module)
    preserved = [name for name in own.get("qcore_preserved", ()) if name in own]
    notes = {name: own[name] for name in (*_NOTES, *preserved) if name in own}
    found: dict[str, Any] = {
        "graph": graphs.write(module.graph, writer, path, allow),
        "compiled": "qcore_runs_on" in own,
        "notes": writer.write(notes, path),
        "constants": writer.write(_constants(module), path),
    }
    if own.get("qcore_example") is not None:
        found["example"] = [[list(shape), writer.write(dtype, path)] for shape, dtype in own["qcore_example"]]
    return found


def _own_tensors(module: nn.Module, path: str, writer: Writer) -> dict[str, Any]:
    """Parameters and buffers of a module itself, by name; with their values where a state dict leaves them out."""
    apart = module._non_persistent_buffers_set
    roles = {name: "parameter" for name, value in module._parameters.items() if value is not None}
    roles |= {name: "buffer" for name, value in module._buffers.items() if value is not None and name not in apart}
    # what quantized modules leave out is in their own values
    is_own = {name: isinstance(module, QuantizedModule) and name.startswith("_") for name in apart}
    kept = {name: value for name, value in module._buffers.items() if name in apart and not is_own[name]}
    buffers = {name: writer.write(value, f"{path}.{name}" if path else name) for name, value in kept.items()}
    frozen = [name for name, value in module._parameters.items() if value is not None and not value.requires_grad]
    found = {"tensors": roles, "buffers": buffers, "frozen": frozen}
    return {key: value for key, value in found.items() if value or (key == "frozen" and module._parameters)}


def _constants(module: QuantizedGraphModule) -> dict[str, Tensor]:
    """Tensors that the graph reads and that are neither parameters nor buffers."""
    found = {}
    for target in sorted({str(node.target) for node in module.graph.nodes if node.op == "get_attr"}):
        owner, _, name = target.rpartition(".")
        held = vars(module.get_submodule(owner)).get(name)
        if held is not None and not isinstance(held, Tensor):
            raise UnsupportedError(f"its graph reads {target!r}, a {type(held).__name__}")
        if held is not None:
            found[target] = held
    return found


def tied(model: nn.Module) -> list[list[str]]:
    """Paths of parameters and buffers that are one tensor, in different modules or under different names."""
    places: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        apart = module._non_persistent_buffers_set
        for name, value in (*module._parameters.items(), *module._buffers.items()):
            if value is not None and name not in apart:
                places.setdefault(id(value), []).append(f"{path}.{name}" if path else name)
    return [paths for paths in places.values() if len(paths) > 1]


def tie(model: nn.Module, groups: list[list[str]]) -> None:
    """Make tensors one; ArgumentError where they cannot be."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for group in groups:
        held = [(modules.get(_parent(path)), _last(path)) for path in group]
        values = [None if module is None else _tensor(module, name) for module, name in held]
        first = values[0]
        for path, (module, name), value in zip(group, held, values, strict=True):
            if first is None or module is None or value is None or not _same_form(first, value):
                raise ArgumentError(f"its tensors {group[0][:60]!r} and {path[:60]!r} cannot be one")
            setattr(module, name, first)


def _tensor(module: nn.Module, name: str) -> Tensor | None:
    return module._parameters.get(name, module._buffers.get(name))


def _same_form(a: Tensor, b: Tensor) -> bool:
    return type(a) is type(b) and a.shape == b.shape and a.dtype == b.dtype


def skeleton(model: nn.Module) -> nn.Module:
    """A model of the same modules, of which those whose code is not in a file have new parameters and buffers."""
    made: dict[int, nn.Module] = {}

    def bare(module: nn.Module) -> nn.Module:
        if id(module) in made:
            return made[id(module)]
        kind = nn.Module if _is_known(module) else type(module)
        copied = made[id(module)] = kind.__new__(kind)
        if _is_known(module):
            nn.Module.__init__(copied)
        else:
            vars(copied).update(vars(module))
            copied._parameters = {n: _like(p) for n, p in module._parameters.items()}
            copied._buffers = {n: _like(b) for n, b in module._buffers.items()}
        copied._modules = {n: None if m is None else bare(m) for n, m in module._modules.items()}
        return copied

    return bare(model)


def _like(value: Any) -> Any:
    if value is None:
        return None
    empty = torch.empty_like(value)
    return nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty


def _is_known(module: nn.Module) -> bool:
    """Whether a file says all that it takes to make a module like this one."""
    return isinstance(module, QuantizedGraphModule) or arguments(module) is not None


def build(
    entries: list[dict[str, Any]],
    reader: Reader,
    state: dict[str, Any],
    given: nn.Module | None,
    backend: str,
    allow: Allowed,
) -> nn.Module:
    """A model with the modules of `entries`; where they are none of ours or torch's, those of `given` are kept.

    Compiled graphs run on `backend`; graphs may call what is in `allow`. Raises ArgumentError, naming the module, where
    the two do not fit.
    """
    found: dict[str, nn.Module] = {}
    built: dict[str, Any] = {}
    keys: dict[str, str] = {"": ""}  # where the state has the tensors of each
    budget = Budget(reader.elements)
    theirs = {} if given is None else dict(given.named_modules(remove_duplicate=False))
    for entry in entries:
        path = entry["path"]
        where = f"module {path or '(root)'!r}"
        if path in found or bool(path) != bool(found) or (path and _parent(path) not in found):
            raise ArgumentError(f"its list of modules is corrupt at {path[:60]!r}")
        if path and built[_parent(path)].get("class") is None:
            raise ArgumentError(f"{where} is listed inside of one that is another")
        if path and not _may_have(found[_parent(path)], built[_parent(path)], _last(path)):
            raise ArgumentError(f"{where} has the name of something that every module has")
        if "same_as" in entry:
            if entry["same_as"] not in found:
                raise ArgumentError(f"{where} is said to be {entry['same_as'][:60]!r}, which is not there")
            module = found[entry["same_as"]]
        else:
            existing = found[_parent(path)]._modules.get(_last(path)) if path else given
            inside = bool(path) and isinstance(found[_parent(path)], InFloat)
            is_new = existing is None or inside
            keys[path] = keys[_parent(path)] if inside else path and _joined(keys[_parent(path)], _last(path))
            existing = theirs.get(path) if is_new else existing  # under one that is new
            if existing is None and _last(path) == "layer":
                existing = theirs.get(_parent(path))  # that a reference module, or a graph of one layer, stands for
            module = _module(entry, where, existing, reader, budget)
            _take_tensors(module, entry, keys[path], where, reader, state)
            module.training = entry["training"]
        found[path] = module
        built[path] = entry
        if path:
            found[_parent(path)]._modules[_last(path)] = module
    if not found:
        raise ArgumentError("its list of modules is empty")
    check_tree(found[""])
    for path, module in found.items():
        _refuse_others(path, module, built)
    return _with_graphs(found, built, reader, backend, allow)


def _may_have(parent: nn.Module, entry: dict[str, Any], name: str) -> bool:
    """Whether a module, once it is built, can have another under a name, and nothing else is called so."""
    if name in parent._modules or name in parent._buffers or name in parent._parameters:
        return name in parent._modules
    return not (entry["class"] == GRAPH and name in RESERVED) and not hasattr(parent, name)


def check_tree(root: nn.Module) -> None:
    """ArgumentError for modules that hold themselves, are nested too deep, or used in too many places."""
    counts: dict[int, int] = {}

    def count(module: nn.Module, above: tuple[int, ...]) -> int:
        if id(module) in above or len(above) > _DEEPEST:
            raise ArgumentError(f"its modules are nested deeper than {_DEEPEST}, or one holds itself")
        if id(module) not in counts:
            inner = [each for each in module._modules.values() if each is not None]
            counts[id(module)] = 1 + sum(count(each, (*above, id(module))) for each in inner)
        return counts[id(module)]

    if count(root, ()) > MOST_PLACES:
        raise ArgumentError(f"its modules are used in more than {MOST_PLACES} places")


_DEEPEST = 200


def _module(entry: Any, where: str, existing: nn.Module | None, reader: Reader, budget: Budget) -> nn.Module:
    """The module of one entry: the given one where its class is the same, else a new one."""
    name = entry["class"]
    kind = nn.Module if name == GRAPH else known().get(name)
    # a class may have moved to another module since (out of __main__, for one)
    is_same = existing is not None and name_of(existing).rpartition(".")[2] == name.rpartition(".")[2]
    is_same = is_same and (kind is None or type(existing) is kind)
    if kind is not None and "attributes" in entry:
        raise ArgumentError(f"{where} is a {name}, which has no attributes of yours")
    if is_same and (kind is None or not issubclass(kind, QuantizedModule) or "arguments" not in entry):
        assert existing is not None
        attributes.take(existing, entry.get("attributes", {}), where, reader)
        return existing
    if kind is None or (name != GRAPH and "arguments" not in entry):
        has = f"the model has a {name_of(existing)} there" if existing is not None else "no model has it"
        raise ArgumentError(
            f"{where} is a {name[:200]}, whose code is not in the file, and {has}: give qcore.load the float model "
            "that was quantized, or a function that makes it"
        )
    try:
        new = made(kind, reader.read(entry.get("arguments", {"dict": {}})), budget)
        return new.to_empty(device="cpu") if kind.__module__.startswith("torch.") else new
    except (ArgumentError, RuntimeError, MemoryError) as error:
        raise ArgumentError(f"{where} ({name}) cannot be made: {error}") from error


def _take_tensors(
    module: nn.Module, entry: dict[str, Any], path: str, where: str, reader: Reader, state: dict[str, Any]
) -> None:
    """Give a module the parameters and buffers that its constructor does not make."""
    for name, role in entry.get("tensors", {}).items():
        if module._parameters.get(name) is not None or module._buffers.get(name) is not None:
            continue
        value = state.get(f"{path}.{name}" if path else name)
        if not isinstance(value, Tensor):
            raise ArgumentError(f"{where}: its tensor {name!r} is missing")
        if not _is_free(module, entry, name):
            raise ArgumentError(f"{where}: its tensor {name!r} has the name of something that every module has")
        if role == "parameter":
            module.register_parameter(name, nn.Parameter(torch.empty_like(value), value.is_floating_point()))
        else:
            module.register_buffer(name, torch.empty_like(value))
    for name, stored in entry.get("buffers", {}).items():
        value = reader.read(stored)
        if (name not in module._buffers and not _is_free(module, entry, name)) or not isinstance(value, Tensor | None):
            raise ArgumentError(f"{where}: its tensor {name!r} is none, or has the name of something else")
        module._buffers.pop(name, None)
        module.register_buffer(name, value, persistent=False)
    if not isinstance(module, QuantizedModule):
        _take_dtypes(module, path, state)
    for name, parameter in module._parameters.items():
        if "frozen" in entry and parameter is not None and parameter.is_floating_point():
            parameter.requires_grad_(name not in entry["frozen"])


def _take_dtypes(module: nn.Module, path: str, state: dict[str, Any]) -> None:
    """Give floats of a module that stayed float the dtypes that they have in the file."""
    places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
    for held in places:
        for name, value in held.items():
            stored = state.get(f"{path}.{name}" if path else name)
            if type(stored) is not Tensor or value is None or stored.dtype == value.dtype:
                continue
            if stored.is_floating_point() and value.is_floating_point():
                other = torch.empty_like(value, dtype=stored.dtype)
                held[name] = nn.Parameter(other, value.requires_grad) if name in module._parameters else other


def _is_free(module: nn.Module, entry: dict[str, Any], name: str) -> bool:
    is_none = name in module._parameters or name in module._buffers  # a bias that is not there
    return is_none or not (hasattr(module, name) or (entry["class"] == GRAPH and name in RESERVED))


def _refuse_others(path: str, module: nn.Module, built: dict[str, Any]) -> None:
    """ArgumentError for a module of the given model that the file does not have."""
    if "same_as" in built[path]:
        return
    for name in module._modules:
        inner = f"{path}.{name}" if path else name
        if module._modules[name] is not None and inner not in built:
            raise ArgumentError(f"the model has a module {inner!r}, and the file none: it was saved from another model")
    if isinstance(module, ReferenceModule) and set(module._modules) != {"layer", "quantized"}:
        raise ArgumentError(f"module {path!r} is a ReferenceModule without a layer and its quantized form")


def _with_graphs(
    found: dict[str, nn.Module], built: dict[str, Any], reader: Reader, backend: str, allow: Allowed
) -> nn.Module:
    """The root, once holders of graphs are graph modules, inner ones first."""
    for path in reversed(list(found)):
        if built[path].get("class") != GRAPH:
            continue
        try:
            graph = found[path] = _graph_module(found[path], built[path], reader, backend, allow)
        except Exception as error:  # of torch.fx's too, whose list is not written down
            raise ArgumentError(f"the graph of module {path or '(root)'!r} is corrupt: {error}") from error
        for other, inside in built.items():
            if other and (other == path or inside.get("same_as") == path):
                found[_parent(other)]._modules[_last(other)] = graph
    root = found[""]
    settle_transformers(root)
    return root


def _graph_module(
    holder: nn.Module, entry: dict[str, Any], reader: Reader, backend: str, allow: Allowed
) -> QuantizedGraphModule:
    """The graph module of an entry, with the modules and tensors of its holder."""
    if "graph" not in entry:
        raise ArgumentError("it is missing")
    modules = dict(holder.named_modules(remove_duplicate=False))
    constants = {} if "constants" not in entry else reader.read(entry["constants"])
    for target, value in constants.items():
        owner, name = modules.get(_parent(target)), _last(target)
        is_taken = owner is None or hasattr(owner, name) or (owner is holder and name in RESERVED)
        if is_taken or not isinstance(value, Tensor) or not is_part(name):
            raise ArgumentError(f"its constant {target[:60]!r} is no tensor, or has the name of something else")
        modules[_parent(target)].register_buffer(name, value, persistent=False)
    graph = QuantizedGraphModule(holder, graphs.read(entry["graph"], reader, modules, allow))
    graph._modules, graph._parameters, graph._buffers = holder._modules, holder._parameters, holder._buffers
    graph._non_persistent_buffers_set = holder._non_persistent_buffers_set
    notes = {} if "notes" not in entry else reader.read(entry["notes"])
    held = {*vars(graph), *graph._modules, *graph._parameters, *graph._buffers}  # hasattr would ask its layer, too
    taken = [name for name in notes if name not in NOTES and (name in held or hasattr(type(graph), name))]
    if taken:
        raise ArgumentError(f"its attribute {taken[0]!r} has the name of something else")
    for name, value in notes.items():
        setattr(graph, name, value)
    inputs = {(index, str(node.target)) for index, node in enumerate(graph.graph.nodes) if node.op == "placeholder"}
    for position, name, _ in notes.get("qcore_fixed", ()):
        if (position, name) not in inputs:
            raise ArgumentError(f"its input {name[:60]!r} is not at position {position}")
    preserved = tuple(name for name in notes if name not in NOTES)
    if preserved and "qcore_preserved" not in notes:  # as in the first version of the format
        graph.qcore_preserved = preserved  # type: ignore[assignment]
    if "example" in entry:
        sizes = [(tuple(shape), reader.read(dtype)) for shape, dtype in entry["example"]]
        if not all(isinstance(dtype, torch.dtype) for _, dtype in sizes):
            raise ArgumentError("an example input has what is no dtype")
        graph.qcore_example = tuple(sizes)  # type: ignore[assignment]
    if entry.get("compiled", True):  # as all graphs were in the first version of the format
        graph.qcore_runs_on = backend  # type: ignore[assignment]
    graph.training = holder.training
    return graph


def quantized_modules(model: nn.Module) -> Iterator[tuple[str, QuantizedModule]]:
    """Path and module of each quantized one, each once."""
    for path, module in model.named_modules():
        if isinstance(module, QuantizedModule):
            yield path, module


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _last(path: str) -> str:
    return path.rpartition(".")[2]
