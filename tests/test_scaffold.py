"""A generated backend installs, is listed, and passes the kit as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import qcore
from qcore.cli import main
from qcore.scaffold import new_backend

pytest.importorskip("scikit_build_core", reason="it builds the package")
pytest.importorskip("pybind11", reason="it binds the package's kernel")


GUIDE = Path(__file__).parent.parent / "docs" / "backend-guide.md"
OWN = "## An operator that qcore lacks"


class Installed(NamedTuple):
    """A generated package, and the environment in which it is installed."""

    folder: Path
    environment: dict[str, str]

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    parent = tmp_path_factory.mktemp("vendor")
    assert main(["new-backend", "my_npu", "--parent", str(parent)]) == 0
    folder, site = parent / "torch-qcore-my-npu", parent / "site"
    how = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", str(site)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *how, str(folder)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return Installed(folder, {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"})


def test_it_is_listed(installed):
    done = installed.python("-m", "qcore", "backends", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    listed = {each["name"]: each for each in found["backends"]}
    assert listed["my_npu"]["available"] and listed["my_npu"]["distribution"] == "torch-qcore-my-npu"
    assert [each["operator"] for each in listed["my_npu"]["operators"]] == ["clamp", "mul"]
    assert listed["my_npu"]["api_version"] == list(qcore.API_VERSION)


def test_it_passes_the_kit_by_its_own_test_file(installed):
    done = installed.python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100


MODEL = """
import torch
import qcore
from torch import nn

class Gate(nn.Module):
    def forward(self, x):
        return torch.clamp(x, -1, 1) * x

prepared = qcore.prepare(Gate().eval(), example_inputs=(torch.randn(4, 8),), backend="my_npu")
prepared(torch.randn(64, 8))
model, same = qcore.convert(prepared), torch.randn(4, 8)
print({row.operator: row.backend for row in model.qcore_report.quantized_rows})
other = qcore.lower_fx(qcore.convert_to_reference_fx(prepared), "reference")
assert torch.equal(model(same), other(same))
"""


def test_a_model_runs_on_it_with_the_bits_of_the_reference(installed):
    pytest.importorskip("qcore_reference", reason="it runs what the new backend lacks")
    done = installed.python("-W", "error", "-c", MODEL)
    assert done.returncode == 0, done.stderr
    assert "'mul': 'my_npu'" in done.stdout and "'clamp': 'my_npu'" in done.stdout


def follow(installed, part):
    """Do what a part of the guide says: write its files, or add to those that are there."""
    package = installed.folder.parent / "site" / "qcore_my_npu"
    for folder, name, code in re.findall(r"```python\n# (src/qcore_my_npu|tests)/(\w+\.py)\n(.*?)```", part, re.DOTALL):
        path = (installed.folder / "tests" if folder == "tests" else package) / name
        text = path.read_text() if path.exists() else ""
        after = re.search(r"^BUILDERS = .*\n", text, re.MULTILINE)
        place = after.end() if after else len(text)
        path.write_text(text[:place] + code + text[place:])


def test_the_guides_tutorial_leads_to_a_new_operator_that_passes(installed):
    pytest.importorskip("numba", reason="the tutorial's kernel is in Numba")
    follow(installed, GUIDE.read_text().partition(OWN)[0])
    done = installed.python("-W", "error", "-m", "qcore", "conformance", "my_npu", "-k", "add", "-x")
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 60


def test_an_operator_that_qcore_lacks_passes_by_the_cases_that_its_plugin_brings(installed):
    pytest.importorskip("qcore_reference", reason="it runs what the new backend lacks")
    follow(installed, GUIDE.read_text().partition(OWN)[2])
    report = installed.folder / "report.json"
    done = installed.python("-W", "error", "-m", "qcore", "conformance", "my_npu", "-k", "softsign", f"--json={report}")
    assert done.returncode == 0, done.stdout[-3000:]
    kinds = json.loads(report.read_text())["kinds"]
    assert {kind for kind, counts in kinds.items() if counts.get("passed")} == JUDGED
    assert kinds["test_misuse"]["passed"] > 10 and kinds["test_written"]["passed"] > 10
    model = installed.python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests/test_softsign.py")
    assert model.returncode == 0, model.stdout[-3000:]


JUDGED = {f"test_{kind}" for kind in ("operator", "supports", "written", "drawn", "threads", "misuse")}


@pytest.mark.parametrize("name", ["", "My_npu", "2fast", "my-npu", "my__npu", "../npu", "npu\n"])
def test_a_name_that_is_no_identifier_writes_nothing(tmp_path, name):
    with pytest.raises(qcore.ArgumentError, match="lower-case identifier"):
        new_backend(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_left_alone(tmp_path, capsys):
    new_backend("npu", tmp_path)
    (tmp_path / "torch-qcore-npu" / "README.md").write_text("mine")
    with pytest.raises(qcore.ArgumentError, match="is there already"):
        new_backend("npu", tmp_path)
    assert (tmp_path / "torch-qcore-npu" / "README.md").read_text() == "mine"
    name = qcore.registry.names()[0]
    assert main(["new-backend", name, "--parent", str(tmp_path)]) == 2
    assert "is installed already" in capsys.readouterr().err
