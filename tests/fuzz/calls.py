"""A fuzzer of calls: every public name and every native entry, with good arguments and spoiled ones.

    python -m tests.fuzz.calls --runs 100000 --seed 1 [--jobs 2] [--only NAME] [--seconds 600]
    python -m tests.fuzz.calls --seed 1 --replay 4711

What is right: a result, the same a second time; an error of qcore's, that left everything as it was; Python's own
TypeError for arguments that a signature has no place for; what the program's own functions raise, and the operating
system of a file that was named; torch's word that there is no memory for a tensor, with its size; TypeError,
ValueError and IndexError of a native entry; of a backend's kernel these, RuntimeError, and what Python has for objects
of another kind; RuntimeError of a custom op, as torch's have it; of torch's functions what they raise for float tensors
too. All else is a finding.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import defaultdict

from tests.fuzz.judge import Finding
from tests.fuzz.subject import Subject
from tests.fuzz.workers import Found, run
from tests.trust import record

BATCH = 20_000
"""Calls after which the time is looked at."""


def fuzz(
    subject: Subject, numbers: range, jobs: int = 1, *, aloud: bool = False, seconds: float = math.inf
) -> tuple[int, dict[Finding, list[Found]]]:
    """Make the calls of these numbers, as many as there is time for: how many, and the findings, each with the calls
    that showed it."""
    kinds: dict[Finding, list[Found]] = defaultdict(list)

    def told(found: Found) -> None:
        if aloud and found.finding not in kinds:
            print(f"{found.number}: {found.finding}", flush=True)
        kinds[found.finding].append(found)

    start, done = time.monotonic(), 0
    while done < len(numbers) and time.monotonic() - start < seconds:
        batch = numbers[done : done + BATCH]
        run(subject, batch, jobs, told)
        done += len(batch)
    return done, kinds


def summary(subject: Subject, runs: int, kinds: dict[Finding, list[Found]], seconds: float) -> str:
    """The figures of a run, in words."""
    entries = {kind: len(found) for kind, found in subject.names.items()}
    of_kind: dict[str, int] = defaultdict(int)
    for finding in kinds:
        of_kind[finding.kind] += 1
    lines = [
        f"{runs} calls, seed {subject.seed}, {seconds:.0f} s",
        f"entries: {sum(entries.values())} ({', '.join(f'{count} {kind}' for kind, count in entries.items())})",
        f"public names without a good call: {', '.join(subject.without_calls()) or 'none'}",
        f"findings: {len(kinds)} ({', '.join(f'{count} {kind}' for kind, count in sorted(of_kind.items())) or 'none'})",
    ]
    for finding, found in sorted(kinds.items(), key=lambda item: str(item[0])):
        lines.append(f"  {finding}  x{len(found)}, first at {min(each.number for each in found)}")
    return "\n".join(lines)


def replay(subject: Subject, number: int) -> str:
    """One call as a small program, and what becomes of it in a process of its own."""
    found: list[Found] = []
    text = str(subject.call(number))
    run(subject, range(number, number + 1), 1, found.append)
    return "\n".join([text, *(f"# {each.finding}" for each in found)] if found else [text, "# as it should be"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="how many calls")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="no further batch after so many")
    parser.add_argument("--only", default="", help="entries with this in their name")
    parser.add_argument("--replay", type=int, help="the number of one call")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/trust.md")
    options = parser.parse_args()
    home = os.getcwd()
    subject = Subject(options.seed, options.only)
    try:
        if options.replay is not None:
            print(replay(subject, options.replay))
            return
        start = time.monotonic()
        numbers = range(options.first, options.first + options.runs)
        runs, kinds = fuzz(subject, numbers, options.jobs, aloud=True, seconds=options.seconds)
        text = summary(subject, runs, kinds, time.monotonic() - start)
    finally:
        os.chdir(home)
        subject.close()
    print(text)
    if options.record:
        command = f"python -m tests.fuzz.calls {' '.join(sys.argv[1:])}"
        record("calls", command, f"{runs} calls: {len(kinds)} kinds of findings")
    raise SystemExit(bool(kinds))


if __name__ == "__main__":
    main()
