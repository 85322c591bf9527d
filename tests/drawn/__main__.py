"""python -m tests.drawn: draw models, check them, and say what does not hold."""

from __future__ import annotations

import argparse
import contextlib
import queue
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.drawn.checks import CHECKS
from tests.drawn.findings import Findings
from tests.drawn.running import CHUNK, Outcome, other_isas
from tests.drawn.server import Server, serve
from tests.trust import record


def seeds(text: str) -> list[int]:
    first, _, last = text.partition("..")
    return list(range(int(first), int(last) if last else int(first) + 1))


def outcomes(seeds: list[int], only: tuple[str, ...], quick: bool, jobs: int) -> Iterator[Outcome]:
    """Of all seeds, chunk by chunk as they are done, by `jobs` servers."""
    isas = other_isas() if not only or "isa" in only else []
    free: queue.SimpleQueue[Server] = queue.SimpleQueue()

    def chunk(part: list[int]) -> list[Outcome]:
        server = free.get()
        try:
            return server.chunk(part, only, isas, quick)
        finally:
            free.put(server)

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        stack.callback(pool.shutdown, cancel_futures=True)
        for _ in range(jobs):
            free.put(stack.enter_context(Server()))
        for done in as_completed([pool.submit(chunk, seeds[i : i + CHUNK]) for i in range(0, len(seeds), CHUNK)]):
            yield from done.result()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drawn", description=__doc__)
    parser.add_argument("--seeds", type=seeds, default=[], help="A..B (B not included), or one")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--only", action="append", default=[], choices=list(CHECKS), help="checks; all without")
    parser.add_argument("--show", type=int, help="print the program of a seed")
    parser.add_argument("--shrink", type=int, help="print the least program that still fails, of a seed")
    parser.add_argument("--quick", action="store_true", help="the checks that tests have time for")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/trust.md")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    only = tuple(given.only)
    if given.serve:
        serve()
        return 0
    if given.show is not None:
        from tests.drawn.draw import draw

        print(draw(given.show).text())
        return 0
    if given.shrink is not None:
        from tests.drawn.shrink import shrunk

        print(shrunk(given.shrink, only))
        return 0
    if not given.seeds:
        parser.error("give --seeds, --show or --shrink")
    findings = Findings()
    begin = time.monotonic()
    try:
        for outcome in outcomes(given.seeds, only, given.quick, given.jobs):
            findings.add(outcome)
            if outcome.is_wrong:
                print(f"{outcome.seed} {outcome.check} {outcome.kind}: {outcome.says}", flush=True)
            if sys.stderr.isatty():
                print(f"{len(findings.seeds)} of {len(given.seeds)}", end="\r", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"stopped after {len(findings.seeds)} of {len(given.seeds)} seeds")
    print(f"{(time.monotonic() - begin) / max(len(findings.seeds), 1):.2f} s for a seed")
    print(findings)
    if given.record:
        record("drawn models", f"python -m tests.drawn {' '.join(sys.argv[1:])}", findings.figures)
    return not findings.is_good


if __name__ == "__main__":
    sys.exit(main())
