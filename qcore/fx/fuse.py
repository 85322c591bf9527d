"""fuse: sequences of modules, such as convolution, batch norm and ReLU, become one module, as a backend declares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from torch import fx, nn

from qcore import operators as ops
from qcore.api._layers import unseen_hooks
from qcore.api.fuse_modules import fuse_known_modules
from qcore.fx.allowed import Allowed
from qcore.fx.graph_module import QuantizedGraphModule, finished, free_name, set_submodule
from qcore.fx.kinds import shapes_of
from qcore.fx.patterns import is_relu
from qcore.nn import catalog
from qcore.registry import registry

SOURCE = "qcore_source"
"""Key in a node's meta: the path in the model of the layer that it calls by another name."""
Parts = tuple[Any, ...]


_ALL = Allowed()


def fusions(backend: str) -> list[Parts]:
    """Sequences that one of the backends in reach runs as one operator, longest first."""
    backends = list(registry.candidates(backend))
    declared = {pattern.parts for each in backends for pattern in registry.patterns(each)}
    norms = [each.capability().find(ops.BatchNorm) for each in backends]
    with_relu = any(spec is not None and "relu" in spec.fused for spec in norms)
    found = [parts for parts in catalog.fusions() if parts in declared or (with_relu and parts[0] in catalog.NORMS)]
    return sorted([*found, *catalog.FOLDED], key=len, reverse=True)


def fuse(
    model: QuantizedGraphModule,
    backend: str,
    is_qat: bool = False,
    kept: Collection[type[nn.Module]] = (),
    allowed: Allowed = _ALL,
    example_inputs: tuple[Any, ...] = (),
) -> dict[str, list[str]]:
    """Fuse in place all that can be and is `allowed`, but modules of the classes in `kept`; the path of each fused
    module -> the nodes that it replaced, by name. `example_inputs`: by them the dimensions of values are known."""
    patterns = allowed.sequences(fusions(backend))
    replaced: dict[str, list[str]] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    uses = _uses(model)
    gone = {node for node in model.graph.nodes if type(modules.get(str(node.target))) in kept}
    for node in list(model.graph.nodes):
        if node.op != "call_module" or node in gone:
            continue
        chains = ((_chain(node, parts, modules, uses, is_qat, allowed.has_fuser(parts)), parts) for parts in patterns)
        chain, parts = next(((each, of) for each, of in chains if each and gone.isdisjoint(each)), (None, ()))
        if chain is not None and _norms_channels(model, chain, modules, example_inputs):
            names = [each.name for each in chain]
            gone.update(chain[1:])
            replaced[str(node.target)] = names
            _fuse_chain(model, chain, modules, uses, is_qat, partial(allowed.fused, parts, is_qat))
    finished(model)
    return replaced


def _norms_channels(
    model: fx.GraphModule, chain: list[fx.Node], modules: dict[str, nn.Module], example_inputs: tuple[Any, ...]
) -> bool:
    """Whether a batch norm behind a Linear scales its features: those of more than two dimensions have their channels
    before them."""
    linear, norm = modules[str(chain[0].target)], modules.get(str(chain[1].target))
    if not isinstance(linear, nn.Linear) or not isinstance(norm, nn.BatchNorm1d):
        return True
    shape = shapes_of(model, example_inputs).get(chain[0])
    return norm.num_features == linear.out_features and (shape is None or len(shape) == 2)


def _uses(model: fx.GraphModule) -> dict[str, int]:
    uses: dict[str, int] = {}
    for node in model.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            owner = str(node.target)
            uses[owner] = uses.get(owner, 0) + 1
    return uses


def _chain(
    first: fx.Node, parts: Parts, modules: dict[str, nn.Module], uses: dict[str, int], is_qat: bool, own: bool
) -> list[fx.Node] | None:
    """The nodes that match a sequence, each with the next as its only user; None if they don't. `own`: the user says
    how they fuse."""
    chain: list[fx.Node] = []
    node = first
    for index, part in enumerate(parts):
        if index:
            if len(node.users) != 1:
                return None
            following = next(iter(node.users))
            if not following.args or following.args[0] is not node:
                return None
            node = following
        if not _is(node, part, modules):
            return None
        chain.append(node)
    folds = any(part in catalog.NORMS for part in parts[1:])
    if folds and is_qat and not own and not _trains(parts, chain[1], modules):
        return None
    called = [str(each.target) for each in chain if each.op == "call_module"]
    if unseen_hooks([modules[str(each.target)] if each.op == "call_module" else None for each in chain]):
        return None  # which keep what they see
    stateful = [path for path in called if not isinstance(modules[path], nn.ReLU)]
    if is_qat and folds and any(uses[path] > 1 for path in stateful):
        return None  # a batch norm that trains keeps one set of statistics, for one place
    modes = {modules[path].training for path in called}
    return None if len(modes) > 1 or (folds and is_qat != modes.pop()) else chain


def _trains(parts: Parts, norm: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a layer with a batch norm has a form in which both train as one."""
    return parts not in catalog.FOLDED and getattr(modules[str(norm.target)], "weight", None) is not None


def _is(node: fx.Node, part: type[nn.Module], modules: dict[str, nn.Module]) -> bool:
    if part is nn.ReLU:
        return is_relu(node, modules)
    if not isinstance(part, type):
        return bool(node.target == part)
    if node.op != "call_module":
        return False
    module: Any = modules[str(node.target)]
    if catalog.match(type(module), {part: part}).target is None:
        return False
    return not (part in catalog.NORMS and getattr(module, "running_mean", None) is None)


def _rename_other_calls(
    model: QuantizedGraphModule, node: fx.Node, modules: dict[str, nn.Module], uses: dict[str, int]
) -> None:
    """Let the other calls of a layer call it by another name, so that only this one fuses."""
    path = str(node.target)
    name = free_name(model, path)
    set_submodule(model, name, modules[path])
    modules[name], uses[name], uses[path] = modules[path], uses[path] - 1, 1
    for other in model.graph.nodes:
        if other.op == "call_module" and other.target == path and other is not node:
            other.meta.setdefault(SOURCE, path)
            other.target = name


def _part(node: fx.Node, modules: dict[str, nn.Module], relu: nn.Module) -> Any:
    """What a fuser gets of a call: its module, or the function; a ReLU always as a module."""
    if node.op == "call_module":
        return modules[str(node.target)]
    return relu if is_relu(node, modules) else node.target


def _fuse_chain(
    model: QuantizedGraphModule,
    chain: Sequence[fx.Node],
    modules: dict[str, nn.Module],
    uses: dict[str, int],
    is_qat: bool,
    own: Callable[[list[Any]], nn.Module | None],
) -> None:
    first = modules[str(chain[0].target)]
    relu = nn.ReLU().train(first.training)
    parts = [_part(node, modules, relu) for node in chain]
    fused = own(parts)
    if fused is None:
        fused = fuse_known_modules(parts, is_qat)[0]
    path = str(chain[0].target)
    if uses[path] > 1:
        _rename_other_calls(model, chain[0], modules, uses)
    others = [each for node in chain[1:] for each in node.all_input_nodes if each not in chain]
    chain[0].args = (*chain[0].args, *others)
    if others:
        chain[-1].append(chain[0])  # after what the later calls read
    for node in chain[1:]:
        node.replace_all_uses_with(chain[0])
    for node in reversed(chain[1:]):
        model.graph.erase_node(node)
    set_submodule(model, path, fused)
    modules[path] = fused
