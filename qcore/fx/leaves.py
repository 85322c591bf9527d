"""leaves: modules that are not traced keep their own forward; what they call inside gets graphs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_map

from qcore.fx.arguments import Argument, Inputs, arguments_of, by_parameter, split
from qcore.fx.direct import DirectCalls
from qcore.fx.graph_module import QuantizedGraphModule
from qcore.fx.kinds import copied
from qcore.nn.intrinsic import FusedModule


def callable_parts(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The nearest modules inside of one that are called themselves, with their paths; lists of modules are not."""
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from callable_parts(child, inner)
        else:
            yield inner, child


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one layer of torch.nn, or fused ones, with nothing inside to go into."""
    ours = type(module).__module__.startswith(("torch.nn.", "qcore."))
    return isinstance(module, FusedModule) or (ours and not any(True for _ in module.children()))


def inputs_of(model: nn.Module, inputs: Inputs, calls: DirectCalls) -> dict[str, Inputs]:
    """Run a model once, and note what its modules are called with, by path: as by_parameter has it, like `inputs`;
    tensors as zeros of their shapes, which take no memory. Those that are not called are left out. `calls` notes the
    functions that each calls itself."""
    arguments = arguments_of(model, inputs)
    args, kwargs = split(arguments, [tree_map(copied, each.value) for each in arguments])
    seen: dict[str, Inputs] = {}

    def note(path: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, args: Inputs, kwargs: dict[str, Any]) -> None:
            calls.stack.append(path)
            if path not in seen:
                seen[path] = tuple(tree_map(_outline, each) for each in by_parameter(module, args, kwargs))

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    def leave(*_: Any) -> None:
        calls.stack.pop()

    modes = {module: module.training for module in model.modules()}
    callables = [each for each in model.named_modules() if callable(getattr(each[1], "forward", None))]
    handles = [note(path, module) for path, module in callables]
    handles += [module.register_forward_hook(leave) for _, module in callables]
    model.eval()
    try:
        with torch.no_grad(), calls:
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return seen


def _outline(value: Any) -> Any:
    return torch.zeros((), dtype=value.dtype).expand(value.shape) if isinstance(value, torch.Tensor) else value


def graph_of_layer(layer: nn.Module, arguments: list[Argument]) -> QuantizedGraphModule:
    """A graph that calls one layer, under the name `layer`, with the arguments of its forward."""
    graph = fx.Graph()
    given: list[Any] = [graph.create_node("placeholder", each.name, each.default) for each in arguments]
    graph.output(graph.call_module("layer", *split(arguments, given)))
    holder = nn.Module()
    holder.layer = layer
    return QuantizedGraphModule(holder, graph)


def replace(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module in the place of another."""
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = new
