"""The kit rejects each wrong backend for its own fault and nothing else, and accepts the right one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("qcore_reference", reason="the wrong backends stand on the reference's kernels")

from tests.conformance.wrong_kernels import ALL

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """For each wrong backend: what each test of the kit said against it, and how many passed."""
    report = tmp_path_factory.mktemp("kit") / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        + [str(HERE / "judge_wrong_backends.py")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    failures: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    passed: dict[str, int] = defaultdict(int)
    for case in ElementTree.parse(report).iter("testcase"):
        backend = case.attrib["classname"].rpartition(".Test")[2]
        test = case.attrib["name"].partition("[")[0]
        problems = [item for item in case if item.tag in ("failure", "error")]
        for item in problems:
            failures[backend][test].append(item.text or "")
        passed[backend] += not problems and case.find("skipped") is None
    return failures, passed


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_each_is_judged_for_its_own_fault(verdicts, kind):
    tests, message = ALL[kind]
    failures, passed = verdicts
    found = failures[kind.__name__]
    assert tests <= set(found) <= tests | ({"test_drawn"} if "test_written" in tests else set())
    assert passed[kind.__name__] or tests == {"test_loads"}
    if message:
        texts = [text for items in found.values() for text in items]
        assert any(re.search(message, text, re.DOTALL) for text in texts), texts[0]


def test_a_failure_names_operator_attributes_parameters_and_the_first_element(verdicts):
    failures, _ = verdicts
    text = failures["OffByOne"]["test_written"][0]
    for part in ("operator: linear", "weight: torch.int8 (", "qweight: qcore.qint8, scale", "argument 1: qcore.quint8"):
        assert part in text
    assert re.search(r"the first is \[.*\]: got \d+, expected \d+, from the exact sum -?\d+", text)
