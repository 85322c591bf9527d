"""A seed run: what each of its checks gives."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHUNK = 20


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


def other_isas() -> list[str]:
    """The instruction sets of this machine but the best."""
    from qcore.registry import registry

    backend: Any = registry.get(registry.choose("auto").name)
    return list(getattr(backend, "supported_isas", list)())[1:]
