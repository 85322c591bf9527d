"""What a run of the kit leaves behind as data, and what it makes of known failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from qcore.conformance.suite import names
from tests.plugins import install

pytest.importorskip("qcore_reference", reason="the backend stands on the reference's kernels")

WRONG = '''
import qcore
from qcore.operators import Clamp

class Wrong(qcore.Backend):
    """Wrong without a lower bound."""

    name = "wrong"
    version = "1.5"
    api_version = (1, 0)

    def probe(self):
        return qcore.Availability(True, detail="a chip")

    def capability(self):
        return qcore.Capability((qcore.OpSpec(Clamp),))

    def build(self, operator):
        kernel = qcore.registry.get("reference").build(operator)
        return lambda x, qx: kernel(x, qx) ^ (operator.low is None)

@qcore.hookimpl
def qcore_backend():
    return Wrong()
'''


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Runs the kit on the wrong backend: (exit code, what it printed, the record), given lines of known failures."""
    folder = tmp_path_factory.mktemp("wrong")
    install(folder, "wrong", WRONG)

    def run(*known: str):
        (folder / "known.txt").write_text("\n".join(known))
        command = [sys.executable, "-m", "qcore", "conformance", "wrong", "--quick", "-k", "not misuse"]
        done = subprocess.run(
            [*command, "--known", str(folder / "known.txt"), "--json", str(folder / "found.json")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, json.loads((folder / "found.json").read_text())

    return run


@pytest.fixture(scope="module")
def found(kit):
    return kit("# nothing is known")


def test_the_record_has_backend_counts_and_what_did_not_pass(found):
    code, _, record = found
    assert code == 1
    assert (record["backend"], record["version"], record["detail"]) == ("wrong", "1.5", "a chip")
    failed = [item for item in record["not_passed"] if item["outcome"] == "failed"]
    assert failed and record["counts"]["failed"] == len(failed) == record["kinds"]["test_written"]["failed"]
    assert all("elements differ; the first is" in item["message"] for item in failed)
    assert record["counts"]["passed"] == sum(kind.get("passed", 0) for kind in record["kinds"].values()) > len(failed)
    skipped = next(item for item in record["not_passed"] if item["check"] == "test_operator[add]")
    assert (skipped["outcome"], skipped["message"]) == ("skipped", "not declared")


def test_known_failures_may_fail(kit, found):
    failed = [item["check"] for item in found[2]["not_passed"] if item["outcome"] == "failed"]
    code, told, record = kit(*(f"{check}  # the chip wraps around" for check in failed))
    assert code == 0, told
    assert record["counts"]["known failure"] == len(failed) and "failed" not in record["counts"]


def test_a_known_failure_that_passes_and_one_that_names_no_check_are_stale(kit, found):
    failed = [item["check"] for item in found[2]["not_passed"] if item["outcome"] == "failed"]
    code, _, record = kit(*failed, "test_loads", "test_written[clamp-of-yesterday]")
    assert code == 1
    told = {item["check"]: item["message"] for item in record["not_passed"] if item["outcome"] == "failed"}
    assert told.keys() == {"test_loads", "test_known_failures"}
    assert "it passes, so it is no known failure any more" in told["test_loads"]
    assert "names checks that there are not: test_written[clamp-of-yesterday]" in told["test_known_failures"]


def test_names_are_those_that_pytest_gives(found):
    record = found[2]
    quick = {name.partition("[")[0] for name in names("reference", quick=True)}
    assert set(record["kinds"]) - quick <= {"test_graphs"}  # skipped: it compiles none
