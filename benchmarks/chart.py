"""`python -m benchmarks chart FIGURES.json --to FOLDER`: what `models --json` has written, as a chart and a table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

OURS = "qcore"


def main(arguments: list[str]) -> None:
    """Write models.svg and models.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks chart", description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/benchmarks"))
    chosen = parser.parse_args(arguments)
    figures = json.loads(chosen.figures.read_text())
    chosen.to.mkdir(parents=True, exist_ok=True)
    groups = grouped(figures["results"])
    draw(groups, figures, chosen.to / "models.svg")
    (chosen.to / "models.md").write_text(page(groups, figures))


def grouped(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by model and batch size."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in results:
        groups.setdefault(f"{row['model']}, batch {row['batch']}", []).append(row)
    return groups


def best_of_families(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fastest way of each project, fastest first."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "ms" in row and ("ms" not in best.get(row["family"], {}) or row["ms"] < best[row["family"]]["ms"]):
            best[row["family"]] = row
    return sorted(best.values(), key=lambda row: row["ms"])


def draw(groups: dict[str, list[dict[str, Any]]], figures: dict[str, Any], to: Path) -> None:
    """A panel for each model: milliseconds of the fastest way of each project."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure, panels = pyplot.subplots(lines, columns, figsize=(4.2 * columns, 2.2 * lines), squeeze=False)
    for panel in panels.flat[len(groups) :]:
        panel.axis("off")
    for panel, (title, rows) in zip(panels.flat, groups.items(), strict=False):
        shown = best_of_families(rows)[::-1]
        colors = ["#c2410c" if row["system"] == OURS else "#94a3b8" for row in shown]
        bars = panel.barh([row["family"] for row in shown], [row["ms"] for row in shown], color=colors)
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
        panel.set_title(title, fontsize=9, loc="left")
        panel.tick_params(labelsize=7)
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        f"milliseconds, {figures['results'][0]['threads']} thread(s); {figures['cpu']}; {figures['date']}", fontsize=8
    )
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None})


def page(groups: dict[str, list[dict[str, Any]]], figures: dict[str, Any]) -> str:
    """All figures, as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    threads = figures["results"][0]["threads"]
    lines = [
        "# Models beside their peers",
        "",
        "`python -m benchmarks models --json FILE`, then `python -m benchmarks chart FILE`.",
        f"{figures['date']}; {figures['cpu']};",
        f"{threads} pinned thread(s), all systems in one process by turns, medians; {versions}.",
        "Ratios are medians over rounds of the time over that of the best peer; the share is of the rate of the dot",
        "product instructions that qcore uses on this CPU, which do not saturate.",
        "",
        "![The fastest way of each project](models.svg)",
    ]
    for title, rows in groups.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| system | ms | x best peer | share of int8 peak | SNR, dB |",
            "|---|---|---|---|---|",
        ]
        for row in sorted(rows, key=lambda row: row.get("ms", float("inf"))):
            if "ms" not in row:
                lines.append(f"| {row['system']} | does not run: {row['unavailable'][:80]} | | | |")
                continue
            share = f"{row['share_of_peak']:.0%}" if row["int8"] else ""
            snr = "" if row["snr"] > 90 else f"{row['snr']:.1f}"
            name = f"**{row['system']}**" if row["system"] == OURS else row["system"]
            lines.append(f"| {name} | {row['ms']:.2f} | {row['to_best_peer']:.2f} | {share} | {snr} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
