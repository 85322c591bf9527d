"""Tiny plugins for the tests, installed as packages are: a module and a .dist-info folder with an entry point."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

GOOD = """
import qcore

class Fake(qcore.Backend):
    name = "{name}"
    version = "1.0"
    summary = "a fake"
    priority = {priority}

    def probe(self):
        return qcore.Availability({ok}, {reason!r}, {cure!r})

    def capability(self):
        return qcore.Capability()

    def build(self, operator):
        raise qcore.UnsupportedError("nothing is declared")

@qcore.hookimpl
def qcore_backend():
    return Fake()
"""


def good(name: str, *, priority: int = 1, ok: bool = True, reason: str = "", cure: str = "") -> str:
    """The source of a plugin that keeps the contract."""
    return GOOD.format(name=name, priority=priority, ok=ok, reason=reason, cure=cure)


def install(folder: Path, name: str, source: str, *, distribution: str = "") -> None:
    """Put a distribution with one backend into a folder that is on sys.path."""
    distribution = distribution or f"fake-{name}"
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(dedent(source))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[qcore]\n{name} = {module}\n")


def package(folder: Path, name: str, source: str) -> Path:
    """A folder of its own for such a distribution, which pip installs; returns it."""
    folder = folder / f"fake-{name}"
    folder.mkdir()
    (folder / f"fake_{name}.py").write_text(dedent(source))
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name))
    return folder


PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "fake-{name}"
version = "1.0"

[project.entry-points.qcore]
{name} = "fake_{name}"

[tool.hatch.build.targets.wheel]
include = ["fake_{name}.py"]
"""


def another_api(name: str) -> str:
    """The source of a plugin for a version of the contract that is to come."""
    return good(name).replace('version = "1.0"', 'version = "1.0"\n    api_version = (99, 0)')


def hanging(name: str) -> str:
    """The source of a plugin whose probe waits for a driver that never answers."""
    return good(name).replace(
        "        return qcore.Availability", "        __import__('time').sleep(600)\n        return qcore.Availability"
    )


BROKEN = "import no_such_driver"
"""The source of a plugin that cannot be imported."""
