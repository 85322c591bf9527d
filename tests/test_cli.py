"""The commands: what they print, on which stream, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import qcore
from qcore.cli import main
from qcore.registry import Registry
from tests.plugins import good, install


def run(*arguments: str, path: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a folder of plugins in front of those installed."""
    paths = [path, os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "qcore", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """A folder with a right, an unavailable and a broken backend."""
    folder = tmp_path_factory.mktemp("plugins")
    install(folder, "aright", good("aright", priority=1000))
    install(folder, "absent", good("absent", ok=False, reason="no chip found", cure="Plug it in."))
    install(folder, "broken", "def connect():\n    raise ValueError('bad wheel')\nconnect()")
    return str(folder)


@pytest.fixture(scope="module")
def listed(plugins):
    return run("backends", path=plugins)


@pytest.fixture(scope="module")
def verbose(plugins):
    return run("backends", "-v", path=plugins)


@pytest.fixture(scope="module")
def record(plugins):
    return json.loads(run("backends", "--json", path=plugins).stdout)


def test_backends_lists_best_first_with_reason_and_cure(listed):
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert lines[0].split() == ["backend", "version", "priority", "here", "about", "package"]
    assert lines[1].startswith("aright (auto)")
    assert any(line.startswith("absent ") and " no " in line and "no chip found" in line for line in lines)
    assert any(line.startswith("broken ") and "ValueError: bad wheel" in line for line in lines)
    assert "absent: Plug it in." in lines
    assert "broken: Reinstall or remove fake-broken." in lines


def test_backends_says_what_auto_takes_and_why(listed):
    assert "auto takes aright: highest priority (1000)" in listed.stdout
    assert "absent (no chip found)" in listed.stdout


def test_backends_has_no_trace_of_a_terminal_in_a_pipe(listed):
    assert "\x1b" not in listed.stdout
    assert listed.stdout.isascii()
    assert all(line == line.rstrip() for line in listed.stdout.splitlines())


def test_tracebacks_are_shown_with_verbose_only(listed, verbose):
    assert "in connect" not in listed.stdout
    assert "in connect" in verbose.stdout
    assert "fake_broken.py" in verbose.stdout


def test_verbose_shows_what_each_declares(verbose):
    assert "reference" in verbose.stdout
    [row] = [line for line in verbose.stdout.splitlines() if line.startswith("conv ")][:1]
    assert "quint8" in row
    assert "qint8 per channel" in row
    assert "1d, 2d, 3d" in row
    assert "Conv2d > BatchNorm2d > ReLU" in verbose.stdout


def test_json_has_everything(record):
    assert record["auto"]["name"] == "aright"
    found = {item["name"]: item for item in record["backends"]}
    assert record["backends"][0]["name"] == "aright"
    assert found["aright"]["priority"] == 1000
    assert found["aright"]["api_version"] == list(qcore.API_VERSION)
    assert (found["absent"]["loaded"], found["absent"]["available"]) == (True, False)
    assert (found["absent"]["reason"], found["absent"]["cure"]) == ("no chip found", "Plug it in.")
    assert not found["broken"]["loaded"]
    assert "in connect" in found["broken"]["traceback"]
    linear = next(op for op in found["reference"]["operators"] if op["operator"] == "linear")
    assert linear["fused"] == ["relu"]
    assert linear["limits"][0].startswith("in_features <= ")


def test_backends_says_what_to_install_when_there_is_none(monkeypatch, capsys):
    empty = Registry()
    monkeypatch.setattr(empty, "_found", dict)
    monkeypatch.setattr("qcore.cli.registry", empty)
    assert main(["backends"]) == 0
    assert "auto: no qcore backend is installed" in capsys.readouterr().out


def test_conformance_of_a_missing_backend_is_one_message_and_exit_code_2(capsys):
    assert main(["conformance", "refrence"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("qcore: backend 'refrence' is not installed")
    assert "Did you mean 'reference'?" in printed.err
    assert "Traceback" not in printed.err


def test_conformance_without_pytest_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr("qcore.cli.find_spec", lambda name: None)
    assert main(["conformance", "reference"]) == 2
    assert "pip install 'torch-qcore[conformance]'" in capsys.readouterr().err


def test_conformance_runs_the_kit_from_anywhere_and_passes_arguments_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "qcore", "conformance", "reference", "--quick", "-k", "linear-quint8"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "no shapes are to be drawn" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_conformance_fails_for_a_broken_backend_and_shows_its_traceback(plugins):
    done = run("conformance", "broken", path=plugins)
    assert done.returncode == 1
    assert "in connect" in done.stdout
    assert "ValueError: bad wheel" in done.stdout
    selected = run("conformance", "broken", "-k", "linear", path=plugins)
    assert selected.returncode != 0
    assert "broken could not be loaded, and so not be checked: loading raised ValueError: bad wheel" in selected.stderr


def test_unknown_arguments_of_other_commands_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["backends", "--jsn"])
    assert caught.value.code == 2
    assert "--jsn" in capsys.readouterr().err


def test_catalog_lists_what_modules_become(plugins):
    done = run("catalog", path=plugins)
    assert done.returncode == 0
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["float", "prepared", "static", "dynamic", "QAT", "operator"]
    assert any(row.split() == ["torch.nn.ReLU6", "qcore.nn.quantized.ReLU6", "clamp"] for row in rows)
