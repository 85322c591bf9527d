"""Discover, guard, choose and explain backends.

A plugin is imported when it is first needed, and a broken one breaks no other.
"""

from __future__ import annotations

import difflib
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

import pluggy

from qcore import hookspec
from qcore.backend import API_VERSION, Availability, Backend
from qcore.errors import BackendError

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
PICK = "QCORE_BACKEND"
DISABLE = "QCORE_DISABLE_BACKENDS"


@dataclass(frozen=True)
class Status:
    """One installed backend as it stands here: loaded or not, with the traceback; available or not, with the reason."""

    name: str
    distribution: str
    backend: Backend | None
    availability: Availability
    traceback: str = ""

    @property
    def usable(self) -> bool:
        """Whether it can be chosen."""
        return self.backend is not None and self.availability.ok


@dataclass(frozen=True)
class Choice:
    """A chosen backend, and why it was."""

    backend: Backend
    reason: str


class Registry:
    """The backends of one process. There is no current one: each model names its own."""

    def __init__(self) -> None:
        self._plugins = pluggy.PluginManager("qcore")
        self._plugins.add_hookspecs(hookspec)
        self._statuses: dict[str, Status] = {}
        self._entry_points: dict[str, list[EntryPoint]] | None = None
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], object]] = []

    def when_changed(self, listener: Callable[[], object]) -> None:
        """Call this whenever `register` or `unregister` has changed which backends there are: for what was bound."""
        self._listeners.append(listener)

    def names(self) -> list[str]:
        """Names of the installed backends, without importing any; those in QCORE_DISABLE_BACKENDS are left out."""
        with self._lock:
            disabled = _listed(os.environ.get(DISABLE, ""))
            return sorted({*self._found(), *self._statuses} - disabled)

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin (an object with the hook functions) that has no entry point, under a name."""
        with self._lock:
            if name in self._statuses or name in self._found():
                raise BackendError(f"a backend named {name!r} is registered already; choose another name")
            self._statuses[name] = self._inspect(name, "registered in this process", lambda: plugin)
            self._changed()

    def unregister(self, name: str) -> None:
        """Remove what `register` added."""
        with self._lock:
            self._statuses.pop(name, None)
            if self._plugins.has_plugin(name):
                self._plugins.unregister(name=name)
            self._changed()

    def status(self, name: str) -> Status:
        """How one installed backend stands; loads it. Never raises for a fault of the backend's own.

        Raises BackendError for a name that is not installed.
        """
        with self._lock:
            if name not in self._statuses:
                points = self._found().get(name, [])
                if not points:
                    raise BackendError(self._missing(name))
                owners = " and ".join(point.dist.name if point.dist else "?" for point in points)
                if len(points) > 1:
                    problem = Availability(False, f"offered by several packages: {owners}", "Remove one of them.")
                    self._statuses[name] = Status(name, owners, None, problem)
                else:
                    self._statuses[name] = self._inspect(name, owners, points[0].load)
            return self._statuses[name]

    def statuses(self) -> list[Status]:
        """How each installed backend stands, best first: usable, then priority, then name."""
        found = [self.status(name) for name in self.names()]
        return sorted(found, key=_rank)

    def get(self, name: str) -> Backend:
        """The backend of this name; BackendError if it is missing, disabled, broken or unable to run here."""
        if name not in self.names():
            raise BackendError(self._missing(name))
        status = self.status(name)
        if status.backend is None:
            raise BackendError(
                f"backend {name!r} (from {status.distribution}) could not be loaded: {status.availability.reason}\n"
                f"{status.availability.cure}\n{status.traceback}".rstrip()
            )
        if not status.availability.ok:
            raise BackendError(
                f"backend {name!r} cannot run here: {status.availability.reason}. "
                f"{status.availability.cure or 'Choose another backend.'} Usable here: {self._usable_names()}."
            )
        return status.backend

    def choose(self, name: str | None = "auto") -> Choice:
        """The backend to use for a name.

        For "auto" or None: what QCORE_BACKEND names, else the usable one of highest priority, then by name.
        """
        if name is not None and name != "auto":
            return Choice(self.get(name), "asked for by name")
        picked = os.environ.get(PICK, "auto")
        if picked != "auto":
            return Choice(self.get(picked), f"named by the environment variable {PICK}")
        statuses = self.statuses()
        best = next((status for status in statuses if status.usable), None)
        if best is None or best.backend is None:
            raise BackendError(self._none_usable(statuses))
        others = [f"{item.name} ({_why_not(item)})" for item in statuses if item is not best]
        reason = f"highest priority ({best.backend.priority}) of the backends that can run here"
        return Choice(best.backend, reason + (f"; not {', '.join(others)}" if others else ""))

    def fallbacks(self, besides: str) -> list[Backend]:
        """Usable backends that may run what another one does not declare, best first."""
        return [
            item.backend
            for item in self.statuses()
            if item.usable and item.backend is not None and item.backend.fallback and item.name != besides
        ]

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    def _found(self) -> dict[str, list[EntryPoint]]:
        if self._entry_points is None:
            self._entry_points = {}
            for point in entry_points(group=hookspec.ENTRY_POINT_GROUP):
                self._entry_points.setdefault(point.name, []).append(point)
        return self._entry_points

    def _inspect(self, name: str, distribution: str, load: object) -> Status:
        """Load, check and probe one plugin; whatever it throws is kept in the status."""
        backend: Backend | None = None
        try:
            plugin = load()  # type: ignore[operator]
            self._plugins.register(plugin, name=name)
            self._plugins.check_pending()
            backend = _single(self._plugins, plugin)
            problem = _contract_problem(backend, name)
            if problem:
                return Status(name, distribution, None, Availability(False, problem, f"Upgrade {distribution}."))
            availability = backend.probe()
            if not isinstance(availability, Availability):
                raise TypeError(f"probe() returned {availability!r}, not an Availability")
            backend.capability()
            return Status(name, distribution, backend, availability)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._plugins.has_plugin(name):
                self._plugins.unregister(name=name)
            stage = "loading" if backend is None else "its probe or declaration"
            reason = f"{stage} raised {type(error).__name__}: {error}"
            cure = f"Reinstall or remove {distribution}."
            return Status(name, distribution, None, Availability(False, reason, cure), traceback.format_exc())

    def _missing(self, name: str) -> str:
        names = self.names()
        if name in _listed(os.environ.get(DISABLE, "")):
            return f"backend {name!r} is disabled by the environment variable {DISABLE}; installed: {_join(names)}"
        near = difflib.get_close_matches(name, names, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        package = "torch-qcore-" + name.replace("_", "-")
        return (
            f"backend {name!r} is not installed; installed: {_join(names)}. {hint}"
            f"Backends are packages of their own: pip install {package}"
        )

    def _none_usable(self, statuses: list[Status]) -> str:
        if not statuses:
            return (
                "no qcore backend is installed. Install at least one: pip install torch-qcore-reference "
                "(runs anywhere), or the one for this machine"
            )
        lines = [f"  {item.name}: {item.availability.reason}. {item.availability.cure}" for item in statuses]
        return "no installed backend can run here:\n" + "\n".join(lines)

    def _usable_names(self) -> str:
        return _join([item.name for item in self.statuses() if item.usable])


def _rank(status: Status) -> tuple[bool, int, str]:
    return not status.usable, -status.backend.priority if status.backend else 0, status.name


def _single(plugins: pluggy.PluginManager, plugin: object) -> Backend:
    others = [other for other in plugins.get_plugins() if other is not plugin]
    found = plugins.subset_hook_caller("qcore_backend", others)()
    if len(found) != 1:
        raise TypeError(f"the plugin must have one hook implementation qcore_backend; it has {len(found)}")
    if not isinstance(found[0], Backend):
        raise TypeError(f"qcore_backend() returned {found[0]!r}, not a qcore.Backend")
    return found[0]


def _contract_problem(backend: Backend, name: str) -> str:
    if backend.name != name:
        return f"it calls itself {backend.name!r}, but is registered as {name!r}"
    major, minor = backend.api_version
    if major != API_VERSION[0] or minor > API_VERSION[1]:
        ours = ".".join(map(str, API_VERSION))
        return f"it was written for version {major}.{minor} of the plugin contract, and this qcore has {ours}"
    return ""


def _why_not(status: Status) -> str:
    if status.usable and status.backend is not None:
        return f"priority {status.backend.priority}"
    return status.availability.reason


def _listed(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}


def _join(names: list[str]) -> str:
    return ", ".join(names) or "none"


registry = Registry()
"""The registry of this process."""


def until_changed(function: FunctionT) -> FunctionT:
    """The function with a cache of its results, for kernels that were bound; `register` and `unregister` empty it."""
    cached = lru_cache(maxsize=1024)(function)
    registry.when_changed(cached.cache_clear)
    return cast(FunctionT, cached)
