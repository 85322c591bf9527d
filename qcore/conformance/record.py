"""What a run of the kit found, as data: a pytest plugin for `qcore conformance --json`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from qcore.backend import API_VERSION
from qcore.registry import registry


class Record:
    """Writes one JSON file: the backend, counts by outcome for each kind of check, and all that did not pass.

    Outcomes are passed, failed, skipped and known failure.
    """

    def __init__(self, path: Path, backend: str) -> None:
        self._path = path
        self._backend = backend
        self._counts: dict[str, Counter[str]] = {}
        self._told: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one check; setup and teardown count only where they did not pass."""
        if report.when != "call" and report.passed:
            return
        known = report.skipped and hasattr(report, "wasxfail")
        outcome = "known failure" if known else report.outcome
        check = report.nodeid.partition("::")[2].partition("::")[2]
        self._counts.setdefault(check.partition("[")[0], Counter())[outcome] += 1
        if outcome != "passed":
            self._told.append({"check": check, "outcome": outcome, "message": _message(report)})

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        total: Counter[str] = sum(self._counts.values(), Counter())
        status = registry.status(self._backend)
        found: dict[str, Any] = {
            "backend": self._backend,
            "version": status.backend.version if status.backend else None,
            "api_version": list(API_VERSION),
            "detail": status.availability.detail,
            "counts": dict(total),
            "kinds": {name: dict(counts) for name, counts in self._counts.items()},
            "not_passed": self._told,
        }
        self._path.write_text(json.dumps(found, indent=2) + "\n")


def _message(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return report.longreprtext
