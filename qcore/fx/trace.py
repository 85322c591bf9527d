"""trace: from a module to a graph; a submodule that cannot be traced becomes one call, with the reason kept."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from qcore.errors import QuantizationError
from qcore.fx.arguments import Argument, Inputs, arguments_of, split
from qcore.fx.graph_module import GraphTracer, QuantizedGraphModule
from qcore.fx.inplace import Aliased, out_of_place
from qcore.fx.stacks import Stack
from qcore.nn.quantizable import Quantizable
from qcore.process import Shared

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
    inputs: Inputs = ()


def trace(
    model: nn.Module,
    keep: Callable[[str, nn.Module], str],
    inputs: Inputs | None = None,
    strict: bool = False,
) -> Traced:
    """Trace a module. `keep(path, module)`: a reason not to trace into a submodule; empty to try. `inputs`: as
    arguments.by_parameter has them; for a value of None, a bool or a string the graph is made for that value alone.

    Raises Untraceable where the module's own forward cannot be traced, or, with `strict`, any inside of it.
    """
    arguments = arguments_of(model, inputs)
    failed: Exception | None = None
    for records_buffers in _WAYS:
        tracer = LeafTracer(keep, strict, records_buffers, arguments)
        try:
            with kernels_written_out():
                graph = tracer.trace(model)
            break
        except Untraceable:
            raise
        except Exception as error:
            failed = failed or error
    else:
        assert failed is not None
        raise Untraceable(reason_of(failed)) from failed
    graph._tracer_cls = GraphTracer
    scopes = {node.name: _scope(node) for node in graph.nodes}
    traced = QuantizedGraphModule(model, graph)
    fixed = [(position, each.name, each.value) for position, each in enumerate(arguments) if each.fixed]
    traced.qcore_fixed = tuple(fixed)  # type: ignore[assignment]
    try:
        out_of_place(traced)
    except Aliased as error:
        raise Untraceable(f"cannot be a graph of values ({error})") from error
    return Traced(traced, scopes, tracer.leaves, () if inputs is None else tuple(each.value for each in arguments))


def reason_of(error: Exception) -> str:
    """Why tracing failed, with the line of the user's code where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((_TORCH, _HERE)) and frame.line]
    where = f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
    text = str(error).partition("\n")[0].partition(". ")[0].rstrip(". ")
    return f"cannot be traced{where} ({text})"


_WRITTEN_OUT: ContextVar[bool] = ContextVar("qcore_kernels_written_out", default=False)


class _FastPath:
    """torch's flag for one kernel in place of a transformer's layer, of which it has one for the process: off for those
    within kernels_written_out, and what it was for others, whose results would differ in last bits."""

    def __init__(self, usual: bool) -> None:
        self.usual = usual

    def __bool__(self) -> bool:
        return bool(self.usual) and not _WRITTEN_OUT.get()


@contextmanager
def _flag_by_context() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(_FastPath(before))  # type: ignore[arg-type]
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


_flag = Shared(_flag_by_context)


@contextmanager
def kernels_written_out() -> Iterator[None]:
    """Within it, layers of transformers call their parts, and not one kernel for all of them."""
    with _flag():
        token = _WRITTEN_OUT.set(True)
        try:
            yield
        finally:
            _WRITTEN_OUT.reset(token)


def has_parts(module: nn.Module) -> bool:
    """Whether a module calls others."""
    return any(True for _ in module.children())


def _scope(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if node.op == "call_module":
        stack = stack[:-1]  # the last entry is the module itself
    return stack[-1][0] if stack else ""


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
        args, kwargs = split(self.arguments, [each.value if each.fixed else value for each, value in pairs])
        return lambda: self.root.forward(*args, **kwargs), []

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
                return super().called(m, forward, args, kwargs)
            except Untraceable:
                raise
            except Exception as error:
                failed = failed or error
                self._roll_back(before)
                self.leaves = {name: why for name, why in self.leaves.items() if not name.startswith(f"{path}.")}
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
