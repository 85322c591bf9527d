"""The least program that still fails as a seed's does: statements dropped one by one, with what reads them led past."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from tests.drawn.checks import wanted
from tests.drawn.draw import draw
from tests.drawn.program import Program, Scope, Statement
from tests.drawn.running import Outcome, run_seed


def shrunk(seed: int, only: tuple[str, ...]) -> str:
    """The text of the least program, with what fails as a comment; of a seed that holds, its own."""
    program = draw(seed)
    failure = _failure(program, wanted(seed, only))
    if failure is None:
        return program.text() + "\n# holds\n"
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(program):
            found = _failure(candidate, [failure.check])
            if found is not None and found.normalised == failure.normalised:
                program, failure, smaller = candidate, found, True
                break
    return program.text() + f"\n# {failure.check} {failure.kind}: {failure.says}\n"


def _failure(program: Program, checks: list[str]) -> Outcome | None:
    """The first outcome that is wrong, or else refused."""
    found: list[Outcome] = []
    run_seed(program.seed, checks, found.append, program)
    wrong = [each for each in found if each.is_wrong] or [each for each in found if each.kind == "refused"]
    return wrong[0] if wrong else None


def _candidates(program: Program) -> Iterator[Program]:
    """Programs that are one step smaller."""
    for index, scope in enumerate(program.scopes):
        for number in reversed(range(len(scope.statements))):
            for smaller in _without(scope, number):
                yield program.with_scope(index, smaller)
        if scope.name == "Drawn":
            for value in dict.fromkeys(re.findall(r"\b[vx]\d+\b", scope.result)):
                if value != scope.result:
                    yield program.with_scope(index, replace(scope, result=value))
    texts = [scope.text() for scope in program.scopes]
    for index, scope in enumerate(program.scopes[:-1]):
        if not any(f"{scope.name}(" in text for text in texts[index + 1 :]):
            yield replace(program, scopes=program.scopes[:index] + program.scopes[index + 1 :])
    if len(program.sizes) > 1:
        for size in program.sizes[1:]:
            yield replace(program, sizes=tuple(each for each in program.sizes if each != size))


def _without(scope: Scope, number: int) -> Iterator[Scope]:
    """The scope without a statement; what read its values reads an earlier one."""
    dropped = scope.statements[number]
    rest = scope.statements[:number], scope.statements[number + 1 :]
    for line in range(len(dropped.lines)) if len(dropped.lines) > 1 else ():
        lines = dropped.lines[:line] + dropped.lines[line + 1 :]
        yield replace(scope, statements=(*rest[0], Statement(dropped.layers, lines), *rest[1]))
    gives = [name for line in dropped.lines for name in re.findall(r"\bv\d+\b", line.split(" = ")[0]) if " = " in line]
    earlier = re.findall(
        r"\b[vx]\d+\b", " ".join([*(line for each in rest[0] for line in each.lines), *scope.parameters])
    )
    reads = [name for line in dropped.lines for name in re.findall(r"\b[vx]\d+\b", line) if name not in gives]
    for instead in dict.fromkeys([*reads, *reversed(earlier)][:6] or ["x0"]):
        yield replace(
            scope,
            statements=(*rest[0], *(_renamed(each, gives, instead) for each in rest[1])),
            result=_rename(scope.result, gives, instead),
        )


def _renamed(statement: Statement, names: list[str], instead: str) -> Statement:
    return Statement(statement.layers, tuple(_rename(line, names, instead) for line in statement.lines))


def _rename(text: str, names: list[str], instead: str) -> str:
    for name in names:
        text = re.sub(rf"\b{name}\b", instead, text)
    return text
