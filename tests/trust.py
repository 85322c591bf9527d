"""Where the commands that try qcore at length write what came of it: the table of docs/trust.md."""

from __future__ import annotations

import datetime
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "trust.md"
_BEGIN, _END = "<!-- runs -->\n", "<!-- end of runs -->\n"


def rows() -> list[list[str]]:
    """The cells of each row: what, command, day, figures."""
    table = DOCUMENT.read_text().partition(_BEGIN)[2].partition(_END)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def record(what: str, command: str, figures: str) -> None:
    """Write the row of one part, in place of the one that it had; `figures`: a sentence without a vertical bar."""
    found = {row[0]: row for row in rows()}
    found[what] = [what, f"`{command}`", datetime.date.today().isoformat(), figures]
    before, begin, rest = DOCUMENT.read_text().partition(_BEGIN)
    heading = "".join(rest.splitlines(keepends=True)[:2])
    lines = "".join(f"| {' | '.join(row)} |\n" for row in found.values())
    DOCUMENT.write_text(f"{before}{begin}{heading}{lines}{_END}{rest.partition(_END)[2]}")
