"""Every function, class and method of a backend's compiled module, called as the package calls it, and otherwise.

What the package does with the module is taken down once as programs of native calls, in which an object that one call
makes is the target or an argument of later ones. A call is spoiled within its program, and the rest of the program
still runs, so that what was accepted wrongly has its chance to do harm.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from types import ModuleType
from typing import Any

import torch

from qcore.conformance.graphs import CHANNELS, SIZES, Drawing
from qcore.native.backend import NativeBackend
from qcore.registry import registry
from tests.api import saved_models
from tests.fuzz.recorded import LARGEST, cases, elements
from tests.fuzz.spoil_calls import POOL, copied, spoil

PLANS = 20
"""Graphs drawn, whose plans are taken down."""
MODELS = ("graph-Residual", "graph-Gated", "graph-Shared", "encoder", "plain", "parts", "dynamic-int8")
MODELS += ("dynamic-float16",)
"""Models of tests/api whose native calls are taken down."""


@dataclass(frozen=True)
class Ref:
    """The result of the call of this number in a program; -1 is the module."""

    number: int


@dataclass(frozen=True)
class Event:
    """One native call: a method of what an earlier one gave."""

    target: Ref
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Program:
    """Native calls in order, and the class of each one's target."""

    events: list[Event] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def entries(self) -> list[str]:
        return [f"{kind}.{event.method}" for kind, event in zip(self.classes, self.events, strict=True)]


class Proxy:
    """Stands for the module or an object of it, and takes down what is called."""

    def __init__(self, real: Any, ref: Ref, program: Program) -> None:
        self._real, self._ref, self._program = real, ref, program

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if not callable(value) or name.startswith("__"):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            program = self._program
            number = len(program.events)
            kept = copied(_refs(list(args))), copied(_refs(kwargs))
            program.events.append(Event(self._ref, name, tuple(kept[0]), kept[1]))
            program.classes.append(_title(self._real))
            result = value(*_reals(list(args)), **_reals(kwargs))
            if type(result).__module__ == _module_of(self._real):
                return Proxy(result, Ref(number), program)
            return result

        return call


def _title(value: Any) -> str:
    return value.__name__ if isinstance(value, ModuleType) else f"{_module_of(value)}.{type(value).__name__}"


def _module_of(value: Any) -> str:
    return value.__name__ if isinstance(value, ModuleType) else type(value).__module__


def _mapped(value: Any, change: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_mapped(each, change) for each in value)
    if isinstance(value, dict):
        return {key: _mapped(each, change) for key, each in value.items()}
    return change(value)


def _refs(value: Any) -> Any:
    return _mapped(value, lambda each: each._ref if isinstance(each, Proxy) else each)


def _reals(value: Any) -> Any:
    return _mapped(value, lambda each: each._real if isinstance(each, Proxy) else each)


@contextlib.contextmanager
def _watched(backend: NativeBackend, program: Program) -> Iterator[None]:
    real = backend._native
    vars(backend)["_native"] = Proxy(real, Ref(-1), program)
    try:
        yield
    finally:
        vars(backend)["_native"] = real


def programs(backend: NativeBackend) -> Iterator[Program]:
    """What the package does with its module: operators of the kit, plans of drawn graphs and of models."""
    for name, case in cases():
        if name == backend.name:
            yield from _taken(backend, lambda case=case: case.build(backend, case.operator)(*case.args))
    for seed in range(PLANS):
        yield from _taken(backend, lambda seed=seed: _use_plan(backend, seed))
    for name in MODELS:
        yield from _taken(backend, lambda name=name: _use_model(backend, name))


def _use_plan(backend: NativeBackend, seed: int) -> None:
    plan = backend.compile(Drawing(backend.capability(), seed).graph())
    x = torch.randint(0, 256, (2, CHANNELS, *SIZES)).to(torch.uint8)
    plan(x)
    plan.seconds(x)
    str(plan)


def _use_model(backend: NativeBackend, name: str) -> None:
    model, _, inputs = saved_models.SAVED[name](backend.name)
    with torch.no_grad():
        model(*inputs)


def _taken(backend: NativeBackend, run: Callable[[], Any]) -> list[Program]:
    """The native calls of one run, as programs of calls that have to do with each other; no kernel is from a cache."""
    program = Program()
    torch.manual_seed(0)
    registry.prefer(None)
    with _watched(backend, program), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    registry.prefer(None)
    return [each for each in parts(program) if elements([event.args for event in each.events]) < LARGEST]


def parts(program: Program) -> list[Program]:
    """A program taken apart: calls on one object, and on what comes of it, stay together."""
    group = list(range(len(program.events)))
    shared = {number for number, event in enumerate(program.events) if event.method == "kernels"}

    def root(number: int) -> int:
        while group[number] != number:
            number = group[number]
        return number

    for number, event in enumerate(program.events):
        for ref in references(event):
            if ref >= 0 and ref not in shared:
                group[root(number)] = root(ref)
    found: dict[int, Program] = {}
    places: dict[int, int] = {}
    for number, (event, kind) in enumerate(zip(program.events, program.classes, strict=True)):
        if number in shared:
            continue
        part = found.setdefault(root(number), Program())
        for ref in references(event):
            if ref in shared and not part.events:
                part.events.append(program.events[ref])
                part.classes.append(program.classes[ref])
        # the kernels of a part are its first call
        names = {ref: 0 if ref in shared else places.get(ref, -1) for ref in references(event)}
        change = _renumbered(names)
        args, kwargs = _mapped(event.args, change), _mapped(event.kwargs, change)
        places[number] = len(part.events)
        part.events.append(Event(change(event.target), event.method, args, kwargs))
        part.classes.append(kind)
    return list(found.values())


def _renumbered(names: dict[int, int]) -> Callable[[Any], Any]:
    return lambda each: Ref(names[each.number]) if isinstance(each, Ref) else each


def references(event: Event) -> list[int]:
    """Numbers of the calls whose results an event needs."""
    found = [event.target.number]
    _mapped([event.args, event.kwargs], lambda each: found.append(each.number) if isinstance(each, Ref) else each)
    return found


def introspected(module: ModuleType) -> list[str]:
    """Every function, class and method of a compiled module, by its whole name."""
    found: list[str] = []
    for name, value in sorted(vars(module).items()):
        if name.startswith("_"):
            continue
        if inspect.isclass(value):
            found.append(f"{module.__name__}.{name}")
            methods = [each for each in vars(value) if not each.startswith("_")]
            found += [f"{module.__name__}.{name}.{each}" for each in sorted(methods)]
        elif callable(value):
            found.append(f"{module.__name__}.{name}")
    return found


@dataclass
class Natives:
    """The entries of a module, and the programs in which each is called."""

    backend: NativeBackend
    module: ModuleType
    entries: list[str]
    places: dict[str, list[tuple[Program, int]]]

    @property
    def isas(self) -> list[str]:
        return self.backend.supported_isas()


def natives() -> list[Natives]:
    """Of each native backend that can run here."""
    found = []
    for status in registry.statuses():
        backend = status.backend
        if not isinstance(backend, NativeBackend) or not status.usable:
            continue
        places: dict[str, list[tuple[Program, int]]] = defaultdict(list)
        for program in programs(backend):
            for number, entry in enumerate(program.entries()):
                places[entry].append((program, number))
        found.append(Natives(backend, backend._native, introspected(backend._native), places))
    return found


@dataclass
class NativeCall:
    """A program with one call spoiled."""

    natives: Natives
    events: list[Event]
    what: str

    def run(self) -> list[Any]:
        """What became of each call, an exception for one that raised; calls on what was not made are left out."""
        made: dict[int, Any] = {-1: self.natives.module}
        outcomes: list[Any] = []
        for number, event in enumerate(self.events):
            lost = object()

            def real(value: Any, lost: Any = lost) -> Any:
                if not isinstance(value, Ref):
                    return value
                return made.get(value.number, lost) if type(value.number) is int else lost

            target = real(event.target)
            args, kwargs = _mapped(list(event.args), real), _mapped(event.kwargs, real)
            method = getattr(target, event.method, None)  # none where the order was spoiled
            if method is None or lost in [each for each in args if type(each) is object]:
                continue
            try:
                result = method(*args, **kwargs)
            except Exception as error:
                outcomes.append(error)
                continue
            made[number] = result
            outcomes += [result, args]
        return outcomes

    def __str__(self) -> str:
        lines = [f"import torch, {self.natives.module.__name__} as module", "r = {-1: module}"]
        for number, event in enumerate(self.events):
            given = [*map(code, event.args), *(f"{key}={code(value)}" for key, value in event.kwargs.items())]
            lines.append(f"r[{number}] = r[{event.target.number}].{event.method}({', '.join(given)})")
        return "\n".join([*lines, f"# spoiled: {self.what}"])


def code(value: Any) -> str:
    """A value as source, where that is short."""
    if isinstance(value, Ref):
        return f"r[{value.number}]"
    if isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_nested:
        shown = f"torch.empty_strided({tuple(value.shape)}, {value.stride()}, dtype={value.dtype}"
        if value.device.type == "cpu" and 0 < value.numel() <= 16:
            return f"torch.tensor({value.tolist()}, dtype={value.dtype})"
        return f"{shown}, device='{value.device}')"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(code, value[:20])) + (", ..." if len(value) > 20 else "")
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    return repr(value)[:200]


def make(natives: Natives, entry: str, rng: Random) -> NativeCall:
    """A good program with one call of the entry, its arguments or the order of calls spoiled."""
    places = natives.places.get(entry)
    if not places:
        return _without_program(natives, entry, rng)
    program, number = rng.choice(places)
    events = [Event(each.target, each.method, copied(each.args), dict(copied(each.kwargs))) for each in program.events]
    isa = rng.choice(natives.isas)
    events = [
        Event(each.target, each.method, (isa,), {}) if each.method == "kernels" and number else each
        for number, each in enumerate(events, 1)
    ]
    if rng.random() < 0.1:
        return NativeCall(natives, _reordered(events, rng), "order of calls")
    event = events[number]
    args, kwargs = list(event.args), event.kwargs
    what = spoil(args, kwargs, rng)
    events[number] = Event(event.target, event.method, tuple(args), kwargs)
    return NativeCall(natives, events, f"{number} {event.method}: {what}")


def _reordered(events: list[Event], rng: Random) -> list[Event]:
    """Calls left out, made twice, on another object, or with the result of another call for an argument."""
    kept = list(events)
    for _ in range(rng.choice((1, 1, 2, 3))):
        a, b = rng.randrange(len(kept)), rng.randrange(len(kept))
        how = rng.randrange(4)
        if how == 0:
            kept[a] = Event(Ref(-2), "none", (), {})  # its result is missing; the numbers of the others stay
        elif how == 1:
            kept.append(kept[a])
        elif how == 2:
            kept[a] = Event(Ref(b), kept[a].method, kept[a].args, kept[a].kwargs)
        else:
            args = list(kept[a].args)
            if args:
                args[rng.randrange(len(args))] = Ref(b)
            kept[a] = Event(kept[a].target, kept[a].method, tuple(args), kept[a].kwargs)
    return kept


def _without_program(natives: Natives, entry: str, rng: Random) -> NativeCall:
    """Classes, which nothing makes directly, and functions that the package has no use for: arguments from the pool."""
    owner, _, method = entry.rpartition(".")
    args = tuple(rng.choice(POOL)() for _ in range(rng.randrange(4)))
    module = natives.module.__name__
    if owner == module:
        return NativeCall(natives, [Event(Ref(-1), method, args, {})], "from the pool")
    if owner.endswith("Kernels"):
        events = [
            Event(Ref(-1), "kernels", (rng.choice(natives.isas),), {}),
            Event(Ref(0), method, args or (rng.choice((-1, 0, 1, 1000)),), {}),
        ]
        return NativeCall(natives, events, "from the pool")
    kind = owner.rpartition(".")[2]
    events = [Event(Ref(-1), kind, args, {}), Event(Ref(0), method, args, {})]
    return NativeCall(natives, events, "from the pool")
