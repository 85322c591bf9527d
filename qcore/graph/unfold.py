"""Modules that tracing could not enter since they look at sizes: entered with the sizes of one call.

The graph of a model has one call for such a module. Here that call becomes the graph that the module's code makes for
the sizes at hand. Another call may run it if the same graph comes of its sizes.
"""

from __future__ import annotations

import operator as python
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from qcore.fx.check import Unlike, copied, same
from qcore.fx.graph_module import QuantizedGraphModule
from qcore.fx.inplace import out_of_place
from qcore.fx.memory import Memory
from qcore.fx.signatures import by_position
from qcore.fx.trace import LeafTracer
from qcore.fx.values import Value
from qcore.fx.views import reshape_views
from qcore.fx.written_out import kernels_written_out
from qcore.graph.ir import DTYPE
from qcore.nn.quantized.base import QuantizedModule


def folded(model: fx.GraphModule) -> list[str]:
    """Paths of the called modules that have quantized ones inside, which a backend does not see."""
    modules = dict(model.named_modules(remove_duplicate=False))
    called = {str(node.target): modules[str(node.target)] for node in model.graph.nodes if node.op == "call_module"}
    return [path for path, module in called.items() if _holds_quantized(module)]


def _holds_quantized(module: nn.Module) -> bool:
    return not isinstance(module, QuantizedModule) and any(
        isinstance(each, QuantizedModule) for each in module.modules()
    )


def unfold(model: QuantizedGraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[fx.Graph, list[str]]:
    """The graph of a model for the sizes of some inputs, and the paths of the modules that it has entered.

    Raises what their code raises where it cannot be followed, and Aliased and Unlike as tracing does.
    """
    tracer = _Unfolder(model, *tree_map(copied, (args, kwargs)))
    with torch.no_grad(), kernels_written_out():
        graph = tracer.trace(model)
        output = next(node for node in graph.nodes if node.op == "output")
        found = fx.node.map_arg(output.args[0], tracer.values.__getitem__)
        if not same(fx.Interpreter(model).run(*tree_map(copied, tracer.given())), found):
            raise Unlike("", "gives something else where its modules are entered")
    by_position(graph, dict(model.named_modules(remove_duplicate=False)))
    out_of_place(graph, tracer.memory)
    reshape_views(graph)
    for node in reversed(graph.nodes):
        if node in tracer.sized and not node.users and node.op != "placeholder":
            graph.erase_node(node)
    return graph, list(tracer.entered)


class _Sized(Value):
    """A value of a graph whose sizes are known; they are values of the graph as well."""

    def __getattr__(self, name: str) -> Any:
        found = self.tracer.values.get(self.node)
        if isinstance(found, Tensor):
            if name == "shape":
                return self.size()
            if name in ("ndim", "dtype", "device", "is_cuda", "layout"):
                return getattr(found, name)
        return super().__getattr__(name)

    def size(self, dim: int | None = None) -> Any:
        """As of a tensor."""
        rank = range(self.dim())
        return tuple(self._size(each) for each in rank) if dim is None else self._size(dim)

    def dim(self) -> int:
        """As of a tensor."""
        return self.tracer.values[self.node].dim()  # type: ignore[no-any-return]

    def _size(self, dim: int) -> Any:
        return self.tracer.create_proxy("call_method", "size", (self, dim), {})


_HOOKS = "it has hooks, which its calls run"


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class _Unfolder(LeafTracer):
    """`values`: of each node, in this call; `sized`: nodes that depend on sizes alone, which code may branch on;
    `entered`: paths of the modules whose calls are taken apart.
    """

    def __init__(self, model: QuantizedGraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(lambda path, module: _HOOKS if _has_hooks(module) else "", False, False, [])
        self.model = model
        self.values: dict[fx.Node, Any] = {}
        self.memory = Memory()
        self.sized: set[fx.Node] = set()
        self.entered: dict[str, None] = {}
        self._given = args, kwargs
        self._evaluates = False

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """The model's graph, as a function that runs it once."""
        return self._walk, []

    def given(self) -> list[Any]:
        """What the model's graph is called with."""
        inputs = [node for node in self.model.graph.nodes if node.op == "placeholder"]
        args, kwargs = self._given
        named = {**dict(zip([node.target for node in inputs], args, strict=False)), **kwargs}
        return [named.get(str(node.target), node.args[0] if node.args else None) for node in inputs]

    def _walk(self) -> Any:
        given = iter(self.given())
        results: dict[fx.Node, Any] = {}
        for node in self.model.graph.nodes:
            taken, named = fx.node.map_arg((node.args, dict(node.kwargs)), results.__getitem__)
            if node.op == "output":
                return taken[0]
            if node.op == "placeholder":
                self._placeholder = next(given)
                results[node] = self.create_proxy("placeholder", node.target, node.args, {}, type_expr=node.type)
            elif node.op == "call_module":
                results[node] = self.model.get_submodule(str(node.target))(*taken, **named)
            elif node.target is python.getitem and not isinstance(taken[0], fx.Proxy):
                results[node] = taken[0][taken[1]]  # of what a module that was entered returned
            else:
                results[node] = self.create_proxy(node.op, node.target, taken, dict(named))
        return None

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        """A node, with its value."""
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        if kind == "placeholder":
            self.values[node] = self._placeholder
        elif kind != "output":
            self._evaluates = True
            try:
                taken = fx.node.map_arg((args, kwargs), self.values.__getitem__)
                self.values[node] = self.memory.watched(
                    node, self.values.__getitem__, lambda: self._value(kind, target, *taken)
                )
            finally:
                self._evaluates = False
        found = self.values.get(node)
        if isinstance(found, Tensor):
            node.meta[DTYPE] = found.dtype
        if self._is_sized(node):
            self.sized.add(node)
        return node

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "get_attr":
            return python.attrgetter(target)(self.model)
        if kind == "call_module":
            return self.model.get_submodule(target)(*args, **kwargs)
        return getattr(args[0], target)(*args[1:], **kwargs) if kind == "call_method" else target(*args, **kwargs)

    def _is_sized(self, node: fx.Node) -> bool:
        if node.target in ("size", "dim") or (node.target is getattr and node.args[1] in ("shape", "ndim")):
            return True
        inputs = node.all_input_nodes
        return node.op == "call_function" and bool(inputs) and all(each in self.sized for each in inputs)

    def called(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._evaluates:
            return forward(*args, **kwargs)
        result = super().called(m, forward, args, kwargs)
        path = self.path_of_module(m)
        if not self.is_leaf_module(m, path):
            self.entered[path] = None
        return result

    def read(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._evaluates else super().read(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Sized(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Where only sizes are asked about, as it is in this call."""
        found = self.values.get(obj.node)
        if obj.node in self.sized and isinstance(found, bool | int):
            return bool(found)
        return super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The elements of a tuple."""
        found, parts = self.values.get(obj.node), cast(Any, obj)
        return iter([parts[i] for i in range(len(found))]) if isinstance(found, tuple | list) else super().iter(obj)
