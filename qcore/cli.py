"""The command line: the installed backends, what each can do, whether it keeps to the spec; what modules become."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from qcore.capability import OpSpec
from qcore.errors import ArgumentError, BackendError, QcoreError
from qcore.registry import Status, registry


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 2 for an error of ours, which is printed without a traceback."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "conformance":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if options.command == "conformance":
            return _conformance(options, rest)
        if options.command == "catalog":
            return _catalog()
        if options.command == "new-backend":
            return _new_backend(options.name, options.parent)
        if options.command == "explain":
            return _explain(options.model, options.backend, options.fallback)
        return _backends(options.verbose, options.json)
    except QcoreError as error:
        print(f"qcore: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `qcore catalog | head`: nobody reads the rest, nor what Python flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qcore", description="int8 inference for PyTorch, with hardware as plugins")
    commands = parser.add_subparsers(dest="command", required=True)
    backends = commands.add_parser("backends", help="list the installed backends, best first")
    backends.add_argument("-v", "--verbose", action="store_true", help="also what each declares, and tracebacks")
    backends.add_argument("--json", action="store_true", help="all of it as JSON")
    new = commands.add_parser("new-backend", help="write the package of a new backend, which passes the kit as it is")
    new.add_argument("name", help="its name: a lower-case identifier")
    new.add_argument("--parent", type=Path, default=Path(), help="where to put its folder (default: here)")
    explain = commands.add_parser("explain", help="say node by node who would run a model, and why")
    explain.add_argument("model", help="module:callable that returns a model or (model, inputs), or a saved model")
    explain.add_argument("--backend", help="a name, or several by commas in order of preference (default: auto)")
    explain.add_argument("--fallback", help="who runs the rest: a name, or 'error' for nobody")
    commands.add_parser("catalog", help="list the modules that can be quantized, and what each becomes")
    conformance = commands.add_parser(
        "conformance",
        help="run the conformance kit on a backend",
        epilog="Further arguments go to pytest, such as -x or -k linear.",
    )
    conformance.add_argument("name", help="the backend, as `qcore backends` lists it")
    conformance.add_argument("--quick", action="store_true", help="fewer of the written cases, none drawn at random")
    conformance.add_argument("--json", type=Path, metavar="FILE", help="also write what was found as JSON")
    conformance.add_argument(
        "--known", type=Path, metavar="FILE", help="a file of checks known to fail; an entry that is stale fails"
    )
    return parser


def _backends(verbose: bool, as_json: bool) -> int:
    statuses = registry.statuses()
    if as_json:
        print(json.dumps({"auto": _auto(), "backends": [_record(status) for status in statuses]}, indent=2))
        return 0
    auto = _auto()
    console = _console()
    _show(
        console,
        ("backend", "version", "priority", "here", "about", "package"),
        (_summary(status, auto.get("name")) for status in statuses),
    )
    for status in statuses:
        if not status.usable and status.availability.cure:
            _say(console, f"{status.name}: {status.availability.cure}")
    _say(console, "", f"auto takes {auto['name']}: {auto['reason']}" if "name" in auto else f"auto: {auto['error']}")
    if verbose:
        for status in statuses:
            _say(console, "", *_details(status))
            if status.backend is not None and status.backend.capability().ops:
                _show(console, ("operator", *_COLUMNS), map(_row, status.backend.capability().ops))
                patterns = [str(pattern) for pattern in status.backend.capability().patterns]
                _say(console, f"patterns: {', '.join(patterns) or 'none'}")
    return 0


def _catalog() -> int:
    from qcore.nn.catalog import COLUMNS, rows

    _show(_console(), COLUMNS, rows())
    return 0


def _new_backend(name: str, parent: Path) -> int:
    from qcore.scaffold import new_backend

    if name in registry.names():
        raise ArgumentError(f"a backend named {name!r} is installed already; choose another name")
    folder = new_backend(name, parent)
    print(f"wrote {folder}; its README.md says how to install and test it")
    return 0


def _explain(where: str, backend: str | None, fallback: str | None) -> int:
    from qcore import explain

    model, inputs = explain.load_model(where)
    report = explain.explained(model, inputs, backend, fallback)
    _show(_console(), explain.COLUMNS, explain.lines(report))
    counts = f"{len(report.quantized_rows)} quantized, {len(report.fallback_rows)} of them by a fallback"
    _say(_console(), "", f"backend {report.backend}: {counts}; {len(report.float_rows)} left float")
    if report.why_backend:
        _say(_console(), report.why_backend)
    return 0


def _conformance(options: argparse.Namespace, rest: list[str]) -> int:
    name = options.name
    if name not in registry.names():
        registry.get(name)
    missing = [package for package in ("pytest", "hypothesis") if find_spec(package) is None]
    if missing:
        raise BackendError(
            f"the conformance kit needs {' and '.join(missing)}, which is missing here: "
            "pip install 'torch-qcore[conformance]'"
        )
    status = registry.status(name)
    if status.backend is None:  # a selection of checks would not show it
        print(f"{name} could not be loaded, and so not be checked: {status.availability.reason}", file=sys.stderr)
    import pytest

    from qcore.conformance.record import Record

    os.environ["QCORE_CONFORMANCE_BACKEND"] = name
    os.environ["QCORE_CONFORMANCE_QUICK"] = "1" if options.quick else ""
    os.environ["QCORE_CONFORMANCE_KNOWN"] = str(options.known.resolve()) if options.known else ""
    selected = Path(__file__).parent / "conformance" / "selected.py"
    outcome = int(
        pytest.main(
            [
                str(selected),
                "--import-mode=importlib",
                f"--config-file={os.devnull}",
                f"--rootdir={selected.parent}",
                "-pno:cacheprovider",
                "-rs",
                "-q",
                *rest,
            ],
            plugins=[Record(options.json, name)] if options.json else [],
        )
    )
    return outcome or int(status.backend is None)


def _auto() -> dict[str, str]:
    try:
        choice = registry.choose("auto")
    except QcoreError as error:
        return {"error": str(error)}
    return {"name": choice.backend.name, "reason": choice.reason}


def _summary(status: Status, auto: str | None) -> tuple[str, ...]:
    backend, availability = status.backend, status.availability
    if backend is None and status.extension is not None:
        return (status.name, "", "", "", f"extends {status.extension.extends}", status.distribution)
    if backend is None:
        return (status.name, "?", "?", "broken", availability.reason, status.distribution)
    return (
        f"{status.name} (auto)" if status.name == auto else status.name,
        backend.version,
        str(backend.priority),
        "yes" if availability.ok else "no",
        "; ".join(filter(None, (backend.summary, availability.detail if availability.ok else availability.reason))),
        status.distribution,
    )


def _details(status: Status) -> list[str]:
    lines = []
    if status.backend is not None:
        major, minor = status.backend.api_version
        fallback = ", runs what others don't declare" if status.backend.fallback else ""
        lines.append(f"{status.name} {status.backend.version}, for plugin contract {major}.{minor}{fallback}")
    if status.extension is not None:
        patterns = ", ".join(map(str, status.extension.patterns)) or "none"
        presets = ", ".join(sorted(status.extension.qconfigs)) or "none"
        lines.append(f"{status.name} extends {status.extension.extends}: patterns {patterns}; presets {presets}")
    return lines or [f"{status.name}: {status.availability.reason}", status.traceback.rstrip()]


def _record(status: Status) -> dict[str, Any]:
    availability = status.availability
    record: dict[str, Any] = {
        "name": status.name,
        "distribution": status.distribution,
        "loaded": status.backend is not None or status.extension is not None,
        "available": status.usable,
        "reason": availability.reason,
        "cure": availability.cure,
        "detail": availability.detail,
        "traceback": status.traceback,
    }
    if status.extension is not None:
        record |= {"extends": status.extension.extends, "presets": sorted(status.extension.qconfigs)}
    if status.backend is not None:
        capability = status.backend.capability()
        record |= {
            "version": status.backend.version,
            "summary": status.backend.summary,
            "api_version": list(status.backend.api_version),
            "priority": status.backend.priority,
            "fallback": status.backend.fallback,
            "operators": [{"operator": spec.operator.name, **_declared(spec)} for spec in capability.ops],
            "patterns": [str(pattern) for pattern in capability.patterns],
        }
    return record


_COLUMNS = ("activations", "weights", "fused", "spatial", "functions", "options", "limits", "exact to")


def _declared(spec: OpSpec) -> dict[str, list[str]]:
    return {
        "activations": [dtype.name for dtype in spec.activations],
        "weights": [str(weight) for weight in spec.weights],
        "fused": list(spec.fused),
        "spatial": [f"{rank}d" for rank in spec.spatial],
        "functions": list(spec.functions),
        "options": list(spec.options),
        "limits": [f"{limit.extent} <= {limit.high} ({limit.reason})" for limit in spec.limits],
        "exact to": [f"{spec.steps} steps"] if spec.steps else [],
    }


def _row(spec: OpSpec) -> tuple[str, ...]:
    declared = _declared(spec)
    return (spec.operator.name, *(", ".join(declared[column]) for column in _COLUMNS))


def _console() -> Console:
    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, markup=False, highlight=False, width=None if terminal else 10_000)


def _show(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: with lines on a terminal, plain columns elsewhere; columns without an entry are left out."""
    rows = [tuple(row) for row in rows]
    kept = [index for index, _ in enumerate(columns) if index == 0 or any(row[index] for row in rows)]
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, expand=False)
    for index in kept:
        table.add_column(columns[index], overflow="fold")
    for row in rows:
        table.add_row(*(row[index] for index in kept))
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)
