"""Seeds run in chunks, a process each; a crash or a stop is a failure of the seed and the check that it happened in."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

CHUNK = 20
SECONDS = 120
"""Time for one check."""


@dataclass(frozen=True)
class Outcome:
    """Of a check of a seed. `kind`: holds, failed, raised, crashed, refused, skipped, or unusable for the whole seed;
    `says`: the reason in one line."""

    seed: int
    check: str
    kind: str
    says: str = ""
    seconds: float = 0.0

    @property
    def is_wrong(self) -> bool:
        return self.kind in ("failed", "raised", "crashed")

    @property
    def normalised(self) -> str:
        """What failures of one kind have in common: names and numbers are left out."""
        text = re.sub(r"'[^']*'|\"[^\"]*\"", "'_'", self.says)
        text = re.sub(r"\b[vx]\d+\b|\b\w+_\d+\b", "v", text)
        return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", text)[:160]


def run_seed(seed: int, checks: list[str], say: Callable[[Outcome], None], program: Any = None) -> None:
    """All outcomes of a seed, each said when it is known; `program`: another than the seed's own."""
    import qcore
    from tests.drawn.case import Case, Failed, Skip, Unusable
    from tests.drawn.checks import CHECKS, quiet
    from tests.drawn.draw import draw
    from tests.drawn.program import made

    quiet()
    say(Outcome(seed, "float", "begin"))
    program = draw(seed) if program is None else program
    with made(program) as text:
        try:
            case = Case(program, text)
        except Unusable as error:
            say(Outcome(seed, "float", "unusable", str(error)))
            return
        except Exception as error:
            say(Outcome(seed, "float", "unusable", f"{type(error).__name__}: {error}"[:300]))
            return
        for name in checks:
            say(Outcome(seed, name, "begin"))
            begin = time.process_time()
            kind, says = "holds", ""
            try:
                says = CHECKS[name](case) or ""
            except Failed as error:
                kind, says = "failed", str(error)
            except Skip as error:
                kind, says = "skipped", str(error)
            except qcore.QcoreError as error:
                kind, says = "refused", _line(error)
            except Exception as error:
                kind, says = "raised", f"{_line(error)} [{_place(error)}]"
            say(Outcome(seed, name, kind, says, time.process_time() - begin))


def _line(error: BaseException) -> str:
    notes = "".join(f"{note}: " for note in getattr(error, "__notes__", ()) if len(note) < 20)
    return f"{notes}{type(error).__name__}: {' '.join(str(error).split())[:240]}"


def _place(error: BaseException) -> str:
    """The last line of qcore's own that an exception came through."""
    found = "outside"
    for frame in traceback.extract_tb(error.__traceback__):
        if "qcore" in frame.filename and "tests" not in frame.filename:
            found = f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.name}"
    return found


def work(seeds: list[int], only: tuple[str, ...], quick: bool) -> None:
    """In the process of a chunk: outcomes as lines of JSON."""
    import torch

    from tests.drawn.checks import wanted

    torch.set_num_threads(1)
    out = os.fdopen(os.dup(1), "w")  # what models and libraries print goes elsewhere
    os.dup2(2, 1)
    for seed in seeds:
        run_seed(seed, wanted(seed, only, quick), lambda each: print(json.dumps(asdict(each)), file=out, flush=True))
    print("{}", file=out, flush=True)


def run(seeds: list[int], only: tuple[str, ...] = (), quick: bool = False, **environment: str) -> Iterator[Outcome]:
    """The outcomes of a chunk; the process is begun again behind a seed that it does not live through."""
    left = list(seeds)
    while left:
        command = [sys.executable, "-W", "ignore", "-m", "tests.drawn", "--work", ",".join(map(str, left))]
        command += [part for each in only for part in ("--only", each)] + ["--quick"] * quick
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | environment
        )
        begun, lines = Outcome(left[0], "float", "begin"), _lines(process)
        why = ""
        try:
            while True:
                try:
                    line = lines.get(timeout=SECONDS)
                except queue.Empty:
                    why = f"still runs after {SECONDS} s"
                    break
                if line is None:
                    why = f"the process ended with {process.wait()}"
                    break
                if line == "{}\n":
                    left = []
                    break
                outcome = Outcome(**json.loads(line))
                if outcome.kind == "begin":
                    begun = outcome
                else:
                    yield outcome
        finally:
            process.kill()
            process.wait()
        if why:
            yield Outcome(begun.seed, begun.check, "crashed", why)
            left = left[left.index(begun.seed) + 1 :]


def _lines(process: subprocess.Popen[str]) -> queue.Queue[str | None]:
    found: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                found.put(line)
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found


def chunk(seeds: list[int], only: tuple[str, ...], isas: list[str], quick: bool = False) -> list[Outcome]:
    """All outcomes of a chunk, with other instruction sets compared with the best: all, or, `quick`, one for a seed."""
    found = list(run(seeds, only, quick))
    right = {each.seed: each.says for each in found if each.check == "isa" and each.kind == "holds"}
    for number, isa in enumerate(isas):
        shared = list(right)[number :: len(isas)] if quick else list(right)
        for each in run(shared, ("isa",), QCORE_FORCE_ISA=isa):
            if each.check == "isa" and each.kind == "holds" and each.says == right[each.seed]:
                continue
            says = f"other bits on {isa}" if each.kind == "holds" else f"on {isa}: {each.says}"
            found.append(Outcome(each.seed, "isa", "failed", says))
    return found


def other_isas() -> list[str]:
    """The instruction sets of this machine but the best."""
    from qcore.registry import registry

    backend: Any = registry.get(registry.choose("auto").name)
    return list(getattr(backend, "supported_isas", list)())[1:]
