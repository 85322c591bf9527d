"""allowed: what a BackendConfig of the user's allows of a graph, fuses, and brings itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from qcore.api.backend_config import BackendConfig, BackendPatternConfig, ObservationType
from qcore.capability import Pattern
from qcore.errors import ArgumentError, ArgumentTypeError, QuantizationError
from qcore.fx.match import Match
from qcore.fx.patterns import RELUS, Role
from qcore.nn import catalog


class Allowed:
    """A BackendConfig, asked call by call; None allows all that backends declare.

    `brought`: patterns of backends whose modules they quantize themselves. Raises ArgumentError for patterns that no
    graph can have.
    """

    def __init__(self, config: BackendConfig | None = None, brought: Iterable[Pattern] = ()) -> None:
        self.config = config
        self.name = "" if config is None else config.name
        self._patterns: dict[Any, BackendPatternConfig] = {}
        self._fused: dict[Any, BackendPatternConfig] = {}
        for pattern in brought if config is None else ():
            own = BackendPatternConfig(pattern.parts[0])
            self._patterns[pattern.parts] = own.set_reference_quantized_module(pattern.quantized)
        known = catalog.fusions()
        for each in [] if config is None else config.configs:
            parts = each.pattern if isinstance(each.pattern, tuple) else (each.pattern,)
            if not parts or any(isinstance(part, tuple) or part is None for part in parts):
                raise ArgumentError(
                    f"BackendConfig {self.name!r}: the pattern {each.pattern!r} is no module class, function, method's "
                    "name, or tuple of these in order of execution"
                )
            self._patterns[_plain(parts)] = each
            made = each.fused_module or known.get(parts)
            if made is not None:
                self._fused[made] = each

    def names(self, target: Any) -> bool:
        """Whether a pattern has a target in it."""
        return any(target in parts for parts in self._patterns)

    # --- fusing -----------------------------------------------------------------------------------------------------

    def sequences(self, known: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """What fuses, longest first: of the sequences that qcore knows those with a pattern, and the user's own."""
        if self.config is None:
            return list(known)
        own = [parts for parts, each in self._patterns.items() if len(parts) > 1 and _fuses(each)]
        found = [parts for parts in known if _plain(parts) in self._patterns and _plain(parts) not in own]
        return sorted([*own, *found], key=len, reverse=True)

    def fused(self, sequence: tuple[Any, ...], is_qat: bool, parts: list[Any]) -> nn.Module | None:
        """What the user's pattern of a sequence makes of the parts that it matched; None where qcore fuses them."""
        if not self.has_fuser(sequence):
            return None
        found = self._patterns[_plain(sequence)]
        make: Any = found.fuser_method
        made = make(is_qat, *parts) if make is not None else found.fused_module(*parts)  # type: ignore[misc]
        if not isinstance(made, nn.Module):
            raise ArgumentTypeError(
                f"BackendPatternConfig {found.pattern!r}: its fuser method must return an nn.Module; it gave "
                f"{type(made).__name__}"
            )
        self._fused.setdefault(type(made), found)
        return made

    def has_fuser(self, sequence: tuple[Any, ...]) -> bool:
        """Whether a pattern of the user's says how a sequence fuses."""
        found = self._patterns.get(_plain(sequence))
        return found is not None and _fuses(found)

    def fuses_relu(self, target: Any) -> bool:
        """Whether a function with a ReLU after it may be one."""
        return self.config is None or _plain((target, nn.ReLU)) in self._patterns

    # --- quantizing -------------------------------------------------------------------------------------------------

    def pattern(self, target: Any) -> BackendPatternConfig | None:
        """The pattern that holds for what is called."""
        table = {**self._fused, **{parts[0]: each for parts, each in self._patterns.items() if len(parts) == 1}}
        if isinstance(target, type):
            return table.get(catalog.match(target, {kind: kind for kind in table if isinstance(kind, type)}).target)
        return table.get(nn.ReLU if target in RELUS else target)

    def quantized(self, target: Any) -> Any:
        """The class with a from_float that the user's pattern quantizes a module with; None for qcore's own."""
        found = self.pattern(target)
        return None if found is None else found.reference_quantized_module

    def trained(self, target: Any) -> Any:
        """The class that the user's pattern trains a module as; None for qcore's own."""
        found = self.pattern(target)
        return None if found is None else found.qat_module

    def reason_against(self, target: Any, qconfig: Any, found: Match | None) -> str:
        """Why a call stays float; empty if nothing stands against quantizing it.

        Raises QuantizationError for a pattern of the user's that nothing here computes.
        """
        if self.config is None:
            return ""
        each = self.pattern(target)
        if each is None:
            return f"the backend config {self.name!r} has no pattern for it"
        fixed = found.rule.fixed if found is not None and found.role is Role.FIXED else None
        problems = [dtypes.problem(qconfig, fixed) for dtypes in each.dtype_configs]
        if problems and all(problems):
            return f"the backend config {self.name!r} does not allow its qconfig: {problems[0]}"
        return ""

    def check_has_kernel(self, target: Any, label: str) -> None:
        """QuantizationError for a call with a pattern of the user's that nothing here computes."""
        if self.pattern(target) is not None:
            name = getattr(target, "__name__", target)
            raise QuantizationError(
                f"{label!r}: the backend config {self.name!r} has a pattern for {name}, which no kernel computes. Take "
                "the pattern out, or give it set_reference_quantized_module(a class whose from_float makes the "
                "quantized module)"
            )

    def observed(self, target: Any, found: Match, computes: bool) -> Role | str:
        """The role that the pattern's observation type gives a call; or why it cannot be quantized so.

        `computes`: whether its kernel can have results of other parameters than its input.
        """
        each = self.pattern(target)
        by_number = found.role is not found.rule.role  # sums and products with a number have rules of their own
        if each is None or by_number or found.role in (Role.MOVE, Role.SCALAR, Role.FIXED) or found.moves:
            return found.role
        if each.observation_type is ObservationType.INPUT_OUTPUT_NOT_OBSERVED:
            return f"the backend config {self.name!r} does not observe it, which static quantization needs"
        if each.observation_type is ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT:
            return Role.SHARE
        if found.role is Role.SHARE and not computes:
            return (
                f"the backend config {self.name!r} gives its result an observer of its own, and its kernels keep the "
                "parameters of the input: its observation type must be OUTPUT_SHARE_OBSERVER_WITH_INPUT"
            )
        return Role.COMPUTE


def _fuses(config: BackendPatternConfig) -> bool:
    return config.fuser_method is not None or (
        config.fused_module is not None and config.fused_module not in catalog.fusions().values()
    )


def _plain(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """A sequence with all forms of a ReLU as the module."""
    return tuple(nn.ReLU if part in RELUS else part for part in parts)
