"""The passes in order: from a float model to a prepared one, and on to reference and quantized ones."""

from __future__ import annotations

from typing import Any

from torch import nn

from qcore.api.custom_config import ConvertCustomConfig, PrepareCustomConfig
from qcore.api.qconfig_mapping import QConfigMapping
from qcore.fx import constants, convert, observe
from qcore.fx.fuse import fuse
from qcore.fx.graph_module import QuantizedGraphModule
from qcore.fx.kinds import kinds_of
from qcore.fx.lower import lower
from qcore.fx.plan import Planner, Step
from qcore.fx.qconfigs import Resolver
from qcore.fx.trace import trace
from qcore.nn import catalog
from qcore.nn.stubs import DeQuantStub, QuantStub
from qcore.report import Row

_STUBS: tuple[type[nn.Module], ...] = (nn.Identity, QuantStub, DeQuantStub)


def prepare(
    model: nn.Module,
    mapping: QConfigMapping,
    example_inputs: tuple[Any, ...],
    custom: PrepareCustomConfig,
    backend_config: Any,
    backend: str,
    strict: bool,
    is_qat: bool,
) -> tuple[nn.Module, list[Row]]:
    """Trace, fuse, plan and observe; gives the prepared model and the rows of its report."""
    resolver = Resolver(mapping)
    observed = {key: value for each in custom.float_to_observed_mapping.values() for key, value in each.items()}
    for module in model.modules():
        module.__dict__.pop("qconfig", None)
    names, kinds = custom.non_traceable_module_names, tuple(custom.non_traceable_module_classes)

    def keep(path: str, module: nn.Module) -> str:
        if path in names or type(module) in kinds:
            return "not traced, as asked"
        return ""

    traced = trace(model, keep, strict)
    graph = traced.model
    constants.remove_identities(graph, _STUBS)
    constants.functions_to_modules(graph)
    fuse(graph, backend, is_qat)
    planner = Planner(graph, kinds_of(graph, example_inputs), traced.scopes, traced.leaves, resolver, backend, observed)
    steps = planner.steps()
    paths = [path for path, _ in model.named_modules() if path]
    resolver.check_all_used(paths, [type(module) for module in model.modules()])
    _set_modules(graph, steps, observed, is_qat)
    observe.observe(graph, steps, custom.input_quantized_indexes, is_qat)
    graph.qcore_stage = "prepared"  # type: ignore[assignment]
    return graph, [step.row for step in steps if step.row is not None]


def _set_modules(
    graph: QuantizedGraphModule, steps: list[Step], custom: dict[type[nn.Module], Any], is_qat: bool
) -> None:
    """Give modules that will be quantized their QConfig, or put observed and trainable forms in their place."""
    from qcore.fx.graph_module import set_submodule

    modules = dict(graph.named_modules(remove_duplicate=False))
    for step in steps:
        if step.node.op != "call_module" or step.how == "float" or step.qconfig is None:
            continue
        path = str(step.node.target)
        module: Any = modules[path]
        tables = (catalog.mapping("static"), catalog.mapping("dynamic"), dict.fromkeys(custom, None))
        if not any(catalog.match(type(module), table).target or type(module) in table for table in tables):
            continue  # called as it is, on integers
        module.qconfig = step.qconfig
        if step.how == "custom":
            set_submodule(graph, path, custom[type(module)].from_float(module))
        elif is_qat:
            target: Any = catalog.match(type(module), catalog.mapping("qat")).target
            if target is not None:
                set_submodule(graph, path, target.from_float(module))


def to_reference_all(model: Any, custom: ConvertCustomConfig, mapping: QConfigMapping | None) -> nn.Module:
    """The reference form of a prepared model."""
    quantized = {key: value for each in custom.observed_to_quantized_mapping.values() for key, value in each.items()}
    convert.to_reference(model, quantized)
    convert.fold(model)
    model.qcore_stage = "reference"
    return model  # type: ignore[no-any-return]


def lower_all(model: Any, backend: str | None = None) -> nn.Module:
    """The quantized form of a reference model, on a backend (None: its own)."""
    lower(model, model.qcore_backend if backend is None else backend)
    convert.fold(model)
    model.qcore_backend = model.qcore_backend if backend is None else backend
    model.qcore_stage = "converted"
    return model  # type: ignore[no-any-return]


def fused(model: nn.Module, preserved: list[str], backend: str) -> nn.Module:
    """A model traced and fused."""
    traced = trace(model, lambda path, module: "")
    constants.remove_identities(traced.model, (nn.Identity,))
    fuse(traced.model, backend)
    traced.model.qcore_preserved = tuple(preserved)  # type: ignore[assignment]
    for name in preserved:
        setattr(traced.model, name, getattr(model, name))
    return traced.model
