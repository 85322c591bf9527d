"""qcore needs nothing of what torch is deleting: the suite passes with all of it gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_importing_qcore_loads_nothing_of_the_legacy_stack_that_torch_does_not():
    code = """
import sys, torch
before = set(sys.modules)
import qcore
legacy = tuple("torch." + name for name in "ao quantization nn.quantized nn.qat nn.intrinsic nn.quantizable".split())
print([name for name in set(sys.modules) - before if name.startswith(legacy)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_suite_passes_with_the_legacy_stack_removed():
    command = [sys.executable, "-m", "pytest", "-p", "tests.without_legacy_torch", "-x", "tests"]
    ignored = ["core_alone", "docs", "conformance", "numerics", "test_free_of_legacy_torch.py", "test_structure.py"]
    ignored += ["test_scaffold.py"]  # its packages run in processes of their own
    ignored += ["cpp", "drawn", "fuzz", "native"]  # they run long, and on the same names as the rest
    ignored += ["onnx"]  # torch's exporter itself names the dtypes
    command += [f"--ignore=tests/{name}" for name in ignored]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "torch's legacy quantization: removed" in done.stdout
