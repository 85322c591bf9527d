"""What a backend declares, as frozen data: operators, dtypes, schemes, fusions, limits and module patterns.

One declaration drives default qconfigs, module swaps, matching, error messages, conformance cases and the docs' tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.operators import Operator
from qcore.tensor.arguments import check_type
from qcore.tensor.dtypes import QDType, qint8, quint8
from qcore.tensor.qparams import QParams


@dataclass(frozen=True)
class Verdict:
    """Yes, or no with the reason."""

    ok: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok


YES = Verdict(True)


@dataclass(frozen=True)
class WeightSpec:
    """A kind of weight that is accepted.

    `per_channel`: one scale per output channel (on the operator's own channel axis), else one for all;
    `symmetric`: only zero points of 0.
    """

    dtype: QDType = qint8
    per_channel: bool = False
    symmetric: bool = False

    def verdict(self, qweight: QParams) -> Verdict:
        """Whether a weight with these parameters is of this kind."""
        if qweight.dtype != self.dtype:
            return Verdict(False, f"weight dtype {qweight.dtype!r}, not {self.dtype!r}")
        if (qweight.axis is not None) != self.per_channel:
            return Verdict(False, f"weights quantized {_granularity(qweight.axis is not None)}")
        if self.symmetric and not _all_zero(qweight.zero_point):
            return Verdict(False, "weight zero points other than 0")
        return YES

    def __str__(self) -> str:
        return f"{self.dtype.name} {_granularity(self.per_channel)}" + (" symmetric" if self.symmetric else "")


@dataclass(frozen=True)
class Limit:
    """A bound on one of the sizes in `Operator.extents()`, with the reason for it."""

    extent: str
    high: int
    reason: str


@dataclass(frozen=True)
class OpSpec:
    """One operator as a backend runs it.

    `activations`: dtypes of integer inputs and outputs; `weights`: accepted kinds, empty for operators without;
    `fused`: operations it can fuse after itself; `spatial`: numbers of spatial dimensions, empty for no restriction;
    `functions`: for Lookup and FloatFunction; `options`: attributes that may be on (per_row, reduce_range ...);
    `steps`: how far an integer result may be from the exact one; 0 is exact, which every backend should be that can.
    """

    operator: type[Operator]
    activations: tuple[QDType, ...] = (quint8,)
    weights: tuple[WeightSpec, ...] = ()
    fused: tuple[str, ...] = ()
    spatial: tuple[int, ...] = ()
    functions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    steps: int = 0

    def verdict(self, operator: Operator, activations: tuple[QDType, ...] = ()) -> Verdict:
        """Whether this declaration covers one built operator, with activations of these dtypes."""
        for problem in self._problems(operator, activations):
            return Verdict(False, f"{operator.name}: {problem}")
        return YES

    def _problems(self, operator: Operator, activations: tuple[QDType, ...]) -> Iterator[str]:
        for dtype in activations:
            if dtype not in self.activations:
                yield f"activation dtype {dtype!r}, not one of {_names(self.activations)}"
        for fusion in operator.fused:
            if fusion not in self.fused:
                yield f"no fusion with {fusion}"
        if self.spatial and operator.spatial not in self.spatial:
            yield f"{operator.spatial} spatial dimensions, not one of {_names(self.spatial)}"
        for option in ("per_row", "reduce_range", "float16", "float_zero_points"):
            if getattr(operator, option, False) and option not in self.options:
                yield f"no option {option}"
        if isinstance(operator, ops.Lookup | ops.FloatFunction) and operator.function not in self.functions:
            yield f"function {operator.function!r}, not one of {_names(self.functions)}"
        qweight = getattr(operator, "qweight", None)
        if self.weights and isinstance(qweight, QParams):
            verdicts = [spec.verdict(qweight) for spec in self.weights]
            if not any(verdicts):
                yield f"{verdicts[0].reason}; accepted: {_names(self.weights)}"
        extents = operator.extents()
        for limit in self.limits:
            if extents.get(limit.extent, 0) > limit.high:
                yield f"{limit.extent}={extents[limit.extent]} is over {limit.high} ({limit.reason})"


PatternPart: TypeAlias = "type[nn.Module] | Callable[..., Any]"


@dataclass(frozen=True)
class Pattern:
    """A sequence of float modules or functions that becomes one operator, with what is fused after it.

    `quantized`: what graph mode puts in the place of a single module class of torch.nn, for an operator of the plugin's
    own: a class with a `from_float`. Raises ArgumentError for one with several parts.
    """

    parts: tuple[PatternPart, ...]
    operator: type[Operator]
    fused: tuple[str, ...] = ()
    quantized: Any = None

    def __post_init__(self) -> None:
        if self.quantized is not None and len(self.parts) != 1:
            raise ArgumentError(
                f"pattern {self}: only one of a single module class has a `quantized`; take the others away"
            )

    def __str__(self) -> str:
        return " > ".join(getattr(part, "__name__", str(part)) for part in self.parts)


@dataclass(frozen=True)
class Capability:
    """All that a backend declares: one OpSpec per operator and the patterns it takes."""

    ops: tuple[OpSpec, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    _by_operator: dict[type[Operator], OpSpec] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind, values in (("ops", OpSpec, self.ops), ("patterns", Pattern, self.patterns)):
            check_type("Capability", tuple, **{name: values})
            for value in values:
                check_type("Capability", kind, **{f"each of {name}": value})
        self._by_operator.update({spec.operator: spec for spec in self.ops})

    @property
    def exact(self) -> bool:
        """Whether every result is the exact one."""
        return not any(spec.steps for spec in self.ops)

    def find(self, operator: type[Operator]) -> OpSpec | None:
        """The declaration for an operator, None where it is not declared."""
        return self._by_operator.get(operator)

    def verdict(self, operator: Operator, activations: tuple[QDType, ...] = ()) -> Verdict:
        """Whether the declaration covers one built operator, with activations of these dtypes."""
        spec = self.find(type(operator))
        if spec is None:
            return Verdict(False, f"{operator.name} is not among its operators")
        return spec.verdict(operator, activations)


def standard_patterns(declared: tuple[OpSpec, ...]) -> tuple[Pattern, ...]:
    """The usual module sequences for those of the declared operators that have one, longest first."""
    found = []
    for parts, operator, fused in _STANDARD:
        spec = next((spec for spec in declared if spec.operator is operator), None)
        if spec is not None and set(fused) <= set(spec.fused) and _rank_fits(parts, spec):
            found.append(Pattern(parts, operator, fused))
    return tuple(sorted(found, key=lambda pattern: -len(pattern.parts)))


_CONVS = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}
_RANKS: dict[object, int] = {conv: rank for rank, (conv, _) in _CONVS.items()}
_STANDARD: tuple[tuple[tuple[PatternPart, ...], type[Operator], tuple[str, ...]], ...] = (
    ((nn.Linear,), ops.Linear, ()),
    ((nn.Linear, nn.ReLU), ops.Linear, ("relu",)),
    ((nn.Linear, nn.BatchNorm1d), ops.Linear, ()),
    *(((conv,), ops.Conv, ()) for conv, _ in _CONVS.values()),
    *(((conv, nn.ReLU), ops.Conv, ("relu",)) for conv, _ in _CONVS.values()),
    *(((conv, norm), ops.Conv, ()) for conv, norm in _CONVS.values()),
    *(((conv, norm, nn.ReLU), ops.Conv, ("relu",)) for conv, norm in _CONVS.values()),
)


def _rank_fits(parts: tuple[PatternPart, ...], spec: OpSpec) -> bool:
    rank = _RANKS.get(parts[0])
    return rank is None or not spec.spatial or rank in spec.spatial


def _granularity(per_channel: bool) -> str:
    return "per channel" if per_channel else "per tensor"


def _all_zero(zero_point: int | Tensor) -> bool:
    return bool((zero_point == 0).all()) if isinstance(zero_point, Tensor) else zero_point == 0


def _names(items: tuple[object, ...]) -> str:
    return ", ".join(getattr(item, "name", None) or str(item) for item in items) or "none"
