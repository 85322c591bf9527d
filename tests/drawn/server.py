"""A process that has imported all that checks need, and forks one for each chunk of seeds.

Imports and the first export take longer than the checks of a seed. The process runs no model that is checked: neither a
crash nor what a model leaves behind reaches the next chunk. A chunk that ends early, or stands still, is a failure of
the seed and the check that it was at, and goes on behind that seed in a process of its own.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TextIO

from tests.drawn.checks import quiet, wanted
from tests.drawn.running import Outcome, run_seed

SECONDS = 120
"""Time of the processor for one check; on the clock, where other processes run too, or where it waits, LONGEST."""
LONGEST = 10 * SECONDS
DONE = "{}"


class Server:
    """The process, seen from without; begun again where it ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.close()  # it ends where nothing more is asked
            self._process.stdout.close()
            self._process.wait()
            self._process = None

    def run(
        self, seeds: list[int], only: tuple[str, ...] = (), quick: bool = False, **environment: str
    ) -> Iterator[Outcome]:
        """The outcomes of seeds, from one process for all that it lives through."""
        if self._process is None:
            command = [sys.executable, "-W", "ignore", "-m", "tests.drawn", "--serve"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        assert self._process.stdin and self._process.stdout
        asked = {"seeds": seeds, "only": only, "quick": quick, "environment": environment}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.strip() == DONE:
                return
            yield Outcome(**json.loads(line))
        raise RuntimeError(f"the process that forks ended with {self._process.wait()}")

    def chunk(self, seeds: list[int], only: tuple[str, ...], isas: list[str], quick: bool = False) -> list[Outcome]:
        """All outcomes, with other instruction sets compared with the best: all, or, `quick`, one for a seed."""
        found = list(self.run(seeds, only, quick))
        right = {each.seed: each.says for each in found if each.check == "isa" and each.kind == "holds"}
        for number, isa in enumerate(isas):
            shared = list(right)[number :: len(isas)] if quick else list(right)
            for each in self.run(shared, ("isa",), QCORE_FORCE_ISA=isa) if shared else ():
                if each.check == "isa" and each.kind == "holds" and each.says == right[each.seed]:
                    continue
                says = f"other bits on {isa}" if each.kind == "holds" else f"on {isa}: {each.says}"
                found.append(Outcome(each.seed, "isa", "failed", says))
        return found


def serve() -> None:
    """In the process itself: answer each line of standard input, a chunk, with its outcomes and DONE."""
    _warm()
    out = os.fdopen(os.dup(1), "w")  # what models and libraries print goes elsewhere
    os.dup2(2, 1)
    for line in sys.stdin:
        for outcome in in_processes(**json.loads(line)):
            print(json.dumps(asdict(outcome)), file=out, flush=True)
        print(DONE, file=out, flush=True)


def _warm() -> None:
    """Import what checks import, and fill what torch's exporters keep; nothing here starts a thread."""
    import onnxruntime  # noqa: F401
    import torch

    import tests.drawn.draw  # noqa: F401

    torch.set_num_threads(1)
    quiet()
    torch.onnx.export(torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), dynamo=True, verbose=False)
    gc.collect()
    gc.freeze()  # what all processes share is neither searched nor written


def in_processes(seeds: list[int], only: list[str], quick: bool, environment: dict[str, str]) -> Iterator[Outcome]:
    """Seeds in a process forked from this one, and again behind one that it does not live through."""
    left = list(seeds)
    while left:
        begun, why = Outcome(left[0], "float", "begin"), ""
        pid, lines = _forked(partial(_work, seeds=left, only=tuple(only), quick=quick, environment=environment))
        try:
            for line in _read(lines):
                if line == DONE:
                    return
                outcome = Outcome(**json.loads(line))
                if outcome.kind == "begin":
                    begun = outcome
                else:
                    yield outcome
        except TimeoutError as error:
            os.kill(pid, signal.SIGKILL)
            why = str(error)
        finally:
            os.close(lines)
            ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if ended == -signal.SIGPROF:
            why = f"still runs after {SECONDS} s"
        yield Outcome(begun.seed, begun.check, "crashed", why or f"the process ended with {ended}")
        left = left[left.index(begun.seed) + 1 :]


def _forked(work: Callable[[TextIO], None]) -> tuple[int, int]:
    """A process that does `work` and ends: its id, and where what it writes can be read."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    status = 1
    try:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            work(out)
        status = 0
    finally:
        os._exit(status)  # nothing of the parent's is to be flushed or left here


def _work(out: TextIO, seeds: list[int], only: tuple[str, ...], quick: bool, environment: dict[str, str]) -> None:
    os.environ.update(environment)

    def say(outcome: Outcome) -> None:
        print(json.dumps(asdict(outcome)), file=out, flush=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)

    for seed in seeds:
        run_seed(seed, wanted(seed, only, quick), say)
    print(DONE, file=out)


def _read(file: int) -> Iterator[str]:
    """Lines until the end; TimeoutError where none comes for LONGEST."""
    rest = b""
    while True:
        if not select.select([file], [], [], LONGEST)[0]:
            raise TimeoutError(f"stands still for {LONGEST} s")
        part = os.read(file, 1 << 16)
        if not part:
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)
