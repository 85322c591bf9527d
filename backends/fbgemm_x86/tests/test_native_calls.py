"""The native module called with what it cannot take: an exception, no signal, and nothing written around a tensor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("native_calls.py")


@pytest.mark.parametrize("seed", [0])
def test_spoiled_calls_end_in_exceptions(isa, seed, tmp_path):
    log = tmp_path / "last_call"
    command = [sys.executable, str(SCRIPT), isa, str(seed), "150", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"status {done.returncode} in {log.read_text()}\n{done.stderr}"


WITHOUT_THREADS = """
import ctypes, threading, torch
from qcore_fbgemm_x86.backend import FbgemmX86
import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import per_tensor

weight = torch.ones(64, 64, dtype=torch.int8)
kernel = FbgemmX86().build(ops.LinearDynamic(weight, per_tensor(1.0, 0, qint8), per_row=True))
x = torch.randn(2000, 64)
torch.set_num_threads(1)
expected = kernel(x)
libc, attributes = ctypes.CDLL(None), ctypes.create_string_buffer(64)
libc.pthread_attr_init(attributes)
assert libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(1 << 46)) == 0
assert libc.pthread_setattr_default_np(attributes) == 0
torch.set_num_threads(4)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no thread can be made")
found = kernel(x), kernel(x)
torch.set_num_threads(1)  # torch's own parallel operators end the process where they get no thread
print(all(torch.equal(each, expected) for each in found))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stacks beyond memory are asked for through glibc")
def test_where_no_thread_can_be_made_the_caller_works():
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THREADS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no thread can be made\nTrue\n"
