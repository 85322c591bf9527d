"""The emulated ARM machine of tools/arm, which tests start programs on."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ARM = ROOT / "tools/arm"
SKIPPED = 77  # what tools/arm exits with where something it needs is missing
CPU = "max,sme=off"


class Machine:
    """Runs Python on an emulated CPU. `module`: the compiled module of the backend there."""

    def __init__(self):
        (self.module,) = (ROOT / ".cache/arm/qcore/qcore_qnnpack_arm").glob("_native*.so")

    def start(self, *arguments, cpu=CPU, **environment):
        """A process of it, with environment variables."""
        variables = os.environ | {"QEMU_CPU": cpu} | environment
        command = [ARM / "python", *arguments]
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def python(self, *arguments, **options):
        """What it says to its end; the test fails where it fails."""
        return self.said_by(self.start(*arguments, **options), timeout=900)

    @staticmethod
    def said_by(process, timeout):
        """What a process said, once it has ended; the test fails where it did."""
        try:
            said, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0, f"exit {process.returncode}\n{said[-5000:]}\n{errors[-3000:]}"
        return said


@pytest.fixture(scope="session")
def machine():
    if "QCORE_ARM" not in os.environ:
        pytest.skip("emulated CPUs take many minutes: tox run -e qnnpack_arm, or set QCORE_ARM=1")
    if not ARM.is_dir():
        pytest.skip("the emulated ARM machine is set up by tools/arm of a checkout")
    done = subprocess.run([ARM / "install"], capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(done.stderr.strip().rpartition("\n")[2])
    assert done.returncode == 0, done.stderr[-5000:]
    return Machine()
