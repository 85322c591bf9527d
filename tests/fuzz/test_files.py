"""The fuzzer of files, for some seconds; long runs: `python -m tests.fuzz.files`."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.files import KINDS, run
from tests.fuzz.spoil_files import MARK
from tests.fuzz.watch import Watch

pytest.importorskip("qcore_reference", reason="somebody has to run the models")


@pytest.mark.parametrize("kind", KINDS)
def test_no_spoiled_file_does_more_than_load_or_be_refused(kind):
    found = run(kind, 10**6, random.Random().randrange(10**9), seconds=6)
    assert not found["problems"], found["problems"]
    assert found["runs"] > 20


def test_the_watch_sees_code_that_runs(tmp_path):
    watch = Watch(may_write=str(tmp_path / "allowed"))
    watch.on = True
    with pytest.raises(ImportError):
        __import__(MARK)
    (tmp_path / "other").write_text("")
    (tmp_path / "allowed").write_text("")
    watch.on = False
    assert len(watch.seen) == 2
    assert watch.seen[0] == f"import {MARK}"
    assert "other" in watch.seen[1]
