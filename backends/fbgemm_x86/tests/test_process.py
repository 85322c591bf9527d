"""The backend in its process: forced instruction sets, threads, forks, packages without the compiled module."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, qint32, quint8
from qcore.tensor.qparams import per_tensor

PROBE = "import qcore; print(qcore.registry.status('fbgemm_x86').availability)"


def run(code, **environment):
    command = [sys.executable, "-c", code]
    environment = os.environ | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_forces_an_instruction_set(isa):
    assert f"ok=True, reason='', cure='', detail='{isa}'" in run(PROBE, QCORE_FORCE_ISA=isa)


def test_without_it_the_best_is_used(monkeypatch):
    monkeypatch.delenv("QCORE_FORCE_ISA", raising=False)
    assert FbgemmX86().probe().detail == FbgemmX86().supported_isas()[0]


def test_an_unknown_instruction_set_is_told():
    out = run(PROBE, QCORE_FORCE_ISA="neon")
    assert "ok=False" in out
    assert "QCORE_FORCE_ISA='neon' is not one of avx512_amx, avx512_vnni, avx_vnni, avx2, scalar" in out


def test_an_instruction_set_that_this_cpu_lacks_is_told(monkeypatch):
    monkeypatch.setattr(FbgemmX86, "supported_isas", lambda self: ["scalar"])
    monkeypatch.setenv("QCORE_FORCE_ISA", "avx2")
    availability = FbgemmX86().probe()
    assert not availability.ok
    assert "this CPU has no avx2" in availability.reason
    assert "scalar" in availability.cure


def test_without_the_compiled_module_the_reason_and_the_cure_are_told():
    block = "import sys; sys.modules['qcore_fbgemm_x86._native'] = None; "
    out = run(block + PROBE)
    assert "ok=False" in out
    assert "compiled module is missing" in out
    assert "pip install torch-qcore-fbgemm-x86" in out


def case():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-128, 128, (256, 128), dtype=torch.int8, generator=generator)
    x = torch.randint(0, 256, (300, 128), dtype=torch.uint8, generator=generator)
    qx, out = per_tensor(0.1, 3, quint8), per_tensor(20.0, 100, quint8)
    operator = ops.Linear(weight, per_tensor(0.1, 0, qint8))
    expected = qcore.registry.get("reference").build(operator)(x, qx, out)
    return FbgemmX86().build(operator), (x, qx, out), expected


def test_callers_on_several_threads():
    kernel, args, expected = case()
    wrong = []

    def call():
        for _ in range(100):
            if not torch.equal(kernel(*args), expected):
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_work_after_fork():
    kernel, args, expected = case()
    assert torch.equal(kernel(*args), expected)
    integers = expected.numpy()
    child = os.fork()
    if child == 0:  # torch's own parallel operators hang after a fork, so numpy compares
        os._exit(0 if all((kernel(*args).numpy() == integers).all() for _ in range(20)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_error_on_a_helper_thread_reaches_the_caller():
    weight = torch.ones(64, 64, dtype=torch.int8)
    kernel = FbgemmX86().build(ops.LinearDynamic(weight, per_tensor(1.0, 0, qint8), per_row=True))
    x = torch.zeros(2000, 64)
    x[-1, -1] = float("inf")
    for _ in range(20):
        with pytest.raises(qcore.ArgumentError, match="NaN or infinity"):
            kernel(x)
    assert torch.equal(kernel(torch.zeros(2000, 64)), torch.zeros(2000, 64))


def test_what_it_does_not_declare_is_refused_with_a_reason():
    backend = FbgemmX86()
    assert not backend.supports(ops.Add(), (qint32,))
    weight = torch.zeros(1, 40000, dtype=torch.int8)
    verdict = backend.supports(ops.Linear(weight, per_tensor(1.0, 0, qint8)))
    assert "in_features=40000 is over 33025" in verdict.reason
