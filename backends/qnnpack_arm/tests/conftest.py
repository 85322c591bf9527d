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

    def python(self, *arguments, cpu=CPU, timeout=900, **environment):
        """What it says to its end, with environment variables; the test fails where it does."""
        variables = os.environ | {"QEMU_CPU": cpu} | environment
        done = subprocess.run(
            [ARM / "python", *arguments], env=variables, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-5000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def machine():
    if "QCORE_ARM" not in os.environ:
        pytest.skip("emulated CPUs take many minutes: tox run -e qnnpack_arm, or set QCORE_ARM=1")
    if not ARM.is_dir():
        pytest.skip("the emulated ARM machine is set up by tools/arm of a checkout")
    done = subprocess.run([ARM / "install"], capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(done.stderr.strip().rpartition("\n")[2])
    assert done.returncode == 0, f"tools/arm/install exits with {done.returncode}\n{done.stderr[-5000:]}"
    return Machine()
