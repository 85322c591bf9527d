"""The passes in order: from a float model to a prepared one, and on to reference and quantized ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from qcore.api._layers import POST_HOOKS, bare, check_classes, check_names, has_hooks, keep_hooks, take_hooks
from qcore.api.custom_config import ConvertCustomConfig, PrepareCustomConfig, as_config, check_makes
from qcore.api.fake_quantize import FakeQuantizeBase
from qcore.api.qconfig_mapping import QConfigMapping, as_qconfig_mapping
from qcore.errors import QuantizationError
from qcore.fx import constants, convert, leaves, modes, observe, parts, patterns
from qcore.fx.allowed import Allowed
from qcore.fx.arguments import Inputs, arguments_of
from qcore.fx.attention import decompose_attention
from qcore.fx.attributes import keep_attributes
from qcore.fx.direct import DirectCalls
from qcore.fx.fuse import fuse
from qcore.fx.graph_module import CUSTOM, FLOAT, QUANTIZED, QuantizedGraphModule, set_submodule
from qcore.fx.kinds import values_of
from qcore.fx.lower import lower
from qcore.fx.opaque import look_into_functions
from qcore.fx.plan import Planner, Step
from qcore.fx.qconfigs import Resolver
from qcore.fx.stacks import STACKS
from qcore.fx.trace import Traced, Untraceable, has_parts, trace
from qcore.fx.views import keep_layout, reshape_views
from qcore.nn import catalog, quantizable
from qcore.nn.intrinsic import FusedModule
from qcore.nn.quantized.functional_modules import FloatFunctional
from qcore.nn.quantized.observed import no_static_activation
from qcore.nn.stubs import DeQuantStub, QuantStub
from qcore.report import Outcome, Row

_STUBS: tuple[type[nn.Module], ...] = (nn.Identity, QuantStub, DeQuantStub)
_AS_ASKED = "not traced, as asked"
_CUSTOM = "a custom module"
_OBSERVED = "set_float_to_observed_mapping"
_NOT_CALLED = "not called on the example inputs"
_WITHOUT_WEIGHTS = "it has no weights, and the forward that calls it cannot be traced: what it is given there is float"
_IN_A_LEAF = "the forward that calls it cannot be traced: call it from the forward of a module that can"
_HOOKED = "it has hooks, so it stays a module, with a graph of its own"
_STANDALONE = "a standalone module, with a graph of its own"


@dataclass
class Preparation:
    """One prepare of a model, which may take several graphs. `base`: where in the model the rules' paths begin;
    `rows`: the report, in order."""

    mapping: QConfigMapping
    custom: PrepareCustomConfig
    backend: str
    strict: bool
    is_qat: bool
    allowed: Allowed
    base: str = ""
    rows: list[Row] = field(default_factory=list)
    seen: leaves.Calls = field(default_factory=leaves.Calls)
    """What modules are called with, by path; filled when it is needed."""
    ranks: dict[str, int | None] = field(default_factory=dict)
    """The dimensions of their first arguments; filled when that is needed."""
    calls: DirectCalls = field(default_factory=DirectCalls)
    """The functions that modules call themselves; filled with it."""

    def run(self, model: nn.Module, inputs: Inputs) -> nn.Module:
        """The prepared form of a model that is called so; QuantizationError for rules that match nothing."""
        for names, setter in (
            (self.custom.non_traceable_module_names, "set_non_traceable_module_names"),
            (self.custom.standalone_module_names, "set_standalone_module_name"),
        ):
            check_names(model, names, f"PrepareCustomConfig.{setter}")
        self.whole = (model, inputs)
        for module in model.modules():
            module.__dict__.pop("qconfig", None)
        self.resolver = Resolver(
            self.mapping,
            any(isinstance(module, nn.LayerNorm) for module in model.modules()),
            {path: type(module) for path, module in model.named_modules()},
            frozenset(type(each) for each in model.modules() if has_parts(each) and not isinstance(each, FusedModule)),
        )
        self.observed = {
            key: new for each in self.custom.float_to_observed_mapping.values() for key, new in each.items()
        }
        for kind in self.observed.values():
            check_makes(kind, "from_float", _OBSERVED)
        paths = [path for path, _ in model.named_modules() if path]
        self.targets: list[Any] = [type(module) for module in model.modules()]
        self.kinds = set(self.targets)
        prepared = self._module(model, self.base, inputs)
        self._check_classes_used()
        self.resolver.check_all_used(paths, self.targets)
        return prepared

    def _check_classes_used(self) -> None:
        usual = catalog.observed()
        for kinds, setter in (
            (self.custom.non_traceable_module_classes, "set_non_traceable_module_classes"),
            (self.custom.standalone_module_classes, "set_standalone_module_class"),
            ([kind for kind, new in self.observed.items() if usual.get(kind) is not new], _OBSERVED),
        ):
            check_classes(kinds, self.kinds, f"PrepareCustomConfig.{setter}")

    def _module(self, module: nn.Module, path: str, inputs: Inputs) -> nn.Module:
        """A graph for a module, or for each of its parts where it cannot be traced itself."""
        self._take_apart(module, path)
        hooked = module
        module = STACKS.get(type(module), lambda stack: stack)(module)
        try:
            if path in self.seen.varying:
                raise Untraceable(f"is called with other values of {self.seen.varying[path]!r}, which is no tensor")
            with bare(module, POST_HOOKS):  # which the graph will have
                traced = trace(
                    module,
                    lambda inner, child: self._reason_to_keep(_joined(path, inner), child),
                    inputs,
                    self.strict,
                    writes_inputs=not path,
                )
        except Untraceable as error:
            if self.strict:
                raise QuantizationError(f"strict=True, and module {path!r} {error}") from error
            if path == self.base and (self.custom.input_quantized_indexes or self.custom.output_quantized_indexes):
                raise QuantizationError(
                    f"input_quantized_indexes and output_quantized_indexes are for models that are one graph; this "
                    f"{type(module).__name__} {error}"
                ) from error
            qconfig = self.resolver.resolve(self._relative(path), "", type(module), 0)
            outcome: Outcome = "passed through" if has_parts(module) else "float"
            self.rows.append(Row(path, type(module).__name__, outcome, reason=str(error), asked=qconfig is not None))
            self._parts({"": module}, module, path)
            return module
        self.targets += [node.target for node in traced.model.graph.nodes if node.op.startswith("call_")]
        inside = {
            inner: module.get_submodule(inner)
            for inner, reason in traced.leaves.items()
            if reason not in (_AS_ASKED, _CUSTOM)
        }
        graph = self._graph(traced, path, [inner for inner, whole in inside.items() if has_parts(whole)])
        self._parts(inside, module, path, graph)
        take_hooks(hooked, graph)
        return graph

    def _graph(
        self, traced: Traced, path: str, opened: Collection[str] = (), names: dict[str, str] | None = None
    ) -> QuantizedGraphModule:
        """All passes on a traced graph; `opened`: its leaves whose parts are prepared by themselves; `names`: paths of
        modules where the graph's own names are others."""
        graph, inputs = traced.model, traced.inputs
        constants.remove_identities(graph, _STUBS)
        modes.follow_mode(graph)
        look_into_functions(graph, traced.scopes, lambda each: self.resolver.names(each) or self.allowed.names(each))
        constants.functions_to_modules(graph, inputs)
        decompose_attention(graph, traced.scopes, inputs)
        fuse(graph, self.backend, self.is_qat, self.observed, self.allowed, inputs)
        self.kinds.update(map(type, graph.modules()))
        values = values_of(graph, inputs)
        planner = Planner(
            graph,
            values,
            traced.scopes,
            {inner: reason for inner, reason in traced.leaves.items() if reason != _CUSTOM},
            opened,
            self.resolver,
            self.backend,
            self.observed,
            lambda inner: self._relative(_joined(path, (names or {}).get(inner, inner))),
            self.allowed,
        )
        steps = planner.steps()
        self._set_modules(graph, steps)
        outermost = path == self.base
        graph.qcore_quantized_inputs = tuple(self.custom.input_quantized_indexes if outermost else ())  # type: ignore[assignment]
        graph.qcore_quantized_outputs = tuple(self.custom.output_quantized_indexes if outermost else ())  # type: ignore[assignment]
        observe.check_ends(graph)
        if inputs and all(type(each) is Tensor for each in inputs):
            graph.qcore_example = tuple((tuple(each.shape), each.dtype) for each in inputs)  # type: ignore[assignment]
        if path:
            keep_layout(graph, values.contiguous)
        observe.observe(graph, steps, self.is_qat)
        for step in steps:
            step.node.meta[FLOAT] = step.how == "float"
            if step.row is not None:
                self.rows.append(replace(step.row, path=_joined(self.base, step.row.path)))
        return graph

    def _parts(self, wholes: dict[str, nn.Module], root: nn.Module, path: str, graph: nn.Module | None = None) -> None:
        """Prepare what modules that are not traced call, in place in `root`, the module at `path`."""
        parts: dict[str, nn.Module] = {}
        for inner, whole in wholes.items():
            alone = self._reason_to_keep(_joined(path, inner), whole) in (_STANDALONE, _HOOKED)
            parts.update({inner: whole} if alone else dict(leaves.callable_parts(whole, inner)))
        parts = {inner: part for inner, part in parts.items() if not isinstance(part, FloatFunctional)}
        if wholes and not self.seen.inputs:
            self.seen = leaves.inputs_of(*self.whole, self.calls)
        for inner, whole in wholes.items():
            full = _joined(path, inner)
            kept = self._reason_to_keep(full, whole)
            if not leaves.is_layer(whole) and kept not in (_STANDALONE, _HOOKED):
                self._add_direct_calls(full)
        for inner, part in parts.items():
            new = self._part(part, _joined(path, inner))
            if new is not part and isinstance(new, QuantizedGraphModule):
                keep_attributes(new, part)
            if graph is not None and inner in wholes:
                set_submodule(graph, inner, new)
            leaves.replace(root, inner, new)

    def _part(self, part: nn.Module, path: str) -> nn.Module:
        """A module that an untraceable forward calls, prepared by itself; or as it was, with a row that says why."""
        kept = self._reason_to_keep(path, part)
        if kept == _AS_ASKED:
            self.rows.append(Row(path, type(part).__name__, "float", reason=kept))
            return part
        if not kept and not any(True for _ in part.parameters()):
            self.rows.append(self._without_weights(path, part))
            return part
        if path not in self.seen.inputs:
            self.rows.append(Row(path, type(part).__name__, "float", reason=_NOT_CALLED))
            return part
        if kept == _STANDALONE:
            return self._standalone(part, path, self.seen.inputs[path])
        if kept == _CUSTOM or leaves.is_layer(part):
            return self._layer(part, path, self.seen.inputs[path])
        new: Any = self._module(part, path, self.seen.inputs[path])
        if isinstance(part, nn.MultiheadAttention) and new is not part:
            new.batch_first = False  # layers of transformers read it, and then call this, not a float kernel
            new.qcore_preserved = ("batch_first",)
        return new  # type: ignore[no-any-return]

    def _without_weights(self, path: str, part: nn.Module) -> Row:
        """The row of a part that stays as it is: alone, it would cost a rounding of its input and win nothing."""
        kind = type(part)
        qconfig = self.resolver.resolve(self._relative(path), self._relative(path.rpartition(".")[0]), kind, 0)
        rule = patterns.MODULES.get(kind)
        if kind in _STUBS or (rule is not None and rule.moves):
            return Row(path, kind.__name__, "passed through", asked=qconfig is not None)
        reason = _WITHOUT_WEIGHTS if path in self.seen.inputs else _NOT_CALLED
        return Row(path, kind.__name__, "float", reason=self.resolver.reason or reason, asked=qconfig is not None)

    def _add_direct_calls(self, path: str) -> None:
        """Rows for the functions that a forward calls which cannot be traced."""
        for call in self.calls.found.get(path, ()):
            qconfig = self.resolver.resolve(self._relative(path), self._relative(path), call.name, 0)
            against = _IN_A_LEAF if call.quantizes else f"{call.name} has no quantized form"
            reason = self.resolver.reason or f"{against}; called at {call.where}"
            row = Row(_joined(path, call.name), call.name, "float", reason=reason, asked=qconfig is not None)
            self.rows.append(row)

    def _layer(self, layer: nn.Module, path: str, inputs: Inputs) -> nn.Module:
        """A graph with one layer in it."""
        arguments = arguments_of(layer, inputs)
        wrapped = leaves.graph_of_layer(layer, arguments)
        graph = self._graph(
            Traced(wrapped, {}, inputs=tuple(each.value for each in arguments)), path, names={"layer": ""}
        )
        graph.qcore_layer = "layer"  # type: ignore[assignment]
        return graph

    def _standalone(self, module: nn.Module, path: str, inputs: Inputs) -> nn.Module:
        """A module with a mapping of its own."""
        custom = self.custom
        given = (
            custom.standalone_module_names.get(self._relative(path)) or custom.standalone_module_classes[type(module)]
        )
        mapping = self.mapping if given[0] is None else as_qconfig_mapping(given[0])
        own = as_config(given[2] if len(given) > 2 else None, PrepareCustomConfig, "prepare_custom_config")
        inner = replace(self, mapping=mapping, custom=own, base=path)
        if given[0] is None:
            inner.mapping = QConfigMapping().set_global(self.resolver.resolve(path, "", type(module), 0))
        return inner.run(module, inputs)

    def _reason_to_keep(self, path: str, module: nn.Module) -> str:
        """Why not to trace into a module; empty to try."""
        if type(module) in self.observed:
            return _CUSTOM
        if self._is_standalone(path, module):
            return _STANDALONE
        custom = self.custom
        if (
            self._relative(path) in custom.non_traceable_module_names
            or type(module) in custom.non_traceable_module_classes
        ):
            return _AS_ASKED
        is_whole = leaves.is_layer(module) or not has_parts(module)
        return "" if is_whole or not has_hooks(module) else _HOOKED

    def _is_standalone(self, path: str, module: nn.Module) -> bool:
        custom = self.custom
        named = self._relative(path) in custom.standalone_module_names
        return named or type(module) in custom.standalone_module_classes

    def _take_apart(self, module: nn.Module, path: str) -> None:
        """Put attention in parts, each of which is a layer, in its place, and stacks of layers that can be traced."""
        for inner, child in list(module.named_modules()):
            if inner and type(child) in STACKS and not self._reason_to_keep(_joined(path, inner), child):
                leaves.replace(module, inner, STACKS[type(child)](child))
            target: Any = catalog.observed().get(type(child))
            if not inner or not isinstance(child, nn.MultiheadAttention) or target is None:
                continue
            qconfig = self.resolver.resolve(self._relative(_joined(path, inner)), "", type(child), 0)
            if qconfig is not None and type(child) not in self.observed and not no_static_activation(qconfig):
                parts: Any = target.from_float(child)
                keep_hooks(child, parts)
                parts.traced_rank = self._rank(_joined(path, inner))
                leaves.replace(module, inner, parts)

    def _rank(self, path: str) -> int | None:
        """How many dimensions the first argument of a module has; None for one that is not called."""
        if not self.ranks:
            for called, given in leaves.inputs_of(*self.whole, DirectCalls()).inputs.items():
                first = next(iter((*given.args, *given.kwargs.values())), None)
                self.ranks[called] = getattr(first, "ndim", None)
        return self.ranks.get(path)

    def _set_modules(self, graph: QuantizedGraphModule, steps: list[Step]) -> None:
        """Give layers that will be quantized their QConfig, or put observed and trainable forms in their place."""
        modules = dict(graph.named_modules(remove_duplicate=False))
        tables = (catalog.mapping("static"), catalog.mapping("dynamic"))
        for step in steps:
            if step.node.op != "call_module" or step.how == "float":
                continue
            path = str(step.node.target)
            module: Any = modules[path]
            if step.how == "custom":
                set_submodule(graph, path, self._observed(module, step))
                continue
            own = self.allowed.quantized(type(module))
            if own is not None or any(catalog.match(type(module), table).target for table in tables):
                module.qconfig = step.qconfig
                trained: Any = self._trained(type(module)) if self.is_qat else None
                if trained is not None:
                    _check_trains(step)
                    before, module = module, trained.from_float(module)
                    keep_hooks(before, module)
                    module.qconfig = step.qconfig
                    set_submodule(graph, path, module)
                if own is not None:
                    setattr(module, QUANTIZED, own)

    def _trained(self, kind: type[nn.Module]) -> Any:
        return self.allowed.trained(kind) or catalog.match(kind, catalog.mapping("qat")).target

    def _observed(self, module: Any, step: Step) -> nn.Module:
        """The observed form of a custom module, or of an LSTM in parts."""
        module.qconfig = step.qconfig
        kind: Any = self.observed.get(type(module), quantizable.LSTM)
        if issubclass(kind, quantizable.LSTM):
            return parts.prepared(module, kind, step.qconfig, self.backend, self.is_qat, step.where)
        made: Any = kind.from_float(module)
        keep_hooks(module, made)
        setattr(made, CUSTOM, True)
        return made  # type: ignore[no-any-return]

    def _relative(self, path: str) -> str:
        return path.removeprefix(self.base).removeprefix(".") if self.base else path


def _check_trains(step: Step) -> None:
    weight = step.qconfig.weight()
    if not isinstance(weight, FakeQuantizeBase):
        raise QuantizationError(
            f"module {step.where!r}: its qconfig gives weights a {type(weight).__name__}, with which training sees no "
            "rounding; use a FakeQuantize, as get_default_qat_qconfig_mapping() has it"
        )


def graphs_in(model: nn.Module) -> list[QuantizedGraphModule]:
    """The graphs that a prepared or converted model is made of, inner ones first."""
    return [module for module in reversed(list(model.modules())) if isinstance(module, QuantizedGraphModule)]


def to_reference(model: nn.Module, backend: str, custom: ConvertCustomConfig) -> None:
    """Turn a prepared model, in place, into its reference form."""
    quantized = {key: new for each in custom.observed_to_quantized_mapping.values() for key, new in each.items()}
    setter = "set_observed_to_quantized_mapping"
    for kind in quantized.values():
        check_makes(kind, "from_observed", setter)
    check_classes(quantized, set(map(type, model.modules())), f"ConvertCustomConfig.{setter}")
    for graph in graphs_in(model):
        modes.settle_mode(graph)
        convert.to_reference(graph, backend, quantized)
        convert.fold(graph)


def to_quantized(model: nn.Module, backend: str) -> None:
    """Turn a reference model, in place, into one that runs on a backend."""
    for graph in graphs_in(model):
        lower(graph, backend)
        convert.fold(graph)
        constants.quantize_constants(graph, backend)
        reshape_views(graph.graph)
        convert.leave_outputs_quantized(graph)
        graph.qcore_runs_on = backend  # type: ignore[assignment]


def fused(model: nn.Module, backend: str, allowed: Allowed) -> QuantizedGraphModule:
    """A model traced and fused; Untraceable where it cannot be traced."""
    traced = trace(model, lambda path, module: "")
    constants.remove_identities(traced.model, (nn.Identity,))
    fuse(traced.model, backend, allowed=allowed)
    return traced.model


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)
