"""All that is called, and the call of each number: the same for the same seed and number."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import qcore
from tests.fuzz import judge, native
from tests.fuzz.entries import Entry
from tests.fuzz.float_calls import raised_for_floats
from tests.fuzz.recorded import Corpus, corpus
from tests.fuzz.spoil_calls import copied, spoil

SHARES = {"native": 0.5, "python": 0.26, "torch": 0.08, "kernel": 0.1, "op": 0.06}
"""Of all calls."""
TWICE = 4
"""One call in so many is made twice, to see that it gives the same, and that one that raised has changed nothing."""


INSTALLED = qcore.registry.names()


@dataclass
class Call:
    """One call, ready to be made."""

    entry: Entry
    args: list[Any]
    kwargs: dict[str, Any]
    what: str

    def run(self) -> Any:
        return self.entry.call(*self.args, **self.kwargs)

    def __str__(self) -> str:
        given = [*map(native.code, self.args), *(f"{key}={native.code(value)}" for key, value in self.kwargs.items())]
        return f"{self.entry.name}({', '.join(given)})  # spoiled: {self.what or 'nothing'}"


class Subject:
    """The entries with their good calls; made once, before the workers."""

    def __init__(self, seed: int, only: str = "") -> None:
        self.seed = seed
        self._folder = tempfile.mkdtemp(prefix="calls-")
        os.chdir(self._folder)  # files that calls write lie here
        self.corpus: Corpus = corpus()
        self.natives = native.natives()
        names: dict[str, list[Any]] = {kind: list(found) for kind, found in self.corpus.kinds().items()}
        names["native"] = [(each, entry) for each in self.natives for entry in each.entries]
        title = lambda name: name if isinstance(name, str) else name[1]  # noqa: E731
        self.names = {
            kind: [each for each in found if only in title(each) and (kind == "native" or each in self.corpus.samples)]
            for kind, found in names.items()
        }
        self.names = {kind: found for kind, found in self.names.items() if found}
        if not self.names:
            raise SystemExit(f"no entry has {only!r} in its name")

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def without_calls(self) -> list[str]:
        """Public names, torch's apart, that no good call is known of."""
        return [
            name
            for name, entry in self.corpus.entries.items()
            if entry.kind != "torch" and name not in self.corpus.samples
        ]

    def call(self, number: int) -> Call:
        rng = random.Random(f"{self.seed}:{number}")
        torch.default_generator.manual_seed(number)
        kinds = [kind for kind in SHARES if kind in self.names]
        kind = rng.choices(kinds, [SHARES[each] for each in kinds])[0]
        name = rng.choice(self.names[kind])
        if kind == "native":
            natives, title = name
            made = native.make(natives, title, rng)
            return NativeCall(Entry(title, "native", made.run), [], {}, made.what, made)
        entry = self.corpus.entries[name]
        samples = self.corpus.samples[name]
        sample = rng.choices(samples, [1 / each.cost for each in samples])[0]
        other = rng.choice(samples)
        args, kwargs = copied([list(sample.args), sample.kwargs])
        what = ""
        if rng.random() < 0.15 and other.args and args:
            place = rng.randrange(min(len(other.args), len(args)))
            if not (entry.takes_self and place == 0):
                args[place], what = copied(other.args[place]), f"{place}: of another call; "
        what += spoil(args, kwargs, rng, int(entry.takes_self))
        return Call(entry, args, kwargs, what)

    def title(self, number: int) -> str:
        """The name of the entry that the call of this number is of."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.call(number).entry.name

    def judged(self, number: int) -> list[judge.Finding]:
        """Make the call of this number; what is wrong with what became of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call = self.call(number)
                return list(_judgments(call, lambda: self.call(number), twice=number % TWICE == 0))
            finally:
                _restore()


UNREPEATABLE = ("profile", "new", "new_empty", "resize_", "resize_as_", "data_ptr", "fbgemm_pack_gemm_matrix_fp16")
"""Calls whose results are times, addresses, or memory that nothing was written to."""


@dataclass
class NativeCall(Call):
    """A call within its program."""

    program: native.NativeCall

    def __str__(self) -> str:
        return str(self.program)


def _restore() -> None:
    """The process as it was: some calls are there to change it."""
    registry = qcore.registry
    for name in [each for each in registry._statuses if each not in INSTALLED]:
        registry.unregister(name)
    if registry.preferred is not None:
        registry.prefer(None)
    if torch.get_default_dtype() != torch.float32:
        torch.set_default_dtype(torch.float32)
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if not torch.is_grad_enabled():
        torch.set_grad_enabled(True)


def _made(call: Call) -> tuple[Any, BaseException | None]:
    torch.default_generator.manual_seed(0)
    try:
        result = call.run()
        if hasattr(result, "__next__") and hasattr(result, "gi_frame"):
            result = list(result)
        return result, None
    except Exception as error:
        return None, error


def _judgments(call: Call, again: Callable[[], Call], twice: bool) -> Any:
    entry = call.entry
    before = _state(call) if twice and entry.kind == "python" else None
    result, error = _made(call)
    errors = [each for each in result or [] if isinstance(each, Exception)] if entry.kind == "native" else []
    errors.append(error)
    for each in errors:
        found = judge.finding(entry, each, [call.args, call.kwargs]) if each is not None else None
        if found is None:
            continue
        same = again()  # its arguments may have been changed
        if not raised_for_floats(entry, same.args, same.kwargs, each):
            yield found
    if not twice:
        return
    if error is not None and before is not None and _state(call) != before:
        yield judge.Finding(entry.name, "changed by a call that raised", judge.normalised(str(error)))
    if entry.short in UNREPEATABLE:
        return
    seen = judge.outcome(_comparable(result), error)
    second = judge.outcome(*_second(again()))
    if seen != second:
        yield judge.Finding(entry.name, "another outcome the second time", judge.normalised(f"{seen} {second}"))


def _second(call: Call) -> tuple[Any, BaseException | None]:
    result, error = _made(call)
    return _comparable(result), error


def _comparable(result: Any) -> Any:
    """Exceptions by their words, and no times."""
    if isinstance(result, list):
        return [_words(each) if isinstance(each, Exception) else _untimed(each) for each in result]
    return result


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {judge.normalised(str(error))}"


def _untimed(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        return len(value)
    return value


def _state(call: Call) -> str:
    """Of the arguments; of the object too, where the call is a method, but not of a container's whole model."""
    try:
        return judge.fingerprint([call.args, call.kwargs])
    except Exception:
        return ""
