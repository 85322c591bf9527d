"""Processes that make the calls, so that a crash, a hang or a flood of memory is known by the call that brought it.

A worker is forked with everything ready; it writes the number of the call that it is about to make to shared memory,
and its findings to a file. Where it dies or spends too long on one call, that call is a finding, and the next worker
goes on behind it.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.judge import Finding
from tests.fuzz.subject import Subject

MEMORY = 4 << 30
"""Bytes that a worker may take beyond those that it starts with."""
SECONDS = 6
"""Of processor time that one call may take."""


@dataclass(frozen=True)
class Found:
    """A finding with the seed of its call, and of the first call of its worker."""

    number: int
    since: int
    finding: Finding


class Worker:
    """One process, on the calls of some numbers."""

    def __init__(self, subject: Subject, numbers: range, folder: Path) -> None:
        self.numbers = numbers
        self._at = mmap.mmap(-1, 16)
        self._store(numbers.start, 0)
        self._log = folder / f"{numbers.start}.findings"
        self._words = folder / f"{numbers.start}.words"
        self._log.touch()
        self._taken = 0
        self._last, self._spent = -1, 0.0
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            self._work(subject)

    def _store(self, number: int, done: int) -> None:
        self._at[:16] = struct.pack("qq", number, done)

    @property
    def at(self) -> int:
        """The number of the call that is being made."""
        return int(struct.unpack("qq", self._at[:16])[0])

    def _work(self, subject: Subject) -> None:
        """In the child: make the calls, and end."""
        code = 1
        try:
            words = os.open(self._words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor in (1, 2):
                os.dup2(words, descriptor)
            faulthandler.enable(open(self._words.with_suffix(".stack"), "w"))  # noqa: SIM115  (open until the end)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for number in self.numbers:
                self._store(number, 0)
                for finding in subject.judged(number):
                    line = json.dumps([number, finding.entry, finding.kind, finding.message])
                    with open(self._log, "a") as log:
                        log.write(line + "\n")
            code = 0
        except BaseException as error:
            os.write(2, f"the fuzzer itself: {type(error).__name__}: {error}\n".encode())
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def findings(self) -> Iterator[Found]:
        """Those that were not read yet."""
        lines = self._log.read_text().splitlines()
        for line in lines[self._taken :]:
            number, *finding = json.loads(line)
            yield Found(number, self.numbers.start, Finding(*finding))
        self._taken = len(lines)

    def ended(self) -> Finding | bool | None:
        """False while it runs; then None where all went well, else what went wrong with the call that it was at."""
        found, status = os.waitpid(self.process, os.WNOHANG)
        if not found:
            return self._hangs() if self._too_long() else False
        if os.WIFSIGNALED(status):
            return Finding("?", f"crash: {signal.Signals(os.WTERMSIG(status)).name}", self._stack())
        if os.WEXITSTATUS(status):
            return Finding("?", f"exit {os.WEXITSTATUS(status)}", self._words.read_text()[-1500:])
        return None

    def _too_long(self) -> bool:
        ticks = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        spent = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
        if self.at != self._last:
            self._last, self._spent, self._since = self.at, spent, time.monotonic()
        return spent - self._spent > SECONDS or time.monotonic() - self._since > 20 * SECONDS

    def _hangs(self) -> Finding:
        os.kill(self.process, signal.SIGABRT)
        os.waitpid(self.process, 0)
        return Finding("?", "hang", self._stack())

    def _stack(self) -> str:
        """Where it was, by the frames that are not of these tests."""
        path = self._words.with_suffix(".stack")
        lines = path.read_text().splitlines() if path.exists() else []
        frames = [line.strip() for line in lines if "/qcore" in line or "/torch/" in line]
        return " < ".join(frame.partition("File ")[2].rpartition("/")[2] for frame in frames[:3])


def run(subject: Subject, numbers: range, jobs: int, told: Callable[[Found], None]) -> None:
    """Make the calls of these numbers in `jobs` processes; `told` hears each finding."""
    folder = Path.cwd() / "workers"
    folder.mkdir(exist_ok=True)
    size = -(-len(numbers) // jobs)
    waiting = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    workers = [Worker(subject, each, folder) for each in waiting]
    while workers:
        time.sleep(0.2)
        for worker in list(workers):
            ended = worker.ended()
            for found in worker.findings():
                told(found)
            if ended is False:
                continue
            workers.remove(worker)
            if isinstance(ended, Finding):
                number = worker.at
                told(Found(number, worker.numbers.start, Finding(subject.title(number), ended.kind, ended.message)))
                if number + 1 < worker.numbers.stop:
                    workers.append(Worker(subject, range(number + 1, worker.numbers.stop), folder))
