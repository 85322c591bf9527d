"""Everything in README and docs holds: examples run, tables are what the code says, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
README = (ROOT / "README.md").read_text()
GRAPH_MODE = (ROOT / "docs" / "graph-mode.md").read_text()
GUIDE = (ROOT / "docs" / "backend-guide.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_tables_are_what_the_code_says():
    """In a process of its own, where no other test has registered operators."""
    done = subprocess.run([sys.executable, "docs/tables.py", "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code", [*blocks("python"), *blocks("python", GRAPH_MODE)], ids=lambda code: code.strip().splitlines()[0]
)
def test_readme_examples_run(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_guides_examples_run_one_after_the_other():
    """Those of the tutorial, which are files of a package, are run in tests/test_scaffold.py."""
    code = "\n".join(block for block in blocks("python", GUIDE) if not block.startswith(("# src/", "# tests/")))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "clamp on tiny" in done.stdout and "mul on reference tiny: mul is not among its operators" in done.stdout


COMMANDS = [*blocks("sh"), *blocks("sh", GUIDE)]


@pytest.mark.parametrize(
    "line", [line for block in COMMANDS for line in block.splitlines() if line.startswith("qcore")]
)
def test_qcore_commands_run(line):
    program = Path(sys.executable).with_name("qcore")
    done = subprocess.run([program, *shlex.split(line, comments=True)[1:]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_readme_commands_are_those_of_ci():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "./dev demo" in README
    assert "./dev test" in README
    assert "./dev demo" in ci
    assert "./dev test" in ci


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing
