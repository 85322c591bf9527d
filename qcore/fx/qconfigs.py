"""Which QConfig holds for which call, by the rules of a QConfigMapping; rules that match nothing are errors."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from qcore.api.qconfig import QConfigAny
from qcore.api.qconfig_mapping import QConfigMapping
from qcore.errors import QuantizationError
from qcore.nn.catalog import match

UNSET = object()


@dataclass
class Resolver:
    """Answers for each call of a model, and remembers which rules were of use. `types`: the classes of its modules, by
    path; `containers`: those of modules that call others."""

    mapping: QConfigMapping
    has_layer_norm: bool = False
    types: dict[str, type[nn.Module]] = field(default_factory=dict)
    containers: frozenset[type[nn.Module]] = frozenset()
    reason: str = field(default="", init=False)
    by_default: bool = field(default=False, init=False)
    used: set[Any] = field(default_factory=set)
    _calls: dict[tuple[str, Any], int] = field(default_factory=dict)

    def resolve(self, path: str, scope: str, target: Any, order: int) -> QConfigAny:
        """The QConfig of a call: `path` of the module it is (or lies in), `scope` around it, what it calls, and the
        how manieth call of that it is in the scope. `reason` is then why, where no rule of the
        user's says so, and `by_default` whether a class's own default says it."""
        mapping = self.mapping
        found: Any = UNSET
        for (name, kind, index), qconfig in mapping.module_name_object_type_order_qconfigs.items():
            if name == scope and index == order and _same(kind, target):
                found = self._use(("order", name, kind, index), qconfig, found)
        for prefix in _prefixes(path):
            if prefix in mapping.module_name_qconfigs:
                found = self._use(("name", prefix), mapping.module_name_qconfigs[prefix], found)
        for pattern, qconfig in mapping.module_name_regex_qconfigs.items():
            if re.fullmatch(pattern, path):
                found = self._use(("regex", pattern), qconfig, found)
        around = None if isinstance(target, type) else self.types.get(scope)
        for kind, qconfig in mapping.object_type_qconfigs.items():
            if _same(kind, target) or kind is around:
                found = self._use(("type", kind), qconfig, found)
        by_user = found
        for kind, qconfig in mapping.default_qconfigs.items():
            if found is UNSET and _same(kind, target):
                found = qconfig
        self.reason = ""
        for kind, (qconfig, reason) in mapping.beside_layer_norm.items() if self.has_layer_norm else ():
            if found is UNSET and _same(kind, target):
                found, self.reason = qconfig, reason
        self.by_default = found is not by_user
        return mapping.global_qconfig if found is UNSET else found

    def names(self, target: Any) -> bool:
        """Whether a rule is for calls of a target."""
        mapping = self.mapping
        return target in mapping.object_type_qconfigs or any(
            kind == target for _, kind, _ in mapping.module_name_object_type_order_qconfigs
        )

    def _use(self, rule: Any, qconfig: Any, found: Any) -> Any:
        """Note that a rule matches; it holds where no stronger one does."""
        self.used.add(rule)
        return qconfig if found is UNSET else found

    def order(self, scope: str, target: Any) -> int:
        """The how manieth call of a target in a scope this is; counts on."""
        number = self._calls.get((scope, target), 0)
        self._calls[(scope, target)] = number + 1
        return number

    def check_all_used(self, paths: list[str], targets: list[Any]) -> None:
        """QuantizationError, with the nearest names, for rules that match none of these paths and targets of calls, nor
        any call so far."""
        mapping = self.mapping
        names = sorted({getattr(target, "__name__", str(target)) for target in targets})
        problems = [
            f"module_name {name!r}: the model has no such module{_near(name, paths)}"
            for name in mapping.module_name_qconfigs
            if ("name", name) not in self.used and name not in paths
        ]
        problems += [
            f"module_name_regex {pattern!r} matches no module; there are {_some(paths)}"
            for pattern in mapping.module_name_regex_qconfigs
            if ("regex", pattern) not in self.used and not any(re.fullmatch(pattern, path) for path in paths)
        ]
        problems += [
            f"object_type {_shown(kind)}: {_absent(kind, targets)}{_near(_shown(kind), names)}"
            for kind in mapping.object_type_qconfigs
            if not any(_same(kind, target) for target in targets)
        ]
        problems += [
            f"object_type {_shown(kind)}: such a rule is for functions that these modules call themselves, and they "
            "call none; for all that is in them name their paths, with set_module_name or set_module_name_regex"
            for kind in mapping.object_type_qconfigs
            if kind in self.containers and ("type", kind) not in self.used
        ]
        problems += [
            f"module_name_object_type_order ({name!r}, {_shown(kind)}, {index}): there is no such call"
            f"{'' if name in paths else _near(name, paths)}"
            for name, kind, index in mapping.module_name_object_type_order_qconfigs
            if ("order", name, kind, index) not in self.used
        ]
        if problems:
            raise QuantizationError("qconfig_mapping has rules that match nothing:\n  " + "\n  ".join(problems))


def _same(kind: Any, target: Any) -> bool:
    if isinstance(kind, type) and isinstance(target, type):
        return issubclass(kind, nn.Module) and match(target, {kind: kind}).target is not None
    return bool(kind == target)


def _prefixes(path: str) -> list[str]:
    """A path and those around it, the longest first."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _shown(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _absent(kind: Any, targets: list[Any]) -> str:
    if isinstance(kind, str) and any(getattr(target, "__name__", "") == kind for target in targets):
        return "a string names a method, and the model calls none of this name; give the class or function itself"
    return "the model calls no such thing"


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.4)
    return f"; the nearest: {', '.join(map(repr, near))}" if near else f"; there are {_some(known)}"


def _some(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:8] if name) + (" ..." if len(names) > 8 else "")
