"""Both example plugins from their own folders, beside plugins that are broken in every way.

pip installs all of them, into a folder of their own: where the suite runs, no plugin shall be broken.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins import BROKEN, another_api, hanging, package

pytest.importorskip("onnxruntime", reason="one of the plugins is for it")
pytest.importorskip("numba", reason="one of the plugins is in it")
pytest.importorskip("hatchling", reason="it builds the plugins")

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = [EXAMPLES / "qcore-numba", EXAMPLES / "qcore-onnxruntime"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    sources = {"broken": BROKEN, "tomorrow": another_api("tomorrow"), "hanging": hanging("hanging")}
    vendors = tmp_path_factory.mktemp("vendors")
    folders = [*FOLDERS, *(package(vendors, name, source) for name, source in sources.items())]
    how = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", str(site)]
    pip = [sys.executable, "-m", "pip", "install", *how, *map(str, folders)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
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
        assert listed[name]["available"] and listed[name]["distribution"] == f"torch-qcore-{name}", listed[name]
    reasons = {
        "broken": "No module named 'no_such_driver'",
        "tomorrow": r"version 99\.0 of the plugin contract",
        "hanging": "did not end within 5 s",
    }
    for name, reason in reasons.items():
        assert listed[name]["distribution"] == f"fake-{name}"
        assert not listed[name]["available"] and re.search(reason, listed[name]["reason"])
    assert "torch-qcore" in listed["tomorrow"]["cure"]
    assert found["auto"]["name"] not in (*reasons, "onnxruntime")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_passes_its_own_tests_beside_them(environment, folder):
    quick = ["-k", "plain or graphs or misuse"]  # their whole kits are in the suite itself
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", os.devnull]
    done = python(environment, "-m", "pytest", *options, f"--rootdir={folder}", str(folder / "tests"), *quick)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100
