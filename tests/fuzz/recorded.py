"""Good calls of the public names: those that real programs make, taken down as they run."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import random
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import qcore
from qcore.conformance.case import facets
from qcore.conformance.families import FAMILIES
from qcore.custom_ops.schema import flatten
from qcore.native.backend import NativeBackend
from qcore.registry import Registry, registry
from tests.api import saved_models
from tests.backends import USABLE
from tests.bad_arguments import TABLE
from tests.bad_arguments.words import WORDS
from tests.fuzz import programs
from tests.fuzz.entries import Entry, op_entries, python_entries, torch_entries
from tests.fuzz.spoil_calls import POOL, by_channel, copied, quantized
from tests.nn.every_module import SAMPLES
from tests.test_api_surface import resolve

MOST = 12
"""Calls kept of one entry, each with arguments of other types and ranks."""
LARGEST = 50_000
"""Elements of all tensors of a call that is kept."""


BACKENDS = [name for name in USABLE if isinstance(registry.get(name), NativeBackend) or registry.get(name).fallback]
"""Those of the packages here; of the examples none."""


@dataclass
class Sample:
    """The arguments of one call; copied before each use. `cost`: how much is in them, by which few are drawn."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @cached_property
    def cost(self) -> int:
        return 1 + elements((self.args, self.kwargs)) // 100


class Recorder:
    """Takes calls of public Python functions down while it is entered: each is replaced wherever it is known."""

    def __init__(self, entries: list[Entry]) -> None:
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self._seen: set[Any] = set()
        self._entries = entries
        self._known = {entry.name for entry in entries}
        self._classes = {entry.call: entry.name for entry in entries if isinstance(entry.call, type)}
        self.classes = {name: kind for kind, name in self._classes.items()}
        self._replaced: list[tuple[Any, str, Any]] = []
        self._busy = False
        self._building: set[int] = set()

    def __enter__(self) -> None:
        modules = [module for name, module in list(sys.modules.items()) if name.startswith(("qcore", "tests"))]
        functions = {
            entry.call: self._function(entry)
            for entry in self._entries
            if inspect.isfunction(entry.call) and not entry.takes_self
        }
        for module in modules:
            for name, value in list(vars(module).items()):
                if inspect.isfunction(value) and value in functions:
                    self._replace(module, name, functions[value])
        for base in {base for kind in self._classes for base in kind.__mro__ if base.__module__.startswith("qcore")}:
            for name, value in list(vars(base).items()):
                function = getattr(value, "__func__", value)
                if inspect.isfunction(function) and (not name.startswith("_") or name in ("__init__", "__call__")):
                    made = self._method(name, function)
                    self._replace(base, name, made if function is value else type(value)(made))

    def __exit__(self, *exc: Any) -> None:
        for owner, name, value in reversed(self._replaced):
            setattr(owner, name, value)
        self._replaced.clear()

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    def _function(self, entry: Entry) -> Callable[..., Any]:
        @functools.wraps(entry.call)
        def taken(*args: Any, **kwargs: Any) -> Any:
            self._take(entry.name, args, kwargs)
            return entry.call(*args, **kwargs)

        return taken

    def _method(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def taken(*args: Any, **kwargs: Any) -> Any:
            owner = args[0] if args else None
            kind = owner if isinstance(owner, type) else type(owner)
            whole, found = self._classes.get(kind), inspect.getattr_static(kind, name, None)
            if whole is not None and getattr(found, "__func__", found) is taken:
                # not one that a class of its own has, and calls this one for
                if name == "__init__":
                    self._take(whole, args[1:], kwargs)
                elif id(owner) not in self._building:
                    self._take(f"{whole}.{name}", args[1:] if isinstance(owner, type) else args, kwargs)
            if name != "__init__":
                return function(*args, **kwargs)
            outer = id(owner) not in self._building  # what its own __init__ calls sees an object that is not made yet
            self._building.add(id(owner))
            try:
                return function(*args, **kwargs)
            finally:
                if outer:
                    self._building.discard(id(owner))

        return taken

    def _take(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        if name in self._known and not self._busy:
            self._busy = True
            try:
                self.keep(name, args, kwargs)
            finally:
                self._busy = False

    def keep(self, name: str, args: Any, kwargs: dict[str, Any] | None = None) -> None:
        """Keep a call, if it is unlike those of the entry that there are."""
        kwargs = kwargs or {}
        if len(self.samples[name]) >= MOST:
            return
        form = (name, tuple(map(_form, args)), tuple(sorted((key, _form(value)) for key, value in kwargs.items())))
        if form in self._seen or elements((args, kwargs)) > LARGEST:
            return
        self._seen.add(form)
        with contextlib.suppress(Exception):
            self.samples[name].append(Sample(tuple(map(_detached, args)), {k: _detached(v) for k, v in kwargs.items()}))


def _detached(value: Any) -> Any:
    if type(value) in (Tensor, nn.Parameter) and not value.is_leaf:
        value = value.detach()
    return copied(value)


def _form(value: Any) -> Any:
    """What two calls of one kind have in common."""
    if isinstance(value, Tensor):
        return type(value).__name__, str(value.dtype), value.ndim
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(_form(each) for each in value[:4])
    return type(value).__name__


def elements(value: Any) -> int:
    """Elements of all tensors inside."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, nn.Module):
        return sum(each.numel() for each in (*value.parameters(), *value.buffers())) + 100 * len(list(value.modules()))
    if isinstance(value, dict):
        return sum(map(elements, value.values()))
    return len(value) + sum(map(elements, value[:100])) if isinstance(value, list | tuple) else 1


# --- programs that are watched --------------------------------------------------------------------------------------


def _every_module() -> None:
    for name, sample in SAMPLES.items():
        for backend in BACKENDS:
            torch.manual_seed(0)
            module = sample.build()
            module.backend = backend
            with torch.no_grad():
                module(*sample.inputs())
            if name == "static-Linear":
                module.load_state_dict(module.state_dict())


def _models() -> None:
    for name, make in saved_models.SAVED.items():
        model, _, inputs = make(BACKENDS[0])
        with torch.no_grad():
            model(*inputs)
        qcore.report(model)
        qcore.model_size(model)
        if name in ("plain", "graph-Shared"):
            qcore.save(model, f"{name}.qcore")
            qcore.load(f"{name}.qcore")


def _refused() -> None:
    """What the tables of bad arguments call: each is nearly good."""
    for home, names in TABLE.items():
        for each, lines in names.items():
            for name in each.split():
                rank = int(found[0]) if (found := re.findall(r"\d", name)) else 0
                words = {**WORDS, "it": resolve(home, name), "name": name, "rank": rank}
                for line in filter(None, map(str.strip, lines.splitlines())):
                    with contextlib.suppress(Exception):
                        eval(line, words)


WATCHED: tuple[Callable[[], None], ...] = (_every_module, _models, *programs.PROGRAMS, _refused)


def cases() -> Iterator[tuple[str, Any]]:
    """(backend, case): the plain case of the kit for each operator, rank and set of options that is declared."""
    for backend in BACKENDS:
        seen: set[Any] = set()
        for spec in registry.get(backend).capability().ops:
            family = FAMILIES.get(spec.operator)
            for facet in facets(spec, mixed=False) if family is not None else ():
                key = (spec.operator, facet.spatial, facet.options, facet.function, facet.dtype, facet.weight)
                if key not in seen:
                    seen.add(key)
                    yield backend, family.plain(facet)


# --- calls of names that no program makes ---------------------------------------------------------------------------

_BY_NAME: dict[str, tuple[Callable[[], Any], ...]] = {
    "dim dims axis dim0 dim1 start_dim end_dim source destination": (lambda: 0, lambda: 1, lambda: -1),
    "size shape sizes repeats reps": (lambda: (4, 2), lambda: (2, 4), lambda: 2),
    "dtype": (lambda: torch.float32, lambda: qcore.quint8),
    "model module": (WORDS["small"], lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU())),
    "backend": (lambda: "reference", lambda: None, lambda: BACKENDS[0]),
    "scale eps p alpha": (lambda: 0.1, lambda: 1.0),
    "index": (lambda: torch.tensor([0, 1]), lambda: 0),
    "mask condition": (lambda: torch.ones(2, 4).bool(),),
    "x input self other tensor tensor2 mat2 a b tensor1 source vec2": (
        lambda: quantized(2, 4),
        lambda: quantized(2, 4),
        lambda: torch.randn(2, 4),
        lambda: by_channel(2, 4),
        lambda: quantized(2, 4, 5, 6),
        lambda: quantized(),
    ),
    "tensors": (lambda: [quantized(2, 4), quantized(2, 4)], lambda: (quantized(2, 4),)),
    "mapping": (lambda: {nn.Linear: nn.Identity}, dict),
}
_WORDS = {word: values for words, values in _BY_NAME.items() for word in words.split()}
_SIMPLE: tuple[Callable[[], Any], ...] = (lambda: 1, lambda: 2, lambda: 0.5, lambda: True, lambda: "x", lambda: None)


def drawn_call(entry: Entry, function: Any, rng: random.Random) -> Sample:
    """Arguments by the names of the parameters; a QTensor first for torch's functions."""
    args: list[Any] = []
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for position, parameter in enumerate(parameters):
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            break
        if parameter.default is not parameter.empty and rng.random() < 0.6:
            break
        values = _WORDS.get(parameter.name, _SIMPLE if rng.random() < 0.8 else POOL)
        if position == 0 and entry.kind == "torch":
            values = _WORDS["x"]
        args.append(rng.choice(values)())
    return Sample(tuple(args), {})


@dataclass
class Corpus:
    """Entries with their good calls."""

    entries: dict[str, Entry]
    samples: dict[str, list[Sample]]

    def kinds(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name, entry in self.entries.items():
            found[entry.kind].append(name)
        return found


def corpus() -> Corpus:
    """All entries, and a few good calls of each; the same ones each time."""
    python, torchs, ops = list(python_entries()), list(torch_entries()), list(op_entries())
    recorder = Recorder(python)
    for run in WATCHED:
        torch.manual_seed(0)
        with warnings.catch_warnings(), recorder:
            warnings.simplefilter("ignore")
            run()
    entries = {entry.name: entry for entry in itertools.chain(python, torchs, ops)}
    for backend, case in cases():
        name = f"{backend}.{case.operator.name}"
        entries.setdefault(name, Entry(name, "kernel", _kernel(backend, case)))
        recorder.keep(name, (case.operator, *case.args))
        recorder.keep(f"qcore.operators.{type(case.operator).__name__}", (), vars(case.operator))
        with contextlib.suppress(Exception):
            recorder.keep(f"torch.ops.qcore.{case.operator.name}", flatten(case.operator, case.args, backend))
    for name, calls in programs.TENSOR_CALLS.items():
        for args in calls:
            recorder.keep(name, args())
    dummies = {
        **{torch.overrides.resolve_name(each): dummy for each, dummy in torch.overrides.get_testing_overrides().items()}
    }
    for entry in (*python, *torchs):
        rng = random.Random(entry.name)
        signature = dummies.get(entry.name.replace("QTensor.", "torch.Tensor."), entry.call)
        if entry.takes_self and entry.kind == "python":
            found = _instance(entry, recorder)
            if found is None:
                continue
            signature = getattr(found, entry.short)
        while len(recorder.samples[entry.name]) < 4 and rng.random() < 0.9:
            args = drawn_call(entry, signature, rng).args
            recorder.keep(entry.name, (found, *args) if entry.takes_self and entry.kind == "python" else args)
    return Corpus(entries, {name: found for name, found in recorder.samples.items() if name in entries and found})


def _instance(entry: Entry, recorder: Recorder) -> Any:
    """An object whose method an entry is: one whose methods were called, or a new one; None where there is none."""
    kind = entry.name.rpartition(".")[0]
    for name, samples in recorder.samples.items():
        owner = samples[0].args[0] if samples and samples[0].args else None
        if name.rpartition(".")[0] == kind and type(owner) is recorder.classes.get(kind):
            return owner
    if kind == "registry":
        return Registry()
    for sample in recorder.samples.get(kind, ()):
        with contextlib.suppress(Exception):
            return recorder.classes[kind](*copied(sample.args), **copied(sample.kwargs))
    return None


def _kernel(backend: str, case: Any) -> Callable[..., Any]:
    def call(operator: Any, /, *args: Any) -> Any:
        return case.build(registry.get(backend), operator)(*args)

    return call
