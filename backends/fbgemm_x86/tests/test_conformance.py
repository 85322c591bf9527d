"""fbgemm_x86 under the conformance kit: whole with the instruction set in force, quickly with each other one."""

import os
import subprocess
import sys

import qcore
from qcore.conformance import Conformance
from qcore.native.backend import FORCE


class TestConformance(Conformance):
    backend = "fbgemm_x86"


def test_conformance_on_the_instruction_set(isa):
    if isa == qcore.registry.status("fbgemm_x86").availability.detail:
        return  # it is judged above
    command = [sys.executable, "-m", "qcore", "conformance", "fbgemm_x86", "--quick"]
    done = subprocess.run(
        command, env=os.environ | {FORCE: isa}, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
