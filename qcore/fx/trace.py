"""trace: from a module to a graph; a submodule that cannot be traced becomes one call, with the reason kept."""

from __future__ import annotations

import inspect
import operator as python
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_map

from qcore.errors import QuantizationError
from qcore.fx.arguments import TENSOR, UNKNOWN, Argument, Inputs, arguments_of, form_of, split, taken
from qcore.fx.both_modes import check_modes
from qcore.fx.check import Examples, Unlike, scope_of
from qcore.fx.graph_module import GraphTracer, QuantizedGraphModule
from qcore.fx.inplace import Aliased, out_of_place
from qcore.fx.signatures import by_position
from qcore.fx.stacks import Stack
from qcore.fx.state import State
from qcore.fx.values import may_write
from qcore.fx.written_out import kernels_written_out
from qcore.nn.quantizable import Quantizable

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


class Untraceable(QuantizationError):
    """The forward of a module itself cannot be traced; the message says where and why."""


@dataclass
class Traced:
    """A graph, the path of the module that each node comes from, why some modules were not traced into, and an example
    of each of its inputs."""

    model: QuantizedGraphModule
    scopes: dict[str, str]
    leaves: dict[str, str] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()


def trace(
    model: nn.Module,
    keep: Callable[[str, nn.Module], str],
    inputs: Inputs | None = None,
    strict: bool = False,
    writes_inputs: bool = True,
) -> Traced:
    """Trace a module. `keep(path, module)`: a reason not to trace into a submodule; empty to try. `inputs`: what it is
    called with; the graph is made for those that hold no tensor, gives for the others what the module gives, and where
    it writes to values makes new ones. `writes_inputs`: as of out_of_place.

    Raises Untraceable where the module's own forward cannot be traced, or, with `strict`, any inside of it.
    """
    left: dict[str, str] = {}
    while True:
        try:
            return _traced(
                model, lambda path, each: keep(path, each) or left.get(path, ""), inputs, strict, writes_inputs
            )
        except Unlike as error:
            reason = f"cannot be a graph of values ({error})"
            if strict or not error.path or error.path in left:
                where = f"strict=True, and module {error.path!r} " if error.path else ""
                raise Untraceable(f"{where}{reason}") from error
            left[error.path] = reason


def _traced(
    model: nn.Module, keep: Callable[[str, nn.Module], str], inputs: Inputs | None, strict: bool, writes_inputs: bool
) -> Traced:
    """One attempt; Unlike for a graph that is not what the module does."""
    arguments = arguments_of(model, inputs)
    state = State(model)
    failed: Exception | None = None
    for records_buffers in _WAYS:
        way, tracer = records_buffers, LeafTracer(keep, strict, records_buffers, arguments)
        try:
            with kernels_written_out():
                graph = tracer.trace(model)
            break
        except Untraceable:
            state.restore()
            raise
        except Exception as error:
            state.restore()
            failed = failed or error
    else:
        assert failed is not None
        raise Untraceable(reason_of(failed)) from failed
    by_position(graph, dict(model.named_modules(remove_duplicate=False)))
    graph._tracer_cls = GraphTracer
    traced = QuantizedGraphModule(model, graph)
    kept = _kept_values(state)
    if any(module.training for module in model.modules()):
        check_modes(model, graph, lambda: _again(model, tracer, keep, way))
        state.restore()
    fixed = [(position, each.name, form_of(each.value)) for position, each in enumerate(arguments)]
    fixed = [each for each in fixed if each[2] is not UNKNOWN and (each[0] or each[2] is not TENSOR)]
    traced.qcore_fixed = tuple(fixed)  # type: ignore[assignment]
    if inputs is not None:
        _make_like(model, traced, Examples(model, arguments, tracer.results), kept, writes_inputs)
    scopes = {node.name: scope_of(node) for node in graph.nodes}
    return Traced(traced, scopes, tracer.leaves, () if inputs is None else tuple(each.value for each in arguments))


def _again(
    model: nn.Module, first: LeafTracer, keep: Callable[[str, nn.Module], str], records_buffers: bool
) -> fx.Graph:
    """The graph that the model gives now, with what was not traced into before."""
    reasons = first.leaves
    tracer = LeafTracer(
        lambda path, each: reasons.get(path, "") or keep(path, each), first.strict, records_buffers, first.arguments
    )
    with kernels_written_out():
        graph = tracer.trace(model)
    by_position(graph, dict(model.named_modules(remove_duplicate=False)))
    return graph


def _kept_values(state: State) -> list[tuple[str, str]]:
    """Path and name of attributes that hold values of the graph after tracing; Unlike for those that count, and for
    buffers that change. All is as it was afterwards."""
    try:
        for path, name in state.buffers():
            raise Unlike(path, f"it changes its buffer {name!r}")
        changed = [each for each in state.attributes() if not each[1].startswith("_tensor_constant")]  # the tracer's
        for path, name, before, after in changed:
            if isinstance(after, bool | int | float | str) and isinstance(before, bool | int | float | str):
                raise Unlike(path, f"it changes its attribute {name!r}")
        return [(path, name) for path, name, _, _ in changed]
    finally:
        state.restore()


def _make_like(
    model: nn.Module, traced: QuantizedGraphModule, examples: Examples, kept: list[tuple[str, str]], writes_inputs: bool
) -> None:
    """Make a graph what the module is on its examples; Unlike where that fails."""
    if examples.error is not None:
        write = next((node for node in traced.graph.nodes if may_write(node, traced)), None)
        if write is not None:
            raise Unlike("", f"{write.name} writes in place, and it cannot be run here: {examples.error}")
        return
    for path, name in kept:
        examples.check_again(path, name)
    memory = examples.watch(traced)
    try:
        changed = out_of_place(traced.graph, memory, writes_inputs)
    except Aliased as error:
        traced_into = {path for path, _ in examples.results}
        raise Unlike(_around([scope_of(node) for node in error.nodes], traced_into), str(error)) from error
    _erase_unread(traced.graph)
    traced.recompile()
    if changed:
        examples.check(traced)


def _around(scopes: list[str], paths: set[str]) -> str:
    """The innermost of some modules that has all scopes in it."""
    inside = [path for path in paths if all(f"{scope}.".startswith(f"{path}.") for scope in scopes)]
    return max(inside, key=len, default="")


def _erase_unread(graph: fx.Graph) -> None:
    """Take away items of values that nothing reads."""
    for node in reversed(graph.nodes):
        if node.target is python.getitem and not node.users:
            graph.erase_node(node)


def reason_of(error: Exception) -> str:
    """Why tracing failed, with the line of the user's code where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((_TORCH, _HERE)) and frame.line]
    where = f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
    text = str(error).partition("\n")[0].partition(". ")[0].rstrip(". ")
    return f"cannot be traced{where} ({text})"


def has_parts(module: nn.Module) -> bool:
    """Whether a module calls others."""
    return any(True for _ in module.children())


def _node_of(value: Any) -> Any:
    return value.node if isinstance(value, fx.Proxy) else value


_WAYS = (False, True)
"""Whether reads of buffers are recorded. As torch does it, they are not, so that code may branch on them; but slices of
a buffer as long as an input need it."""


class LeafTracer(GraphTracer):
    """Traces into modules, but for those that `keep` has a reason against, or that cannot be traced."""

    def __init__(
        self,
        keep: Callable[[str, nn.Module], str],
        strict: bool,
        records_buffers: bool,
        arguments: list[Argument],
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.proxy_buffer_attributes = records_buffers
        self.keep = keep
        self.strict = strict
        self.leaves: dict[str, str] = {}
        self.results: list[tuple[str, Any]] = []
        self._parameter_proxies: dict[str, Any] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.leaves or isinstance(m, fx.GraphModule):
            return True
        reason = self.keep(module_qualified_name, m)
        if reason:
            self.leaves[module_qualified_name] = reason
            return True
        if isinstance(m, Quantizable | Stack) or type(m) is nn.Sequential:
            return False
        return m.__module__.startswith("qcore.") or (
            m.__module__.startswith("torch.nn") and not (has_parts(m) and type(m) is not nn.MultiheadAttention)
        )

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """The forward, with all its arguments bound."""
        types = getattr(inspect.unwrap(root_fn), "__annotations__", {})
        values = [
            self.create_proxy("placeholder", each.name, each.default, {}, type_expr=types.get(each.name))
            for each in self.arguments
        ]
        pairs = zip(self.arguments, values, strict=True)
        given = split(self.arguments, [taken(form_of(each.value), value) for each, value in pairs])
        return lambda: self.root.forward(*given.args, **given.kwargs), []

    def count(self, obj: fx.Proxy) -> int:
        """How many pieces a value is, where the call that cuts it says so; TypeError where it does not."""
        node = obj.node
        name = str(getattr(node.target, "__name__", node.target))
        given: Any = node.args[1] if len(node.args) > 1 else next(iter(node.kwargs.values()), None)
        if name in ("chunk", "tensor_split") and isinstance(given, int):
            return given
        if name in ("split", "split_with_sizes") and isinstance(given, list | tuple):
            return len(given)
        raise TypeError("the length of a value is not known when it is traced")

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The pieces of a value."""
        parts: Any = obj
        return iter([parts[index] for index in range(self.count(obj))])

    def read(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        self._parameter_proxies = parameter_proxy_cache
        return super().read(attr, attr_val, parameter_proxy_cache)

    def called(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            return super().called(m, forward, args, kwargs)
        before = set(self.graph.nodes)
        scope, stack, usual = self.scope, self.module_stack.copy(), self.proxy_buffer_attributes
        failed: Exception | None = None
        for records_buffers in _WAYS if not usual else (usual,):
            self.proxy_buffer_attributes = records_buffers
            try:
                result = super().called(m, forward, args, kwargs)
                self.results.append((path, tree_map(_node_of, result)))
                return result
            except Untraceable:
                raise
            except Exception as error:
                failed = failed or error
                self._roll_back(before)
                self.leaves = {name: why for name, why in self.leaves.items() if not name.startswith(f"{path}.")}
                self.results = [each for each in self.results if not each[0].startswith(f"{path}.")]
                self.scope, self.module_stack = scope, stack.copy()
            finally:
                self.proxy_buffer_attributes = usual
        assert failed is not None
        reason = reason_of(failed)
        if self.strict:
            raise Untraceable(f"strict=True, and module {path!r} ({type(m).__name__}) {reason}") from failed
        self.leaves[path] = reason
        return super().called(m, forward, args, kwargs)

    def _roll_back(self, before: set[fx.Node]) -> None:
        """Take away what a failed attempt has recorded."""
        for node in reversed([node for node in self.graph.nodes if node not in before]):
            self.graph.erase_node(node)
        kept = set(self.graph.nodes)
        for name, proxy in list(self._parameter_proxies.items()):
            if proxy.node not in kept:
                del self._parameter_proxies[name]
