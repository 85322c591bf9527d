"""Both example plugins from their own folders, beside plugins that are broken in every way.

They are installed into a folder of their own: the suite's environment keeps to backends whose results are exact.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins import BROKEN, another_api, hanging, install

pytest.importorskip("onnxruntime", reason="one of the plugins is for it")
pytest.importorskip("numba", reason="one of the plugins is in it")
pytest.importorskip("hatchling", reason="it builds the plugins")

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = [EXAMPLES / "qcore-numba", EXAMPLES / "qcore-onnxruntime"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    how = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", str(site)]
    pip = [sys.executable, "-m", "pip", "install", *how, *map(str, FOLDERS)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    install(site, "broken", BROKEN)
    install(site, "tomorrow", another_api("tomorrow"))
    install(site, "hanging", hanging("hanging"))
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def python(environment, *arguments):
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=900)


def test_both_are_usable_and_each_broken_one_has_its_reason(environment):
    done = python(environment, "-m", "qcore", "backends", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    listed = {each["name"]: each for each in found["backends"]}
    for name in ("numba", "onnxruntime"):
        assert listed[name]["available"], listed[name]
    reasons = {
        "broken": "No module named 'no_such_driver'",
        "tomorrow": r"version 99\.0 of the plugin contract",
        "hanging": "did not end within 5 s",
    }
    for name, reason in reasons.items():
        assert not listed[name]["available"] and re.search(reason, listed[name]["reason"])
    assert found["auto"]["name"] not in (*reasons, "onnxruntime")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_passes_its_own_tests_beside_them(environment, folder):
    # the Numba one's whole kit is in the suite itself
    quick = ["-k", "plain or graphs or misuse"] if folder.name == "qcore-numba" else []
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", os.devnull]
    done = python(environment, "-m", "pytest", *options, f"--rootdir={folder}", str(folder / "tests"), *quick)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100
