"""The ARM kernels, really run: on emulated CPUs with each instruction set, and against what the x86 backend gave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qcore

HERE = Path(__file__).parent
ISAS = ["neon_i8mm", "neon_dot", "neon"]
ARMV8_0 = "cortex-a53"
FOUND = {"max,sme=off": ISAS, "cortex-a76": ISAS[1:], "a64fx": ISAS[2:], ARMV8_0: ISAS[2:]}
"""Emulated CPU -> the instruction sets it has."""
PART = ["--quick", "-k", "linear or conv"]
"""of the kit"""


@pytest.mark.parametrize("cpu", FOUND)
def test_the_module_finds_what_a_cpu_has_and_its_kernels_run_there(machine, cpu):
    assert machine.python(HERE / "dispatch.py", machine.module, cpu=cpu).split() == FOUND[cpu]


@pytest.mark.parametrize("isa", ISAS)
def test_conformance(machine, isa):
    """With QCORE_ARM_WHOLE the kit: whole on the best instruction set, quick on the others. Else a part on the best."""
    selection = [] if isa == ISAS[0] else ["--quick"]
    if "QCORE_ARM_WHOLE" not in os.environ:
        if selection:
            pytest.skip("the kit on all instruction sets takes long: tox run -e qnnpack_arm, or set QCORE_ARM_WHOLE=1")
        selection = PART
    machine.python("-m", "qcore", "conformance", "qnnpack_arm", *selection, timeout=5400, QCORE_FORCE_ISA=isa)


def test_conformance_on_the_oldest_cpu(machine):
    if not os.environ.get("QCORE_ARM_TORCH", "").startswith("2.9."):
        pytest.skip("torch after 2.9 needs more than ARMv8.0: tox run -e oldest_arm, or set QCORE_ARM_TORCH=2.9.1")
    machine.python("-m", "qcore", "conformance", "qnnpack_arm", *PART, cpu=ARMV8_0, timeout=1800)


@pytest.fixture(scope="module")
def made_here(tmp_path_factory):
    """The models, converted and run on this machine's best backend."""
    if not qcore.registry.status("fbgemm_x86").usable:
        pytest.skip("the models are made by fbgemm_x86, which cannot run here")
    folder = tmp_path_factory.mktemp("across")
    subprocess.run([sys.executable, HERE / "across.py", "make", "fbgemm_x86", folder], check=True, timeout=300)
    return folder


def test_models_from_x86_give_the_same_bits(machine, made_here):
    said = machine.python(HERE / "across.py", "compare", "qnnpack_arm", made_here, *ISAS)
    assert said.count(" numbers compared, 0 results differ") == len(ISAS)
    assert min(int(line.split()[1]) for line in said.splitlines()) > 50_000
