"""check: whether a graph gives what its module gives, on the example inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from qcore.fx.arguments import Argument, split
from qcore.fx.memory import Memory, Watching
from qcore.fx.state import State
from qcore.fx.written_out import kernels_written_out

_ROUNDING = 1e-5
"""How far, for the largest value, two runs of one kernel may differ: some round by where their tensors lie."""


class Unlike(Exception):
    """A graph is not what the module at `path` does; the message says in what."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class Examples:
    """A module, its arguments, and what it gives for them; it is afterwards as it was.

    `results`: the path of each module that was traced into, and the nodes of what it gave, in the order in which they
    ended. `error`: why the module cannot be run on its examples.
    """

    def __init__(self, model: nn.Module, arguments: list[Argument], results: list[tuple[str, Any]]) -> None:
        self.model = model
        self.values = [tree_map(solid, each.value) for each in arguments]
        self.arguments = arguments
        self.results = results
        self.error: Exception | None = None
        self.state = State(model)
        self._right: Any = None
        self._buffers: Any = None
        self._held: Any = None
        try:
            self._right, self._buffers, self._held = self._run(self._module)
        except Exception as error:
            self.error = error

    def _module(self, *values: Any) -> Any:
        given = split(self.arguments, list(values))
        return self.model(*given.args, **given.kwargs)

    def _run(self, function: Callable[..., Any], restores: bool = True) -> tuple[Any, Any, Any]:
        """The result, buffers that it changes, and what the lists and dicts that it is given hold after it."""
        copies = tree_map(copied, self.values)
        given = {id(each): index for index, each in enumerate(tree_leaves(copies)) if isinstance(each, Tensor)}
        try:
            with torch.inference_mode(False), torch.no_grad(), kernels_written_out():
                result = function(*copies)
                held = tree_map(lambda each: given.get(id(each), -1) if isinstance(each, Tensor) else each, copies)
                return result, self.state.buffers(), held
        finally:
            if restores:
                self.state.restore()

    def check_again(self, path: str, name: str) -> None:
        """Unlike where a second call gives something else than the first."""
        self._run(self._module, restores=False)
        torch.set_rng_state(self.state._random)
        second, *_ = self._run(self._module)
        if not same(self._right, second):
            raise Unlike(path, f"keeps {name!r} from call to call, and what it gives depends on that")

    def watch(self, graph: fx.GraphModule) -> Memory:
        """What the calls of a graph do to memory; Unlike where it gives something else than the module."""
        run = Watching(graph)
        try:
            result, buffers, held = self._run(run.run)
        except Exception as error:
            at = "" if run.at is None else scope_of(run.at)
            raise Unlike(at, f"fails as a graph, and not by itself: {str(error).splitlines()[0]}") from error
        if not same(self._right, result) or not same(self._buffers, buffers):
            raise Unlike(self._culprit(graph), "gives something else as a graph than by itself, on the example inputs")
        if not same(self._held, held):
            raise Unlike("", "changes a list or dict that it is given, which a graph does not")
        return run.memory

    def check(self, graph: fx.GraphModule) -> None:
        """Unlike where a graph gives something else than the module."""
        result, *_ = self._run(graph.forward)
        if not same(self._right, result):
            raise Unlike("", "gives something else as a graph than by itself, on the example inputs")

    def _culprit(self, graph: fx.GraphModule) -> str:
        """The path of the first module that gives something else in the graph."""
        wanted = {each for _, nodes in self.results for each in _nodes(nodes)}
        found: dict[fx.Node, Any] = {}
        right: dict[str, list[Any]] = {}

        def keep(node: fx.Node, value: Any) -> None:
            if node in wanted:
                found[node] = tree_map(copied, value)

        hooks = [
            module.register_forward_hook(
                lambda _, given, result, path=path: right.setdefault(path, []).append(tree_map(copied, result))
            )
            for path, module in self.model.named_modules()
        ]
        try:
            self._run(Watching(graph, keep).run)
            self._run(self._module)
        finally:
            for hook in hooks:
                hook.remove()
        for path, nodes in self.results:
            values = right.get(path, [])
            if values and not same(values.pop(0), fx.node.map_arg(nodes, found.get)):
                return path
        return ""


def scope_of(node: fx.Node) -> str:
    """The path of the module whose forward makes a call."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if node.op == "call_module":
        stack = stack[:-1]  # the last entry is the module itself
    return stack[-1][0] if stack else ""


def _nodes(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found


def copied(value: Any) -> Any:
    """A tensor's copy, for a model that may write to its inputs; anything else as it is."""
    return value.clone() if isinstance(value, Tensor) else value


def solid(value: Any) -> Any:
    """A tensor with memory of its own; one of zeros that takes none stands for numbers that are not known."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or hasattr(value, "qparams"):
        return value
    if value.numel() > 1 and not any(value.stride()) and value.is_floating_point():
        drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        return drawn.to(value.dtype)
    return value


def same(right: Any, found: Any) -> bool:
    """Whether two results are the same: tensors to the bit, but for what kernels round by where their tensors lie."""
    if isinstance(right, Tensor):
        return isinstance(found, Tensor) and _same_tensors(right, found)
    if isinstance(right, tuple | list):
        alike = isinstance(found, tuple | list) and isinstance(right, list) == isinstance(found, list)
        return alike and len(right) == len(found) and all(map(same, right, found))
    if isinstance(right, dict):
        return (
            isinstance(found, dict)
            and list(right) == list(found)
            and all(same(right[key], found[key]) for key in right)
        )
    return type(right) is type(found) and (not isinstance(right, bool | int | float | str) or _equal(right, found))


def _equal(right: Any, found: Any) -> bool:
    return bool(right == found or (right != right and found != found))


def _same_tensors(right: Tensor, found: Tensor) -> bool:
    right, found = (each.dequantize() if hasattr(each, "qparams") else each for each in (right, found))
    if right.shape != found.shape or right.dtype != found.dtype:
        return False
    if right.layout is not torch.strided or not right.numel():
        return True
    if torch.equal(right, found):
        return True
    if not (right.is_floating_point() or right.is_complex()):
        return False
    finite = right.isfinite()
    bound = _ROUNDING * float(right[finite].abs().max()) if bool(finite.any()) else 0.0
    return torch.allclose(found, right, rtol=_ROUNDING, atol=bound, equal_nan=True)
