"""Which backends may run a model, as one string that travels with it: with its tensors, report and state dict.

"mynpu": this one, and what it lacks on any backend that offers itself as a fallback. "mynpu, other": each operator
on the first of these that declares it. "mynpu; fallback=reference": what it lacks on that one only;
"mynpu; fallback=error": what it lacks is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qcore.errors import ArgumentError, ArgumentTypeError

BackendLike: TypeAlias = "str | Sequence[str]"
"""One name, several in order of preference, or the string form of a Selection."""

AUTO = "auto"
REFUSE = "error"
_FALLBACK = "fallback="


@dataclass(frozen=True)
class Selection:
    """`names`: in order of preference; `fallback`: None for any that offers itself, a name, or "error" for none."""

    names: tuple[str, ...]
    fallback: str | None = None

    @classmethod
    def of(cls, backend: BackendLike | None, fallback: str | None = None) -> Selection:
        """What a `backend` argument means, and the `fallback` argument beside it.

        ArgumentTypeError for what is neither a name nor a sequence of names; ArgumentError for no name, one that comes
        twice, "auto" beside others, and two fallbacks that differ.
        """
        if fallback is not None and not (isinstance(fallback, str) and fallback.strip()):
            raise ArgumentTypeError(f"fallback={fallback!r}: give the name of a backend, {REFUSE!r}, or None")
        found = cls(_names(backend)) if not isinstance(backend, str) else _parsed(backend)
        if not found.names or "" in found.names:
            raise ArgumentError(f"backend={backend!r} names no backend; give a name, a list of names or {AUTO!r}")
        if len(set(found.names)) < len(found.names):
            raise ArgumentError(f"backend={backend!r} names one backend twice")
        if AUTO in found.names and len(found.names) > 1:
            raise ArgumentError(f"backend={backend!r}: {AUTO!r} stands alone; name the backends")
        if fallback is None or fallback == found.fallback:
            return found
        if found.fallback is not None:
            raise ArgumentError(f"backend={backend!r} and fallback={fallback!r} name two fallbacks")
        return replace(found, fallback=fallback.strip())

    def __str__(self) -> str:
        return ", ".join(self.names) + (f"; {_FALLBACK}{self.fallback}" if self.fallback else "")


def _names(backend: Any) -> tuple[str, ...]:
    if backend is None:
        return (AUTO,)
    if not isinstance(backend, Sequence) or not all(isinstance(name, str) for name in backend):
        raise ArgumentTypeError(f"backend={backend!r}: give the name of a backend, or a list of names")
    return tuple(name.strip() for name in backend)


def _parsed(text: str) -> Selection:
    names, _, rest = text.partition(";")
    rest = rest.strip()
    if rest and not rest.startswith(_FALLBACK):
        raise ArgumentError(f"backend={text!r}: after the names comes '; {_FALLBACK}NAME' or nothing")
    return Selection(tuple(name.strip() for name in names.split(",")), rest.removeprefix(_FALLBACK).strip() or None)
