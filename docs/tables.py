"""The tables in README and docs that come from what the code declares.

    python docs/tables.py           rewrite them        python docs/tables.py --check    exit 1 where one is stale

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import qcore
from qcore.capability import OpSpec
from qcore.conformance.suite import names
from qcore.nn.catalog import COLUMNS, rows
from qcore.operators import operators

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))
import compat_tables  # noqa: E402

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = ("reference", "fbgemm_x86", "qnnpack_arm")
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def kinds(spec: OpSpec | None) -> str:
    """What one backend declares for one operator, in a cell."""
    if spec is None:
        return ""
    parts = [", ".join(dtype.name for dtype in spec.activations) or "float32"]
    if spec.weights:
        parts.append("weights " + ", ".join(map(str, spec.weights)))
    if spec.spatial:
        parts.append("/".join(map(str, spec.spatial)) + "d")
    if spec.fused:
        parts.append("+ " + ", ".join(spec.fused))
    if spec.options:
        parts.append(", ".join(spec.options))
    return "; ".join(part for part in parts if part)


def backends_table() -> str:
    """Each of our backends: what it is for."""
    rows = []
    for name in OURS:
        backend = qcore.registry.status(name).backend
        assert backend is not None, name
        package = qcore.registry.status(name).distribution
        count = len(backend.capability().ops)
        rows.append([f"`{name}`", f"`{package}`", backend.summary, str(backend.priority), str(count)])
    return markdown(["backend", "package", "runs on", "priority", "operators"], rows)


def operators_table() -> str:
    """Each operator: what each backend declares for it."""
    found = [qcore.registry.status(name).backend for name in OURS[:2]]
    rows = [
        [f"`{name}`", *(kinds(backend.capability().find(operator)) for backend in found if backend)]
        for name, operator in operators().items()
    ]
    return markdown(["operator", *(f"`{name}`" for name in OURS[:2])], rows)


def catalog_table() -> str:
    """Each float module: what it becomes at each stage."""
    lines = [[f"`{cell}`" if cell else "" for cell in row] for row in rows()]
    return markdown(list(COLUMNS), lines)


def conformance_table() -> str:
    """How many checks the kit makes of what our backends declare, by kind."""
    kinds = {
        "written": "written cases",
        "drawn": "drawn cases",
        "threads": "threads",
        "misuse": "misuse",
        "limit": "limits",
        "graphs": "graphs",
        "supports": "supports",
    }
    lines = []
    for name in OURS[:2]:
        checks = [check.partition("[")[0].removeprefix("test_") for check in names(name)]
        counts = [checks.count(kind) for kind in kinds]
        rest = len(checks) - sum(counts)
        lines.append([f"`{name}`", *map(str, counts), str(rest), str(len(checks))])
    return markdown(["backend", *kinds.values(), "contract", "all"], lines)


def compat_table() -> str:
    """Names of torch's legacy stack: how many qcore.compat has."""
    return markdown(["names of", "public", "there", "refused"], compat_tables.counts())


def compat_refused_table() -> str:
    """Names that it has not, and what to use instead."""
    return markdown(["of", "names", "instead"], compat_tables.refused())


TABLES: dict[str, Callable[[], str]] = {
    "backends": backends_table,
    "catalog": catalog_table,
    "compat": compat_table,
    "compat_refused": compat_refused_table,
    "conformance": conformance_table,
    "operators": operators_table,
}


def rendered(text: str) -> str:
    """A document with all its tables made anew."""
    return BLOCK.sub(lambda match: match[1] + TABLES[match["name"]]() + match[3], text)


def stale() -> list[Path]:
    """Documents whose tables are not what the code says."""
    return [path for path in FILES if rendered(path.read_text()) != path.read_text()]


if __name__ == "__main__":
    behind = stale()
    if "--check" in sys.argv[1:]:
        sys.exit(
            "\n".join(f"stale tables: {path.relative_to(ROOT)}; run python docs/tables.py" for path in behind) or 0
        )
    for path in behind:
        path.write_text(rendered(path.read_text()))
