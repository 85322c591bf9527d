"""Walking a model: each module once, with its path, and the qconfig that rules give it."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError
from qcore.nn.catalog import match
from qcore.nn.intrinsic import FusedModule
from qcore.nn.qat.base import QATModule
from qcore.nn.quantizable import Quantizable
from qcore.nn.quantized.in_float import InFloat
from qcore.nn.stubs import DeQuantStub, QuantStub
from qcore.nn.weights import MAKERS, check_initialized
from qcore.tensor.arguments import check_module, check_type

OBSERVER = "activation_post_process"
INTERNAL = (OBSERVER, "parametrizations", "weight_fake_quant")
"""Names of children that are not layers of the model."""

_WHOLES = (FusedModule, nn.MultiheadAttention)
"""Modules with ways of their own to call their children: attention reads the weights of its output layer itself."""


@dataclass(frozen=True)
class Layer:
    """A module in its place. `whole`: it is treated as one, so its children are no layers of their own."""

    path: str
    module: nn.Module
    qconfig: Any
    whole: bool


def children_of(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Direct children that are layers."""
    return [(name, child) for name, child in module._modules.items() if child is not None and name not in INTERNAL]


def opaque(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of torch's, of modules in a model, that compute with what their children give, as its transformers do.

    Nobody can put stubs into their forwards; a class that somebody has put stubs around the children of is none.
    """
    found: dict[type[nn.Module], bool] = {}
    for module in model.modules():
        kind = type(module)
        home, _, file = kind.__module__.rpartition(".")
        if home == "torch.nn.modules" and file != "container" and children_of(module):
            has_stubs = any(isinstance(part, QuantStub | DeQuantStub) for part in module.modules())
            found[kind] = found.get(kind, True) and not has_stubs
    return tuple(kind for kind, is_opaque in found.items() if is_opaque)


def layers(model: nn.Module, rules: Mapping[Any, Any], wholes: tuple[type[nn.Module], ...] = ()) -> list[Layer]:
    """Every module once, parents first, with its qconfig: its own, else by name, else by type, else its parent's.

    `wholes`: further classes to treat as one. A key of `rules` is a module class, a path, or "" for the root. Raises
    ArgumentTypeError for a model that is no module, and a qconfig that is none.
    """
    check_module("quantization", model)
    found: list[Layer] = []
    seen: set[int] = set()

    def visit(path: str, module: nn.Module, inherited: Any) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        qconfig = rules.get(path, _by_type(type(module), rules, inherited))
        qconfig = getattr(module, "qconfig", qconfig)
        if qconfig is not None and not all(callable(getattr(qconfig, part, None)) for part in ("activation", "weight")):
            raise ArgumentTypeError(f"module {path!r}: its qconfig is {qconfig!r}; give a qcore.QConfig, or None")
        if qconfig is not None:
            check_initialized(path, module)
        children = children_of(module)
        whole = not children or isinstance(module, _WHOLES) or type(module) in wholes
        found.append(Layer(path, module, qconfig, whole))
        for name, child in [] if whole else children:
            visit(f"{path}.{name}" if path else name, child, qconfig)

    visit("", model, rules.get("", None))
    return found


def _by_type(kind: type[nn.Module], rules: Mapping[Any, Any], default: Any) -> Any:
    types = {key: key for key in rules if isinstance(key, type)}
    found = match(kind, types).target
    return default if found is None else rules[found]


def check_mapping(table: Mapping[Any, Any]) -> None:
    """ArgumentTypeError for a mapping that is not from module classes to classes with `from_float`."""
    check_type("convert", Mapping, mapping=table)
    for kind, target in table.items():
        if not isinstance(kind, type) or not callable(getattr(target, "from_float", None)):
            raise ArgumentTypeError(
                f"mapping: {kind!r} -> {target!r}: give module classes, and for each a class that has from_float"
            )


def check_keys(given: Iterable[str], known: tuple[str, ...], where: str) -> None:
    """ArgumentError for keys of a dict form that there are none of."""
    unknown = sorted(set(given) - set(known), key=str)
    if unknown:
        raise ArgumentError(f"{where}: unknown key {unknown[0]!r}; it takes {', '.join(map(repr, known))}")


def check_names(model: nn.Module, names: Iterable[str], argument: str) -> None:
    """QuantizationError for paths that the model does not have, with the nearest ones that it has."""
    paths = [path for path, _ in model.named_modules()]
    for name in names:
        if name not in paths:
            raise QuantizationError(f"{argument}: the model has no module {name!r}; {_nearest(name, paths[1:])}")


def check_classes(kinds: Iterable[type[nn.Module]], present: set[type[nn.Module]], argument: str) -> None:
    """QuantizationError for classes that no module is of, of those `present`, with the nearest that are; a class does
    not stand for those derived from it. ArgumentTypeError for what is no module class."""
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ArgumentTypeError(f"{argument}: {kind!r} is not a module class")
        if kind not in present:
            derived = sorted(each.__name__ for each in present if issubclass(each, kind))
            hint = (
                f"classes derived from it are named themselves: {', '.join(derived)}"
                if derived
                else _nearest(kind.__name__, sorted({each.__name__ for each in present}))
            )
            raise QuantizationError(f"{argument}: the model has no {kind.__name__}; {hint}")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.4)
    return f"the nearest: {', '.join(map(repr, near))}" if near else f"it has {', '.join(map(repr, known[:7]))}..."


@contextmanager
def lent(module: nn.Module, **attributes: Any) -> Iterator[None]:
    """Attributes that a module has for the time of a block."""
    before = {name: module.__dict__[name] for name in attributes if name in module.__dict__}
    module.__dict__.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del module.__dict__[name]
        module.__dict__.update(before)


# --- hooks and swaps ----------------------------------------------------------------------------------------------


def observe_output(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """The forward hook of an observed module: its observer sees the output, and may replace it."""
    observed: Tensor = getattr(module, OBSERVER)(output)
    return observed


def observe_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The hook before a module trained for dynamic quantization: its input is fake-quantized."""
    observer = getattr(module, OBSERVER)
    if args:
        return (observer(args[0]), *args[1:]), kwargs
    name = next(iter(kwargs))
    return args, {**kwargs, name: observer(kwargs[name])}


def watch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """The forward hook of a layer without a quantized form: its Watch sees the call."""
    getattr(module, OBSERVER).see(module, args, kwargs, output)


OBSERVING = (observe_output, observe_input, watch)

POST_HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")
PRE_HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")
"""Where torch keeps the hooks of a module, and their settings."""


def without_hooks(module: nn.Module, names: tuple[str, ...] = (*POST_HOOKS, *PRE_HOOKS)) -> nn.Module:
    """The module without hooks of some kinds: another, that has all else of it; those that make weights stay."""
    if not any(getattr(module, name) for name in names):
        return module
    bare = type(module).__new__(type(module))
    makers = {key: hook for key, hook in module._forward_pre_hooks.items() if isinstance(hook, MAKERS)}
    empty = {name: OrderedDict(makers if name == "_forward_pre_hooks" else {}) for name in names}
    bare.__dict__.update({**vars(module), **empty})
    return bare


@contextmanager
def bare(module: nn.Module, names: tuple[str, ...]) -> Iterator[None]:
    """A block in which a module has no hooks of some kinds."""
    before = {name: getattr(module, name) for name in names}
    vars(module).update({name: OrderedDict() for name in names})
    try:
        yield
    finally:
        vars(module).update(before)


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks of the user's that its calls run."""
    return any(map(_is_of_user, (*module._forward_hooks.values(), *module._forward_pre_hooks.values())))


def _is_of_user(hook: Any) -> bool:
    return hook not in OBSERVING and not isinstance(hook, MAKERS)


def unseen_hooks(parts: Sequence[nn.Module | None]) -> list[int]:
    """Positions of those in a sequence with hooks on values that it has no more once it is one; None: a function."""

    def unseen(n: int, part: nn.Module) -> bool:
        before = part._forward_pre_hooks.values() if n > 0 else ()
        after = part._forward_hooks.values() if n < len(parts) - 1 else ()
        return any(map(_is_of_user, (*before, *after)))

    return [n for n, part in enumerate(parts) if part is not None and unseen(n, part)]


def take_hooks(old: nn.Module, new: nn.Module) -> None:
    """Move the user's hooks along; those that observe, or make weights, stay behind."""
    for name in (*POST_HOOKS, *PRE_HOOKS):
        getattr(new, name).update({key: value for key, value in getattr(old, name).items() if _is_of_user(value)})


def keep_hooks(old: nn.Module, new: nn.Module) -> None:
    """Move the user's hooks along, and what else the user has added."""
    take_hooks(old, new)
    if not isinstance(new, InFloat):  # which holds the layer with all that it has
        _keep_attributes(old, new)


def _keep_attributes(old: nn.Module, new: nn.Module) -> None:
    """Take along what the user has added to a layer: attributes, buffers, parameters and modules."""
    known = _set_by_torch(type(old))  # type: ignore[arg-type]
    taken = {*vars(new), *new._buffers, *new._parameters, *new._modules, *dir(type(new)), *INTERNAL, "qconfig"}

    def is_own(name: str) -> bool:
        return not (name in known or name in taken or name.startswith(("_", "qcore_", "weight", "bias", "in_proj")))

    vars(new).update({name: value for name, value in vars(old).items() if is_own(name)})
    if isinstance(old, FusedModule | QATModule | Quantizable):
        return  # their modules are parts of them
    for holder in ("_buffers", "_parameters", "_modules"):
        getattr(new, holder).update({name: each for name, each in getattr(old, holder).items() if is_own(name)})
    new._non_persistent_buffers_set |= {name for name in old._non_persistent_buffers_set if name in new._buffers}


@cache
def _set_by_torch(kind: type[nn.Module]) -> frozenset[str]:
    """Names that the constructors of a class, those of torch and ours, give its modules; more of them, to be sure."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith(("torch.", "qcore."))]
    found = [getattr(vars(base).get("__init__"), "__code__", None) for base in bases]
    codes = [code for code in found if code is not None]
    names = {name for code in codes for name in (*code.co_names, *code.co_varnames)}
    strings = {each for code in codes for each in code.co_consts if isinstance(each, str)}
    return frozenset(names | strings | {name for base in bases for name in vars(base).get("__annotations__", {})})


def apply_swaps(model: nn.Module, swaps: dict[int, nn.Module]) -> nn.Module:
    """Put new modules in the place of old ones, wherever they are used; the root too, which is why it is returned."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and id(child) in swaps:
                parent._modules[name] = swaps[id(child)]
    settle_transformers(model)
    return swaps.get(id(model), model)


def settle_transformers(model: nn.Module) -> None:
    """Keep TransformerEncoder layers with quantized parts off their fused float path, which reads float weights."""
    for part in model.modules():
        if isinstance(part, nn.TransformerEncoderLayer) and any(map(_is_swapped, part.children())):
            part.activation_relu_or_gelu = 0
    for stack in model.modules():
        if isinstance(stack, nn.TransformerEncoder) and not getattr(stack.layers[0], "activation_relu_or_gelu", 1):
            stack.use_nested_tensor = False


def _is_swapped(module: nn.Module) -> bool:
    return not type(module).__module__.startswith("torch.nn.")
