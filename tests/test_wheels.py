"""The wheels that cibuildwheel would build are those that CONTRIBUTING.md names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cibuildwheel", reason="cibuildwheel is not installed (it takes Python 3.11)")

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["cp310", "cp311", "cp312", "cp313"]
PLATFORMS = {
    "fbgemm_x86": {"linux": ["manylinux_x86_64"], "macos": [], "windows": []},
    "qnnpack_arm": {"linux": ["manylinux_aarch64"], "macos": ["macosx_arm64"], "windows": []},
}


@pytest.mark.parametrize("system", ["linux", "macos", "windows"])
@pytest.mark.parametrize("backend", PLATFORMS)
def test_what_is_built_where(backend, system):
    command = ["-m", "cibuildwheel", "--print-build-identifiers", "--platform", system, ROOT / "backends" / backend]
    said = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == [
        f"{python}-{platform}" for platform in PLATFORMS[backend][system] for python in PYTHONS
    ]
