"""How a converted model runs: the parts that its backends claim as compiled plans, the rest on the module level.

The model stays as it is, with its modules, weights, keys and code. The execution is a cache beside it, made on the
first call and again when a module of it has changed; where an input is not what the parts were compiled for, and while
torch traces, the modules themselves run.
"""

from __future__ import annotations

import operator as python
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from qcore.backend import Backend, Plan
from qcore.binding import undisturbed
from qcore.errors import ArgumentTypeError
from qcore.fx.graph_module import CACHE, QuantizedGraphModule
from qcore.fx.patterns import is_question
from qcore.graph.from_fx import read
from qcore.graph.ir import Graph
from qcore.graph.partition import Stage, partition
from qcore.graph.unfold import folded, unfold
from qcore.nn.quantized.base import QuantizedModule, changes
from qcore.registry import registry
from qcore.tensor.entering import entered, on_the_cpu
from qcore.tensor.qtensor import QTensor


class Part(nn.Module):
    """One claimed part: a plan of `owner` between the tensors of the module level, which run on `backend`."""

    def __init__(self, graph: Graph, plan: Plan, owner: str, backend: str) -> None:
        super().__init__()
        self.graph = graph
        self.plan = plan
        self._run = undisturbed(plan)
        self.owner = owner
        self._inputs = graph.inputs
        self._outputs = [value.qparams for value in graph.outputs]
        self._backend = backend

    def plain(self, inputs: tuple[Any, ...]) -> list[Tensor]:
        """The tensors that the plan takes; Unexpected where one is not what the graph says."""
        found: list[Tensor] = []
        for given, value in zip(inputs, self._inputs, strict=True):
            if value.qparams is None:
                if type(given) not in _PLAIN or given.is_neg():
                    given = _resolved(given)
                if given.dtype is not value.plain or not given.is_cpu or given.layout is not torch.strided:
                    raise Unexpected
                found.append(given)
            else:
                if not isinstance(given, QTensor) or given.qparams != value.qparams or not given.raw.is_cpu:
                    raise Unexpected
                found.append(given.raw)
        return found

    def forward(self, *inputs: Any) -> Any:
        """The graph's outputs, in a tuple."""
        given = self.plain(inputs)
        try:
            raw = self._run(*given)
        except RuntimeError:
            if any(each.is_nested for each in given):
                raise Unexpected from None
            raise
        backend = self._backend
        return tuple(
            each if q is None else QTensor(each, q, backend) for each, q in zip(raw, self._outputs, strict=True)
        )


_PLAIN = (Tensor, nn.Parameter)


def _resolved(given: Any) -> Tensor:
    """An input as plans read it, else Unexpected: the modules say what is wrong with it."""
    try:
        return entered(given, "an input")
    except ArgumentTypeError:
        raise Unexpected from None


class Unexpected(Exception):
    """An input that the parts were not compiled for."""


class Execution:
    """A converted model cut into parts and calls; str() shows the parts' plans. `code`: the calls, as a module.

    `graph`: what to run in place of the model's own, with the modules at the paths `entered` taken apart.
    """

    def __init__(
        self,
        model: QuantizedGraphModule,
        backends: Sequence[Backend],
        name: str,
        graph: fx.Graph | None = None,
        entered: Sequence[str] = (),
    ) -> None:
        self._seen = changes.count
        graph = model.graph if graph is None else graph
        reading = read(model, graph)
        stages = partition(reading, [each.claims(reading.graph) for each in backends], list(graph.nodes))
        names = {node: value.name for node, value in reading.values.items()}
        made = [(stage.part, backends[stage.owner]) for stage in stages if stage.part and stage.owner is not None]
        self.parts = [Part(part, backend.compile(part), backend.name, name) for part, backend in made]
        self.backend = name
        called = {node for stage in stages for node in stage.calls}
        self._watched = list(_owners(model, [node for node in graph.nodes if node not in called], entered))
        self._training = [module.training for _, _, module in self._watched]
        self._constants = _constants(self._watched)
        read_by_code = [str(node.target) for node in called if node.op == "get_attr"]
        held = [path for path in read_by_code if _holder(model, path) is not None]
        self._tensors = [_tensor(model, path) for path in dict.fromkeys((*reading.constants, *held))]
        self.text = str(graph)
        self.code = _code(model, stages, self.parts, names) if self.parts else None

    def is_current(self) -> bool:
        """Whether the model is as it was; hooks are seen by the module level only, and count as a change."""
        for (owner, name, module), training in zip(self._watched, self._training, strict=True):
            if owner[name] is not module or module._forward_hooks or module._forward_pre_hooks:
                return False
            if module.training is not training:
                return False
        for holder, name, tensor, memory in self._tensors:
            if holder.get(name) is not tensor or tensor.data_ptr() != memory:
                return False
        count = changes.count
        if self._seen != count:
            now = _constants(self._watched)
            if len(now) != len(self._constants) or any(a is not b for a, b in zip(now, self._constants, strict=True)):
                return False
            self._seen = count
        return True

    def __str__(self) -> str:
        if not self.parts:
            return f"{self.backend} compiles nothing of this model; its modules run one by one"
        assert self.code is not None
        calls = [node for node in self.code.graph.nodes if node.op.startswith("call_") and not _is_own(node)]
        lines = [f"part {number}, by {part.owner}:\n{part.plan}" for number, part in enumerate(self.parts)]
        outside = ", ".join(str(getattr(node.target, "__name__", node.target)) for node in calls) or "nothing"
        return "\n".join([*lines, f"on the module level: {outside}"])


def _is_own(node: fx.Node) -> bool:
    return str(node.target).startswith(_PREFIX) or any(
        str(each.target).startswith(_PREFIX) for each in node.all_input_nodes
    )


_PREFIX, _TENSOR = "qcore_part_", "qcore_tensor_"


def _owners(
    model: nn.Module, nodes: list[fx.Node], entered: Sequence[str]
) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Where each called module is held, under what name, and the module."""
    calls = [node for node in nodes if node.op == "call_module"]
    # methods of a module are called on what get_attr gives
    calls += [each for node in nodes for each in node.all_input_nodes[:1] if each.op == "get_attr"]
    for path in dict.fromkeys((*entered, *(str(node.target) for node in calls))):
        parent, _, name = path.rpartition(".")
        owner: Any = model.get_submodule(parent)._modules
        if name in owner:  # else it is a tensor
            yield owner, name, owner[name]


def _holder(model: nn.Module, path: str) -> dict[str, Any] | None:
    """Where a tensor is held; None for what is none."""
    parent, _, name = path.rpartition(".")
    owner: Any = model.get_submodule(parent)
    return next((holder for holder in (owner._parameters, owner._buffers) if holder.get(name) is not None), None)


def _tensor(model: nn.Module, path: str) -> tuple[dict[str, Any], str, Tensor, int]:
    """Where a float tensor is held, under what name, the tensor, and where its numbers are, for plans to read."""
    holder, name = _holder(model, path), path.rpartition(".")[2]
    assert holder is not None
    return holder, name, holder[name], holder[name].data_ptr()


def _constants(watched: list[tuple[dict[str, Any], str, Any]]) -> list[Any]:
    """What the modules compute with; other objects in their place are a change."""
    return [
        value
        for owner, name, _ in watched
        if isinstance(owner[name], QuantizedModule)
        for holder in (vars(owner[name]), owner[name]._buffers)
        for key, value in holder.items()
        if key != "_kernel"
    ]


def _code(
    model: QuantizedGraphModule, stages: list[Stage], parts: list[Part], names: dict[fx.Node, str]
) -> fx.GraphModule:
    """The model with one call for each part."""
    graph = fx.Graph()
    graph._codegen = model.graph._codegen
    root: dict[str, Any] = {}
    results: dict[str, fx.Node] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    left = iter(parts)

    def result(node: fx.Node) -> fx.Node:
        return results[names.get(node, node.name)]

    for stage in stages:
        for node in stage.calls:
            results[node.name] = copy = graph.node_copy(node, result)
            if names.get(node, node.name) != node.name:
                results[names[node]] = copy
            if node.op == "call_module":
                root[str(node.target)] = modules[str(node.target)]
            elif node.op == "get_attr":
                # under a name of its own: at its path, torch.fx would register it anew on the module that holds it
                copy.target = f"{_TENSOR}{len(root)}"
                root[copy.target] = _attribute(model, str(node.target))
        if stage.part is not None:
            part = next(left)
            name = f"{_PREFIX}{len(root)}"
            root[name] = part
            made = graph.call_module(name, tuple(results[value.name] for value in stage.part.inputs))
            for number, value in enumerate(stage.part.outputs):
                results[value.name] = graph.call_function(item, (made, number))
    for node in reversed(graph.nodes):
        if not node.users and (node.op == "get_attr" or is_question(node) or node.target is python.getitem):
            graph.erase_node(node)  # what only parts use
    return fx.GraphModule(root, graph)


def item(values: tuple[Any, ...], number: int) -> Any:
    """One output of a part."""
    return values[number]


def _attribute(model: Any, path: str) -> Any:
    for name in path.split("."):
        model = getattr(model, name)
    return model


# --- on the model ---------------------------------------------------------------------------------------------------


class _Cache:
    """The executions of one model, made under a lock; a copy of it is empty.

    A model that calls modules with quantized ones inside has one for each graph that sizes make of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._execution: Execution | None = None
        self._by_call: dict[Any, Execution] = {}
        self._folds: bool | None = None

    def of(self, model: QuantizedGraphModule, call: Call | None) -> Execution:
        if self._folds is None:
            self._folds = bool(folded(model))
        key = None if call is None or not self._folds else _form(call)
        found = self._execution if key is None else self._by_call.get(key)
        if found is None or not found.is_current():
            with self._lock:
                found = self._execution if key is None else self._by_call.get(key)
                if found is None or not found.is_current():
                    found = self._execution = self._made(model, None if key is None else call)
                    while len(self._by_call) >= _CALLS:
                        self._by_call.pop(next(iter(self._by_call)))
                    if key is not None:
                        self._by_call[key] = found
        return found

    @on_the_cpu()
    def _made(self, model: QuantizedGraphModule, call: Call | None) -> Execution:
        choice = registry.choose(model.qcore_runs_on)
        chosen = [registry.get(each) for each in choice.selection.names]
        if call is None:
            return Execution(model, chosen, choice.name)
        try:
            graph, entered = unfold(model, *call)
        except Exception:  # code of the user's that no tracer follows: its modules are called as they are
            return Execution(model, chosen, choice.name)
        text = str(graph)
        for each in self._by_call.values():
            if each.text == text and each.is_current():
                return each
        return Execution(model, chosen, choice.name, graph, entered)

    def __deepcopy__(self, memo: Any) -> _Cache:
        return _Cache()


Call: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"
_CALLS = 256


def _form(call: Call) -> Any:
    """What a graph of a call may depend on: sizes and dtypes of tensors, other values; None where it is not known."""
    args, kwargs = call
    try:
        return tuple(map(_value_form, args)), tuple(
            (name, _value_form(value)) for name, value in sorted(kwargs.items())
        )
    except TypeError:
        return None


def _value_form(value: Any) -> Any:
    if isinstance(value, Tensor):
        return type(value), value.shape, value.dtype
    if value is None or isinstance(value, bool | int | float | str):
        return type(value), value
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_value_form, value))
    raise TypeError


def execution_of(model: QuantizedGraphModule, call: Call | None = None) -> Execution:
    """The execution of a converted model as it is now, for a call, or for the latest; made if there is none."""
    cache: _Cache = vars(model).setdefault(CACHE, _Cache())
    return cache.of(model, call)


def execute(model: QuantizedGraphModule, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a converted model: by its parts, or, where these do not fit, by its modules (`forward`)."""
    if model.training or _ON_MODULES.get() or _is_traced(args):
        return forward(model, *args, **kwargs)
    execution = execution_of(model, (args, kwargs))
    if execution.code is None:
        return forward(model, *args, **kwargs)
    try:
        return execution.code.forward(*args, **kwargs)
    except Unexpected:
        return forward(model, *args, **kwargs)


def _is_traced(args: Any) -> bool:
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return True
    return any(isinstance(each, fx.Proxy) for each in args)


QuantizedGraphModule.executor = staticmethod(execute)

_ON_MODULES: ContextVar[bool] = ContextVar("qcore_on_modules", default=False)


@contextmanager
def on_modules() -> Iterator[None]:
    """Within it, converted models run module by module."""
    token = _ON_MODULES.set(True)
    try:
        yield
    finally:
        _ON_MODULES.reset(token)
