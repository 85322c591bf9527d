"""Bad arguments are tried in another process: a crash is told for its own check, and the checks after it still run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.plugins import install

pytest.importorskip("qcore_reference", reason="the backend stands on the reference's kernels")

CRASHING = """
import os
import qcore
from qcore.operators import Mul

class Crashing(qcore.Backend):
    name = "crashing"
    version = "1.0"

    def probe(self):
        return qcore.Availability(True)

    def capability(self):
        return qcore.Capability((qcore.OpSpec(Mul),))

    def build(self, operator):
        kernel = qcore.registry.get("reference").build(operator)

        def mul(a, qa, b, qb, out):
            if a.is_meta:
                os.abort()
            if out is not None and out.scale == 0.0:
                return a
            return kernel(a, qa, b, qb, out)

        return mul

@qcore.hookimpl
def qcore_backend():
    return Crashing()
"""


def test_a_crash_and_an_accepted_argument_are_each_found_and_nothing_else(tmp_path):
    install(tmp_path, "crashing", CRASHING)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "qcore", "conformance", "crashing", "--quick", "-k", "misuse"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mul-argument_0_meta: crashed the process (exit -6)" in done.stdout
    assert "mul-argument_4_scale_0.0: gave a result; it must raise" in done.stdout
    assert "2 failed" in done.stdout
