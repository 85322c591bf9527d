"""Discover, guard, choose and explain backends.

A plugin is imported when it is first needed, and a broken one breaks no other.
"""

from __future__ import annotations

import difflib
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, wraps
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

import pluggy

from qcore import hookspec
from qcore.backend import API_VERSION, Availability, Backend
from qcore.capability import Pattern
from qcore.errors import ArgumentTypeError, BackendError
from qcore.extension import Extension
from qcore.selection import AUTO, REFUSE, BackendLike, Selection

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
PICK = "QCORE_BACKEND"
DISABLE = "QCORE_DISABLE_BACKENDS"
BY_NAME = "asked for by name"
PROBE_SECONDS = 5.0
"""How long a probe may take; one that takes longer counts as hung."""


@dataclass(frozen=True)
class Status:
    """One installed plugin as it stands here: loaded or not, with the traceback; available or not, with the reason.

    `backend`: None for one that could not be loaded, and for one that only brings an `extension` of another backend.
    """

    name: str
    distribution: str
    backend: Backend | None
    availability: Availability
    traceback: str = ""
    extension: Extension | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be chosen."""
        return self.backend is not None and self.availability.ok


@dataclass(frozen=True)
class Choice:
    """The backend that a model runs on, and why; `selection`: all that may run it, in order."""

    backend: Backend
    reason: str
    selection: Selection

    @property
    def name(self) -> str:
        """What the model keeps: the selection as a string; the backend's name where it is the only one."""
        return str(self.selection)


class Registry:
    """The backends of one process. There is no current one: each model names its own."""

    def __init__(self) -> None:
        self._plugins = pluggy.PluginManager("qcore")
        self._plugins.add_hookspecs(hookspec)
        self._statuses: dict[str, Status] = {}
        self._entry_points: dict[str, list[EntryPoint]] | None = None
        self._preferred: str | None = None
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], object]] = []
        self.changes = 0

    def when_changed(self, listener: Callable[[], object]) -> None:
        """Call this whenever `register` or `unregister` has changed which backends there are: for what was bound."""
        self._listeners.append(listener)

    def names(self) -> list[str]:
        """Names of the installed backends, without importing any; those in QCORE_DISABLE_BACKENDS are left out."""
        with self._lock:
            disabled = _listed(os.environ.get(DISABLE, ""))
            return sorted({*self._found(), *self._statuses} - disabled)

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin (an object with the hook functions) that has no entry point, under a name.

        Raises ArgumentTypeError for a name that is no string, BackendError for one that is taken.
        """
        _check_name("register", name)
        with self._lock:
            if name in self._statuses or name in self._found():
                raise BackendError(f"a backend named {name!r} is registered already; choose another name")
            self._statuses[name] = self._inspect(name, "registered in this process", lambda: plugin)
            self._changed()

    def unregister(self, name: str) -> None:
        """Remove what `register` added."""
        _check_name("unregister", name)
        with self._lock:
            self._statuses.pop(name, None)
            if self._plugins.has_plugin(name):
                self._plugins.unregister(name=name)
            self._changed()

    def status(self, name: str) -> Status:
        """How one installed backend stands; loads it. Never raises for a fault of the backend's own.

        Raises BackendError for a name that is not installed.
        """
        _check_name("status", name)
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
        _check_name("get", name)
        if name not in self.names():
            raise BackendError(self._missing(name))
        status = self.status(name)
        if status.backend is None and status.extension is not None:
            extends = status.extension.extends
            raise BackendError(f"{name!r} is no backend, but an extension of {extends!r}; choose {extends!r}")
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

    @property
    def preferred(self) -> str | None:
        """What "auto" means in this process, as `prefer` has said; None: the best that can run here."""
        return self._preferred

    def prefer(self, name: str | None) -> None:
        """Let "auto" mean this backend in this process (None: the best again); the environment variable still wins.

        Raises BackendError, and changes nothing, if it is missing or cannot run here.
        """
        with self._lock:
            if name is not None:
                self.get(name)
            self._preferred = name
            self._changed()

    def choose(self, backend: BackendLike | None = AUTO, fallback: str | None = None) -> Choice:
        """The backend to use for a name, or for a list of names in order of preference.

        For "auto" or None: what QCORE_BACKEND names, else what `prefer` has named, else the usable one of highest
        priority, then by name. `fallback`: who runs what these do not declare: a name, "error" for nobody, None for any
        backend that offers itself. BackendError for one that is missing or unable to run here.
        """
        asked = Selection.of(backend, fallback)
        if asked.names != (AUTO,):
            return self._choice(asked, BY_NAME)
        picked = os.environ.get(PICK, AUTO)
        if picked != AUTO:
            return self._choice(Selection.of(picked, asked.fallback), f"named by the environment variable {PICK}")
        if self._preferred is not None:
            return self._choice(Selection.of(self._preferred, asked.fallback), "preferred in this process")
        statuses = self.statuses()
        best = next((status for status in statuses if status.usable), None)
        if best is None or best.backend is None:
            raise BackendError(self._none_usable(statuses))
        others = [f"{item.name} ({_why_not(item)})" for item in statuses if item is not best and not item.extension]
        reason = f"highest priority ({best.backend.priority}) of the backends that can run here"
        reason += f"; not {', '.join(others)}" if others else ""
        return self._choice(Selection((best.name,), asked.fallback), reason)

    def candidates(self, backend: BackendLike | None) -> Iterator[Backend]:
        """Who may run an operator of a model on `backend`, in the order to ask: those chosen, then the fallbacks."""
        selection = self.choose(backend).selection
        yield from (self.get(name) for name in selection.names)
        if selection.fallback is None:
            for item in self.statuses():
                if item.usable and item.backend and item.backend.fallback and item.name not in selection.names:
                    yield item.backend
        elif selection.fallback not in (REFUSE, *selection.names):
            yield self.get(selection.fallback)

    def extensions(self, name: str) -> list[Extension]:
        """What other plugins add to a backend."""
        found = [item.extension for item in self.statuses()]
        return [extension for extension in found if extension is not None and extension.extends == name]

    def families(self, name: str) -> list[Any]:
        """What a plugin brings for the conformance kit: cases for operators of its own."""
        others = [each for key, each in self._plugins.list_name_plugin() if key != name]
        return [family for found in self._plugins.subset_hook_caller("qcore_families", others)() for family in found]

    def patterns(self, backend: Backend) -> tuple[Pattern, ...]:
        """Module patterns of a backend: its own, and those that extensions add."""
        if not isinstance(backend, Backend):
            raise ArgumentTypeError(f"patterns: give a Backend, as get() has it, not {backend!r}")
        added = [pattern for extension in self.extensions(backend.name) for pattern in extension.patterns]
        return (*backend.capability().patterns, *added)

    def brought(self, backend: BackendLike | None) -> list[Pattern]:
        """Patterns with quantized modules of the plugin's own, of all who may run a model on `backend`."""
        found = [pattern for each in self.candidates(backend) for pattern in self.patterns(each)]
        return [pattern for pattern in found if pattern.quantized is not None]

    def _choice(self, selection: Selection, reason: str) -> Choice:
        backends = [self.get(name) for name in selection.names]
        if selection.fallback not in (None, REFUSE):
            self.get(str(selection.fallback))
        return Choice(backends[0], reason, selection)

    def _changed(self) -> None:
        self.changes += 1
        for listener in self._listeners:
            listener()

    def _found(self) -> dict[str, list[EntryPoint]]:
        if self._entry_points is None:
            self._entry_points = {}
            for point in entry_points(group=hookspec.ENTRY_POINT_GROUP):
                self._entry_points.setdefault(point.name, []).append(point)
        return self._entry_points

    def _inspect(self, name: str, distribution: str, load: Callable[[], object]) -> Status:
        """Load, check and probe one plugin; whatever it throws is kept in the status."""
        backend: Backend | None = None
        try:
            plugin = load()
            self._plugins.register(plugin, name=name)
            self._plugins.check_pending()
            backend, extension = _offered(self._plugins, plugin)
            if backend is None:
                return Status(name, distribution, None, Availability(True), "", extension)
            problem, cure = _contract_problem(backend, name, distribution)
            if problem:
                return Status(name, distribution, None, Availability(False, problem, cure))
            availability = _within(PROBE_SECONDS, backend.probe)
            if not isinstance(availability, Availability):
                raise TypeError(f"probe() returned {availability!r}, not an Availability")
            backend.capability()
            return Status(name, distribution, backend, availability, "", extension)
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


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str):
        raise ArgumentTypeError(f"{what}: the name of a backend is a string, not a {type(name).__name__}")


def _rank(status: Status) -> tuple[bool, int, str]:
    return not status.usable, -status.backend.priority if status.backend else 0, status.name


def _offered(plugins: pluggy.PluginManager, plugin: object) -> tuple[Backend | None, Extension | None]:
    """What a plugin's hooks return; TypeError if it is nothing, or of another type."""
    others = [other for other in plugins.get_plugins() if other is not plugin]
    backends = plugins.subset_hook_caller("qcore_backend", others)()
    extensions = plugins.subset_hook_caller("qcore_extension", others)()
    if not backends and not extensions:
        raise TypeError("the plugin has no hook implementation qcore_backend, and none of qcore_extension")
    for hook, kind, found in (("backend", Backend, backends), ("extension", Extension, extensions)):
        if found and not isinstance(found[0], kind):
            raise TypeError(f"qcore_{hook}() returned {found[0]!r}, not a qcore.{kind.__name__}")
    return (backends[0] if backends else None), (extensions[0] if extensions else None)


def _contract_problem(backend: Backend, name: str, distribution: str) -> tuple[str, str]:
    """Why a backend cannot be used with this qcore, and the cure; empty if it can."""
    if backend.name != name:
        return f"it calls itself {backend.name!r}, but is registered as {name!r}", f"Correct {distribution}."
    version = backend.api_version
    if not (isinstance(version, tuple) and len(version) == 2 and all(isinstance(part, int) for part in version)):
        return f"its api_version is {version!r}; it must be a tuple such as {API_VERSION}", f"Correct {distribution}."
    major, minor = version
    problem = f"it was written for version {major}.{minor} of the plugin contract, and this qcore has "
    problem += ".".join(map(str, API_VERSION))
    if version > API_VERSION:
        return problem, f"Upgrade torch-qcore, or install an older {distribution}."
    if major < API_VERSION[0]:
        return problem, f"Upgrade {distribution}."
    return "", ""


def _within(seconds: float, probe: Callable[[], Availability]) -> Availability:
    """What a probe says, or that it hangs: it is left behind in its thread, which does not keep the process alive."""
    answers: list[Availability] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(probe())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask, name="qcore probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        return Availability(False, f"its probe did not end within {seconds:g} s", "See what it waits for: a driver?")
    return answers[0]


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

    @lru_cache(maxsize=1024)
    @wraps(function)
    def cached(*args: Any) -> Any:
        while True:
            before = registry.changes
            result = function(*args)
            if registry.changes == before:  # else it may be of a backend that another thread has removed since
                return result

    registry.when_changed(cached.cache_clear)
    return cast(FunctionT, cached)
