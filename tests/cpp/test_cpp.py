"""The C++ tests of this folder, each a test here. What this CPU cannot run is skipped, and all without a compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ARM = HERE.parents[1] / "tools/arm"
NOT_RUN = 77  # what a program exits with where the CPU lacks its instruction set
PROGRAMS = sorted(path.stem for path in HERE.glob("test_*.cpp"))
NEON = [name for name in PROGRAMS if "neon" in name]


def tool(name):
    """cmake and ninja may be packages of this Python."""
    found = shutil.which(name, path=os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"])))
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


def build(folder, *options):
    """The programs, by name. The test fails where one does not compile."""
    # -O1: half of the time of -O2, which changes nothing that is tested here
    configure = [tool("cmake"), "-S", HERE, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    configure += ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", *options]
    for command in (configure, [tool("cmake"), "--build", folder]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return {path.name: path for path in folder.glob("test_*") if path.is_file()}


def run(program, *before):
    done = subprocess.run([*before, program], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == NOT_RUN:
        pytest.skip("this CPU lacks the instruction set")
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-5000:]}"
    assert " 0 failures" in done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))):
        pytest.skip("there is no C++ compiler on this machine")
    return build(tmp_path_factory.mktemp("cpp"))


@pytest.fixture(scope="module")
def arm_programs(tmp_path_factory):
    if "QCORE_ARM" not in os.environ:
        pytest.skip("emulated CPUs take minutes to set up: set QCORE_ARM=1")
    done = subprocess.run([ARM / "setup"], capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode == NOT_RUN:
        pytest.skip(done.stderr.strip().rpartition("\n")[2])
    assert done.returncode == 0, done.stderr[-5000:]
    return build(tmp_path_factory.mktemp("arm"), f"-DCMAKE_TOOLCHAIN_FILE={ARM / 'toolchain.cmake'}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(programs, name):
    if name not in programs:
        pytest.skip("it is for another kind of CPU")
    run(programs[name])


@pytest.mark.parametrize("name", NEON)
def test_on_an_emulated_cpu(arm_programs, name):
    run(arm_programs[name], ARM / "emulate")
