"""What became of each layer: quantized (by whom, as what), left float (why), or passed through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qcore.errors import ArgumentError
from qcore.selection import Selection

Outcome: TypeAlias = Literal["quantized", "float", "in float", "passed through"]


@dataclass(frozen=True)
class Row:
    """One module of the model.

    `outcome`: "in float" is a layer without a kernel on integers, which computes between a dequantize and a quantize.

    `backend`: who runs it; `operator`: as what, with what is fused into it; `dtypes`: of weight and output; `reason`:
    why it was left float, or why another backend than the model's runs it; `asked`: whether quantizing it was asked
    for.
    """

    path: str
    float_type: str
    outcome: Outcome
    backend: str = ""
    operator: str = ""
    dtypes: str = ""
    reason: str = ""
    asked: bool = True


@dataclass(frozen=True)
class Report:
    """Rows in the order of the model, and the backend (or the string form of several) it is bound to; printable."""

    backend: str
    rows: tuple[Row, ...]
    why_backend: str = ""

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, path: str) -> Row:
        """The row of one module path; KeyError if there is none."""
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(path)

    @property
    def quantized_rows(self) -> tuple[Row, ...]:
        """Modules that run in integers."""
        return tuple(row for row in self.rows if row.outcome == "quantized")

    @property
    def float_rows(self) -> tuple[Row, ...]:
        """Modules that compute in float, each with its reason."""
        return tuple(row for row in self.rows if row.outcome in ("float", "in float"))

    @property
    def fallback_rows(self) -> tuple[Row, ...]:
        """Modules that another backend runs than those chosen for the model, each with the reason."""
        chosen = ("", self.backend, *Selection.of(self.backend).names)
        return tuple(row for row in self.quantized_rows if row.backend not in chosen)

    @property
    def refused_rows(self) -> tuple[Row, ...]:
        """Modules that were asked to be quantized and were not: what `strict=True` makes an error."""
        return tuple(row for row in self.float_rows if row.asked)

    def __str__(self) -> str:
        head = ("module", "type", "outcome", "runs on", "operator", "dtypes", "reason")
        cells = [
            (row.path or "(root)", row.float_type, row.outcome, row.backend, row.operator, row.dtypes, row.reason)
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in [head, *cells]) for column in range(len(head))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in [head, tuple("-" * width for width in widths), *cells]
        ]
        counts = (
            f"backend {self.backend}: {len(self.quantized_rows)} quantized"
            f" ({len(self.fallback_rows)} by another backend), {len(self.float_rows)} left float,"
            f" {len(self.rows) - len(self.quantized_rows) - len(self.float_rows)} passed through"
        )
        return "\n".join([counts, *([self.why_backend] if self.why_backend else []), *lines])


def report(model: object) -> Report:
    """The report of a prepared or converted model; ArgumentError for one that is neither."""
    found = getattr(model, "qcore_report", None)
    if not isinstance(found, Report):
        raise ArgumentError(f"this {type(model).__name__} was not prepared, so there is no report; call prepare first")
    return found
