"""plan: what becomes of each call of a fused graph: quantized, and how; or left float, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from torch import fx, nn

from qcore import operators as ops
from qcore.api._convert import build
from qcore.api._layers import Layer
from qcore.api._prepare import described
from qcore.binding import bind
from qcore.errors import QcoreError, QuantizationError, UnsupportedError
from qcore.fx import parts, patterns
from qcore.fx.allowed import Allowed
from qcore.fx.fits import reasons_against
from qcore.fx.fuse import SOURCE
from qcore.fx.graph_module import REASON
from qcore.fx.kinds import Kind, Values
from qcore.fx.match import Match, match
from qcore.fx.modes import ByMode
from qcore.fx.patterns import Role, Unfit
from qcore.fx.qconfigs import Resolver
from qcore.nn import catalog
from qcore.nn.intrinsic.folding import first_layer
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.observed import no_static_activation
from qcore.operators import Operator
from qcore.report import Outcome, Row
from qcore.tensor.dtypes import QDType, as_qdtype, as_qscheme

How: TypeAlias = Literal["static", "dynamic", "custom", "float"]


@dataclass
class Step:
    """One operation of the graph: the match (None: no quantized form), how it is quantized, with what, and its row."""

    node: fx.Node
    found: Match | None
    how: How
    qconfig: Any
    row: Row | None

    @property
    def where(self) -> str:
        """The name of its place in messages."""
        return self.row.path if self.row is not None else self.node.name


@dataclass
class Planner:
    """Plans the calls of one graph. `leaves`: paths of modules that stay as they are, with the reason; `open_leaves`:
    those of them whose inside is planned by itself; `scopes`: the
    module that each node comes from; `path_of`: from a path in the graph to one in the model; `allowed`: what a backend
    config says."""

    model: fx.GraphModule
    values: Values
    scopes: dict[str, str]
    leaves: dict[str, str]
    open_leaves: Collection[str]
    resolver: Resolver
    backend: str
    custom: dict[type[nn.Module], type[nn.Module]]
    path_of: Callable[[str], str] = lambda inner: inner
    allowed: Allowed = field(default_factory=Allowed)

    def steps(self) -> list[Step]:
        """A step for each call, in order; nothing for calls that are part of the one before, or work on no tensors."""
        self.modules = dict(self.model.named_modules(remove_duplicate=False))
        self.kinds = self.values.kinds
        self.unfit, self.unfit_calls = reasons_against(self.model, self.values)
        found: list[Step] = []
        done: set[fx.Node] = set()
        for node in self.model.graph.nodes:
            if node.op.startswith("call_") and node not in done:
                step = self._step(node)
                if step is not None:
                    found.append(step)
                    done.update(step.found.nodes if step.found is not None else ())
        return found

    def _step(self, node: fx.Node) -> Step | None:
        target = node.meta.get("origin", patterns.target_of(node, self.modules))
        scope = self.path_of(self.scopes.get(node.name, ""))
        is_module = node.op == "call_module" and "origin" not in node.meta
        path = self.path_of(node.meta.get(SOURCE, str(node.target))) if is_module else scope
        qconfig = self.resolver.resolve(path, scope, target, self.resolver.order(scope, target))
        why = self.resolver.reason
        label = path if is_module else f"{scope}.{node.name}" if scope else node.name
        name = str(getattr(target, "__name__", target))
        if node.op == "call_module" and node.target in self.leaves:
            outcome: Outcome = "passed through" if node.target in self.open_leaves else "float"
            return Step(node, None, "float", qconfig, Row(label, name, outcome, reason=self.leaves[str(node.target)]))
        if qconfig is not None and self._is_custom(node, target, qconfig):
            whole = Match([node], Role.COMPUTE, patterns.QUANTIZED_MODULE, list(node.all_input_nodes))
            what = "custom" if target in self.custom else "in parts"
            return Step(node, whole, "custom", qconfig, Row(label, name, "quantized", self.backend, what))
        reason, found = node.meta.get(REASON, ""), None
        try:
            fuses_relu = self._has_kernel if self.allowed.fuses_relu(target) else _no_kernel
            found = None if reason else self._matched(node, target, fuses_relu)
        except Unfit as unfit:
            reason = str(unfit)
        if not self._is_float(node) or (node.target is getattr and not patterns.is_transposed(node)):
            return None
        if found is not None and found.role is Role.MOVE:
            return Step(node, found, "static", qconfig, Row(label, name, "passed through", asked=qconfig is not None))
        if found is None and not reason and qconfig is not None and not self._has_form(target):
            self.allowed.check_has_kernel(target, label)
        if reason or (found is None and node.op != "call_module"):
            reason = reason or f"{name} has no quantized form"
            return Step(
                node, None, "float", qconfig, Row(label, name, "float", reason=reason, asked=qconfig is not None)
            )
        return self._decide(node, found, qconfig, label, name, target, why)

    def _matched(self, node: fx.Node, target: Any, fuses_relu: Callable[[Operator], bool]) -> Match | None:
        """The operation of a call; of a module that a pattern of the user's quantizes, with all that it gets."""
        if node.op == "call_module" and self.allowed.quantized(target) is not None:
            return Match([node], Role.COMPUTE, patterns.QUANTIZED_MODULE, list(node.all_input_nodes))
        return match(node, self.modules, fuses_relu)

    def _has_form(self, target: Any) -> bool:
        return isinstance(target, type) and any(
            catalog.match(target, catalog.mapping(stage)).target is not None for stage in ("static", "dynamic")
        )

    def _is_custom(self, node: fx.Node, target: Any, qconfig: Any) -> bool:
        """Whether a call is one of a custom module, or of an LSTM that is quantized statically."""
        if node.op != "call_module":
            return False
        if target in self.custom:
            return True
        return not _against_static(qconfig) and parts.can_be_in_parts(node, self.modules[str(node.target)])

    def _decide(
        self, node: fx.Node, found: Match | None, qconfig: Any, label: str, name: str, target: Any, why: str
    ) -> Step:
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        asked = qconfig is not None and (module is None or found is not None or bool(list(module.parameters())))
        if qconfig is None:
            return Step(
                node, None, "float", None, Row(label, name, "float", reason=why or "its qconfig is None", asked=False)
            )
        limited = self.allowed.reason_against(target, qconfig, found)
        if limited:
            return Step(node, None, "float", qconfig, Row(label, name, "float", reason=limited, asked=asked))
        how, reason, quantized = self._form(module, found, qconfig)
        if found is not None and how == "static" and not reason:
            computes = found.make is not None or getattr(quantized, "observes_output", quantized is not None)
            role = self.allowed.observed(target, found, computes)
            if isinstance(role, Role):
                found.role = role
                reason = self._against_values(found)
            else:
                reason = role
        if how == "static" and _is_per_channel(qconfig):
            raise QuantizationError(
                f"module {label!r} ({name}): its qconfig observes activations per channel; they have one scale"
            )
        if how == "float" or reason:
            return Step(node, None, "float", qconfig, Row(label, name, "float", reason=reason, asked=asked))
        if quantized is not None and module is not None:
            row = self._described(how, label, name, quantized, module, qconfig)
            row = replace(row, reason="; ".join(filter(None, (row.reason, why))))
        else:
            assert found is not None
            row = self._bound(label, name, found, activation_dtype(qconfig))
        return Step(
            node,
            found if row.outcome == "quantized" else None,
            how if row.outcome == "quantized" else "float",
            qconfig,
            row,
        )

    def _form(self, module: nn.Module | None, found: Match | None, qconfig: Any) -> tuple[How, str, Any]:
        """How a call is quantized, why it is not, and the class that its module becomes."""
        kind: Any = type(module)
        own = self.allowed.quantized(kind) if module is not None else None
        if own is not None and found is not None:
            return ("float", _against_static(qconfig), None) if _against_static(qconfig) else ("static", "", own)
        static = catalog.match(kind, catalog.mapping("static")) if module is not None else catalog.Match(None)
        dynamic = catalog.match(kind, catalog.mapping("dynamic")) if module is not None else catalog.Match(None)
        against = _against_static(qconfig)
        weight_only = static.target is not None and static.target is dynamic.target
        if found is not None and not against and not weight_only:
            return "static", _reason_against(static.target, qconfig, module), static.target
        if dynamic.target is not None:
            return "dynamic", _reason_against(dynamic.target, qconfig, module), dynamic.target
        if found is None:
            name = module.function.__name__ if isinstance(module, ByMode) else kind.__name__
            return "float", static.reason or f"{name} has no quantized form", None
        return "float", against, None

    def _against_values(self, found: Match) -> str:
        for each in (*found.inputs, found.last):
            what = f"its operand {each.name}" if each is not found.last else "its result"
            kind = self.kinds.get(each, Kind.FLOAT)
            if kind is not Kind.FLOAT:
                return f"{what} is {kind.value}; only float32 tensors quantize"
        reasons = [self.unfit.get(each, "") for each in (*found.inputs, found.last)]
        has_weights = found.rule in (patterns.QUANTIZED_MODULE, patterns.SAME_PARAMETERS)
        if not has_weights and not isinstance(found.operator, ops.MatMul):
            reasons.append(self.unfit_calls.get(found.last, ""))
        return next(filter(None, reasons), "")

    def _described(self, how: How, label: str, name: str, quantized: Any, module: nn.Module, qconfig: Any) -> Row:
        if not _is_ours(quantized):
            return Row(label, name, "quantized", operator=quantized.__name__)
        try:
            if how == "static":
                planned = quantized.planned(module, qconfig, self.backend)
            else:
                planned = build(Layer(label, module, qconfig, True), quantized, self.backend, qconfig=qconfig)
            row = described(label, name, planned)
        except UnsupportedError as error:
            if self.resolver.by_default:
                return Row(label, name, "float", reason=str(error))
            raise QuantizationError(
                f"module {label!r} ({name}): backend {self.backend!r} cannot run its qconfig {qconfig}: {error}"
            ) from error
        except QcoreError as error:
            raise QuantizationError(f"module {label!r} ({name}): {error}") from error
        return row

    def _bound(self, label: str, name: str, found: Match, dtype: QDType) -> Row:
        operator = found.operator
        if operator is None:
            what = "moves integers" if found.moves else "changes scale and zero point"
            return Row(label, name, "quantized", self.backend, what, dtype.name)
        try:
            binding = bind(self.backend, operator, (dtype,))
        except UnsupportedError as error:
            return Row(label, name, "float", reason=str(error))
        return Row(label, name, "quantized", binding.runs_on, str(operator), dtype.name, binding.reason)

    def _has_kernel(self, operator: Operator) -> bool:
        try:
            bind(self.backend, operator)
        except UnsupportedError:
            return False
        return True

    def _is_float(self, node: fx.Node) -> bool:
        """Whether a call works on float tensors, or is a module's."""
        values = [self.kinds[each] for each in node.all_input_nodes]
        floats = (Kind.FLOAT, Kind.OTHER_FLOAT)
        return node.op == "call_module" or (self.kinds[node] in floats and any(kind in floats for kind in values))


def _no_kernel(operator: Operator) -> bool:
    return False


@lru_cache(maxsize=256)
def activation_dtype(qconfig: Any) -> QDType:
    """The dtype that a static QConfig gives activations."""
    return as_qdtype(qconfig.activation().dtype)


@lru_cache(maxsize=256)
def _is_per_channel(qconfig: Any) -> bool:
    return as_qscheme(qconfig.activation().qscheme).per_channel


_against_static = lru_cache(maxsize=256)(no_static_activation)


def _reason_against(target: Any, qconfig: Any, module: Any) -> str:
    """What a quantized class of ours has against a module and its qconfig."""
    if not _is_ours(target):
        return ""
    reason: str = target.reason_against(qconfig) or target.reason_against_layer(first_layer(module))
    return reason


def _is_ours(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, QuantizedModule)
