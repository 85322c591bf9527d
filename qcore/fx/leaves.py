"""leaves: modules that are not traced keep their own forward; what they call inside gets graphs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_map

from qcore.fx.arguments import Argument, Inputs, arguments_of, form_of, split
from qcore.fx.check import copied
from qcore.fx.direct import DirectCalls
from qcore.fx.graph_module import QuantizedGraphModule
from qcore.fx.signatures import by_position
from qcore.fx.state import State
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


@dataclass
class Calls:
    """What the modules of a model are called with when it runs once, by path. `inputs`: of the first call of each;
    `varying`: names of arguments that another call gives another value, which is no tensor."""

    inputs: dict[str, Inputs] = field(default_factory=dict)
    varying: dict[str, str] = field(default_factory=dict)


def inputs_of(model: nn.Module, inputs: Inputs, calls: DirectCalls) -> Calls:
    """Run a model once, and note what its modules are called with; large tensors of floats as zeros of their shapes,
    which take no memory. Those that are not called are left out. `calls` notes the functions that each calls itself."""
    args, kwargs = tree_map(copied, (inputs.args, inputs.kwargs))
    seen = Calls()

    def note(path: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.stack.append(path)
            if path not in seen.inputs:
                seen.inputs[path] = Inputs(*tree_map(_outline, (args, kwargs)))
            else:
                first = arguments_of(module, seen.inputs[path])
                for name in _differing(first, arguments_of(module, Inputs(args, kwargs))):
                    seen.varying[path] = name

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    def leave(*_: Any) -> None:
        calls.stack.pop()

    state, modes = State(model), {module: module.training for module in model.modules()}
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
        state.restore()
        for module, training in modes.items():
            module.training = training
    return seen


def _differing(first: list[Argument], other: list[Argument]) -> list[str]:
    """Names of arguments whose forms are not the same in two calls."""
    forms = {each.name: form_of(each.value) for each in first}
    found = [each.name for each in other if not _same_form(forms.pop(each.name, None), form_of(each.value))]
    return [*found, *forms]


def _same_form(first: Any, other: Any) -> bool:
    return first is other or (type(first) is type(other) and bool(first == other))


_SMALL = 2**20


def _outline(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() <= _SMALL:
        return copied(value)
    return torch.zeros((), dtype=value.dtype).expand(value.shape)


def graph_of_layer(layer: nn.Module, arguments: list[Argument]) -> QuantizedGraphModule:
    """A graph that calls one layer, under the name `layer`, with the arguments of its forward."""
    graph = fx.Graph()
    given: list[Any] = [graph.create_node("placeholder", each.name, each.default) for each in arguments]
    call = split(arguments, given)
    graph.output(graph.call_module("layer", call.args, call.kwargs))
    by_position(graph, {"layer": layer})
    holder = nn.Module()
    holder.layer = layer
    return QuantizedGraphModule(holder, graph)


def replace(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module in the place of another."""
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = new
