"""A few thousand calls of the fuzzer: the same ones each time, counted, not timed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.fuzz.calls import fuzz
from tests.fuzz.subject import Subject

SEED, RUNS = 1, 1500
OPEN = [
    re.compile(line.partition("\t")[0])
    for line in (Path(__file__).parent / "open_calls.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_calls():
    home = os.getcwd()
    subject = Subject(SEED)
    try:
        _, found = fuzz(subject, range(RUNS))
    finally:
        os.chdir(home)
        subject.close()
    new = [finding for finding in found if not any(each.search(str(finding)) for each in OPEN)]
    assert not new, "\n".join(f"--seed {SEED} --replay {found[each][0].number}: {each}" for each in new)
