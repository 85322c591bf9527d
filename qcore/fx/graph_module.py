"""The graph module of this package: copies and pickles keep what prepare and convert have noted on it."""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import wraps
from threading import get_ident
from typing import Any, ClassVar

import torch
from torch import fx, nn

from qcore.errors import ArgumentError, UnsupportedError
from qcore.fx.arguments import check_fixed
from qcore.fx.callables import functions, name_of
from qcore.fx.names import as_path, is_part
from qcore.fx.values import value_of
from qcore.nn.quantized.scripted import check_scripting
from qcore.process import TRACING

NOTES = (
    "qcore_backend",
    "qcore_report",
    "qcore_stage",
    "qcore_preserved",
    "qcore_quantized_inputs",
    "qcore_quantized_outputs",
    "qcore_example",
    "qcore_runs_on",
    "qcore_fixed",
    "qcore_layer",
)
"""Attributes that go along. qcore_preserved names those of the user's, qcore_quantized_... are positions, qcore_example
has the shape and dtype of each example input, qcore_runs_on is the backend of a graph that was lowered, and qcore_fixed
has position, name and form of the arguments that the graph was made for; qcore_layer is the path of the layer that the
graph stands for, where it is one layer."""


FLOAT = "qcore_float"
"""Key in a node's meta: True where the call was left float."""


REASON = "qcore_reason"
"""Key in a node's meta: why the call stays float, where a pass has found that out."""


CUSTOM = "qcore_custom"
"""Attribute of observed custom modules: True."""


QUANTIZED = "qcore_quantized"
"""Attribute of modules that a pattern of the user's quantizes: the class that it gives."""


CAST = "qcore_cast"
"""Key in the meta of a node that casts what a dequantize gives: True."""


CACHE = "_qcore_execution"
"""Attribute that holds what the executor has made of a model; never copied or saved."""


def _by_executor(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def run(self: QuantizedGraphModule, *args: Any, **kwargs: Any) -> Any:
        if vars(self).get("qcore_fixed"):
            check_fixed(self, args, kwargs)
        executor = QuantizedGraphModule.executor
        try:
            if executor is None or "qcore_runs_on" not in vars(self):
                return forward(self, *args, **kwargs)
            return executor(self, forward, args, kwargs)
        except IndexError as error:
            if "tuple index out of range" not in str(error):
                raise
            raise ArgumentError(
                "this graph was made for as many pieces of a tensor as the example inputs give, and these inputs give "
                "fewer; name the module that cuts it in PrepareCustomConfig.set_non_traceable_module_names"
            ) from error

    return run


def check_names(graph: fx.Graph) -> None:
    """UnsupportedError for paths that torch.fx's code cannot have, with what to do: they would end a quoted string, or
    name an attribute of the graph module in the place of a layer."""
    for node in _with_paths(graph):
        first, *others = str(node.target).split(".")
        wrong = [part for part in (first, *others) if not is_part(part)]
        wrong += [first] if first in RESERVED or first == "self" else []
        if wrong:
            raise UnsupportedError(
                f"module {node.target!r}: a graph cannot call what is named {wrong[0]!r}, which is an "
                "attribute of graph modules or none of a name's form; rename it in the float model"
            )


def _with_paths(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op in ("call_module", "get_attr")]


class GraphTracer(fx.Tracer):
    """torch.fx's tracer, which makes dicts of any class plain ones; here they are made by their class. Raises TypeError
    for a class that is neither OrderedDict nor a dataclass.

    While torch traces, calls of all modules and reads of their attributes come to the tracer, those of other threads
    too: these go on as without it, and one thread traces at a time.
    """

    _thread: int | None = None

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """The graph of a module or function."""
        with TRACING:
            before, self._thread = self._thread, get_ident()
            try:
                return super().trace(root, concrete_args)
            finally:
                self._thread = before

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A call of a module, by this thread or another."""
        if self._thread != get_ident():
            return forward(*args, **kwargs)
        return self.called(m, forward, args, kwargs)

    def called(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a module by the thread that traces."""
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """An attribute of a module, read by this thread or another."""
        if self._thread != get_ident():
            return attr_val
        return self.read(attr, attr_val, parameter_proxy_cache)

    def read(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """An attribute of a module, read by the thread that traces."""
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_arg(self, a: Any) -> Any:
        """An argument, or a result, of a node."""
        if not isinstance(a, dict) or type(a) is dict:
            return super().create_arg(a)
        if type(a) is OrderedDict:
            return self.create_node("call_function", OrderedDict, (self.create_arg(list(a.items())),), {})
        if is_dataclass(a):
            return self.create_node("call_function", type(a), (), {key: self.create_arg(a[key]) for key in a})
        raise TypeError(f"it makes a {type(a).__name__}, and a graph only plain dicts, OrderedDicts and dataclasses")

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a value while tracing."""
        return value_of(node, self)


class QuantizedGraphModule(fx.GraphModule):
    """A GraphModule that was prepared or converted: copy.deepcopy, pickle and torch.save keep its notes.

    Lowered, it runs by `executor`, which gets the module, its own forward, and the arguments.
    """

    executor: ClassVar[Callable[[Any, Callable[..., Any], Any, Any], Any] | None] = None

    def __init__(self, root: Any, graph: fx.Graph, class_name: str = "GraphModule") -> None:
        check_names(graph)
        for node in _with_paths(graph):
            node.target = str(node.target)  # whose parts become names of attributes
        super().__init__(root, graph, class_name)

    def recompile(self) -> Any:
        """Make the code of the graph anew; what was compiled from the former graph is dropped."""
        for node in _with_paths(self.graph):
            node.target = as_path(str(node.target))
        python_code = super().recompile()
        kind: Any = type(self)
        kind.forward = _by_executor(kind.forward)
        vars(self).pop(CACHE, None)
        return python_code

    def carry(self, source: Any) -> QuantizedGraphModule:
        """Take the notes of another module, and what the user wants preserved."""
        notes = vars(source)
        for name in (*NOTES, *notes.get("qcore_preserved", ())):
            value = _attribute(source, name)
            if value is not None:
                setattr(self, name, value)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias") and "qcore_layer" in vars(self):
            layer = self.get_submodule(vars(self)["qcore_layer"])
            found = getattr(layer, name)
            found = found() if callable(found) else found
            return found.dequantize() if hasattr(found, "qparams") else found
        try:
            return super().__getattr__(name)
        except AttributeError:  # code around a layer calls methods of its own, such as flatten_parameters
            layer = vars(self).get("_modules", {}).get(vars(self).get("qcore_layer", ""))
            if layer is None or name.startswith(("_", "qcore")):
                raise
            return getattr(layer, name)

    def __prepare_scriptable__(self) -> Any:
        """What torch.jit.script puts in its place: a trace, as a graph has no control flow."""
        check_scripting()
        example = vars(self).get("qcore_example")
        if example is None or "qcore_runs_on" not in vars(self):
            raise UnsupportedError(
                "torch.jit.script takes converted graphs that were prepared with tensors as example inputs, and not "
                "loaded from a file since; use torch.jit.trace"
            )
        inputs = tuple(torch.zeros(shape, dtype=dtype) for shape, dtype in example)
        with torch.no_grad():
            return torch.jit.trace(self, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """As of each module; floats that the graph makes of integers get the dtype that a cast asks for."""
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        casts = [node for node in self.graph.nodes if CAST in node.meta]
        now = casts[0].args[1] if casts else torch.float32
        dtype = fn(torch.zeros((), dtype=now)).dtype
        if dtype is not now:
            self._cast(casts, dtype)
        return result

    def _cast(self, casts: list[fx.Node], dtype: torch.dtype) -> None:
        for cast in casts:
            cast.replace_all_uses_with(cast.args[0])  # type: ignore[arg-type]
            self.graph.erase_node(cast)
        made = [node for node in self.graph.nodes if node.op == "call_method" and node.target == "dequantize"]
        for node in made if dtype is not torch.float32 else ():
            with self.graph.inserting_after(node):
                cast = self.graph.call_method("to", (node, dtype))
            cast.meta[CAST] = True
            node.replace_all_uses_with(cast, lambda user, cast=cast: user is not cast)
        self.recompile()

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedGraphModule:
        return _restored(copy.deepcopy(_state(self), memo), copy.deepcopy(self.graph, memo))

    def __copy__(self) -> QuantizedGraphModule:
        state = {name: copy.copy(value) if isinstance(value, dict) else value for name, value in _state(self).items()}
        return _restored(state, copy.deepcopy(self.graph))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (_state(self), [_written(node) for node in self.graph.nodes])


RESERVED = frozenset(dir(QuantizedGraphModule)) | frozenset(vars(fx.GraphModule(nn.Module(), fx.Graph()))) | set(NOTES)
"""Names of attributes that graph modules have themselves."""

_MADE = frozenset(vars(fx.GraphModule(nn.Module(), fx.Graph()))) - frozenset(vars(nn.Module())) | {CACHE}
"""Attributes that a graph module makes itself."""


def _state(module: QuantizedGraphModule) -> dict[str, Any]:
    """All that a graph module holds besides its graph and what is made of that: notes, hooks, whatever users add."""
    return {name: value for name, value in vars(module).items() if name not in _MADE}


def _restored(state: dict[str, Any], graph: fx.Graph) -> QuantizedGraphModule:
    holder = nn.Module()
    vars(holder).update(state)
    graph._tracer_cls = GraphTracer
    result = QuantizedGraphModule(holder, graph)
    vars(result).update(state)
    return result


@dataclass(frozen=True)
class _Reference:
    """A node of a pickled graph, by name."""

    name: str


@dataclass(frozen=True)
class _Function:
    """A function of a pickled graph, by the name that files have for it: not all of torch's can be pickled."""

    name: str


def _written(node: fx.Node) -> tuple[Any, ...]:
    """A node as a pickle has it."""
    target: Any = node.target
    if node.op == "call_function":
        name = name_of(target)
        target = target if name is None else _Function(name)
    as_reference: Any = lambda each: _Reference(each.name)  # noqa: E731
    args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), as_reference)
    notes = {key: value for key, value in node.meta.items() if key.startswith("qcore")}
    return node.op, target, args, kwargs, node.name, notes


def _unpickled(state: dict[str, Any], nodes: list[tuple[Any, ...]]) -> QuantizedGraphModule:
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    for op, target, args, kwargs, name, notes in nodes:
        called = functions()[target.name] if isinstance(target, _Function) else target
        given = fx.node.map_aggregate(
            (args, kwargs), lambda each: made[each.name] if isinstance(each, _Reference) else each
        )
        node = made[name] = graph.create_node(op, called, *given, name)
        node.meta.update(notes)
    return _restored(state, graph)


def _attribute(module: Any, name: str) -> Any:
    for place in (vars(module), vars(module).get("_modules", {}), vars(module).get("_buffers", {})):
        if name in place:
            return place[name]
    return vars(module).get("_parameters", {}).get(name)


def preserve(model: Any, source: Any, names: list[str], function: str) -> None:
    """Carry attributes of a model over to what was made of it; ArgumentError for those that it lacks."""
    missing = [name for name in names if not hasattr(source, name)]
    if missing:
        near = difflib.get_close_matches(missing[0], dir(source), 3, 0.4)
        hint = f"; the nearest: {', '.join(map(repr, near))}" if near else ""
        raise ArgumentError(f"{function}: preserved_attributes: the model has no attribute {missing[0]!r}{hint}")
    for name in names:
        setattr(model, name, getattr(source, name))
    model.qcore_preserved = tuple(dict.fromkeys((*getattr(model, "qcore_preserved", ()), *names)))


def attribute(model: Any, path: str) -> Any:
    """What lies at a path of attributes."""
    for part in path.split("."):
        model = getattr(model, part)
    return model


def set_submodule(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path, making plain modules on the way where there is nothing yet."""
    *parents, name = path.split(".")
    owner = model
    for part in parents:
        child = owner._modules.get(part)
        if child is None:
            child = nn.Module()
            owner.add_module(part, child)
        owner = child
    owner._modules[name] = module


def free_name(model: nn.Module, stem: str) -> str:
    """A path that the model has nothing at: the stem, or with a number after it."""
    number, name = 0, stem
    while _taken(model, name):
        number += 1
        name = f"{stem}_{number}"
    return name


def _taken(model: nn.Module, path: str) -> bool:
    owner: Any = model
    for part in path.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True


def finished(model: QuantizedGraphModule) -> QuantizedGraphModule:
    """Drop modules that no node calls any more, check the graph, and make its code."""
    model.graph.lint()
    model.delete_all_unused_submodules()
    model.recompile()
    return model


def erase_if_unused(*nodes: fx.Node) -> None:
    """Take nodes without users out of the graph, the last first; calls of the user's may have effects, and are not
    given here."""
    for node in reversed(nodes):
        if not node.users:
            node.graph.erase_node(node)
