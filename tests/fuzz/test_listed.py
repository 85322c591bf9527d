"""The fuzzer of what a file's graph may call, for some seconds; long runs: `python -m tests.fuzz.listed`."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from qcore.fx.callables import functions, methods
from qcore.fx.patterns import CALLS
from tests.fuzz.listed import names
from tests.native.guarded import with_fence

_SEES = """
from qcore.fx.callables import functions
from tests.fuzz.listed import run_all
import torch
functions().update({"torch.empty_like": torch.empty_like, "torch.empty_strided": torch.empty_strided})
functions()["torch.as_strided"] = torch.as_strided
print(sorted(run_all(["torch.add", "torch.as_strided", "torch.empty_like"], 80, 0)["problems"]))
"""


def _run(command, folder):
    environment = with_fence(folder)
    if "LD_PRELOAD" not in environment:
        pytest.skip("no C compiler to fence memory with")
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


def test_nothing_on_the_list_goes_past_its_arguments(tmp_path):
    seed, wanted = random.randrange(10**6), random.sample(names(), 25)
    done = _run(["-m", "tests.fuzz.listed", "--runs", "20", "--seed", str(seed), "--only", *wanted], tmp_path)
    found = json.loads(done.stdout)
    assert not found["problems"], found["problems"]
    assert found["counts"]["ran"] > 30, found["counts"]


def test_it_sees_what_does(tmp_path):
    done = _run(["-c", _SEES], tmp_path)
    assert done.stdout.splitlines()[-1:] == ["['torch.as_strided', 'torch.empty_like']"], done.stdout + done.stderr


def test_what_rules_quantize_is_on_the_list():
    listed = {*functions().values(), *methods()}
    assert {target for target in CALLS if target not in listed} <= {"__matmul__", "hardsigmoid", "hardsigmoid_"}
