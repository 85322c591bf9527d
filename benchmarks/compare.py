"""`python -m benchmarks models`: each model on every system, in one process, by turns."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import io
import json
import logging
import os
import platform
import re
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.models import MODELS, Inputs, Model
from benchmarks.peers import SYSTEMS, System
from benchmarks.rounds import pin, ratio, rotate, signal_to_noise

OURS = "qcore"
VERSIONS = ("torch", "torchao", "onnxruntime", "openvino", "nncf", "torch-qcore")


def options() -> argparse.ArgumentParser:
    """What can be chosen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks models", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=float, default=0.4, help="seconds of a block")
    parser.add_argument("--systems", default="", help="a regular expression; all that match its name, and qcore")
    parser.add_argument("--json", type=Path, help="write the figures here, as `python -m benchmarks chart` reads them")
    return parser


def main(arguments: list[str]) -> None:
    """Print a table for each model and batch size."""
    chosen = options().parse_args(arguments)
    pin(chosen.threads)
    console = Console()
    results: list[dict[str, Any]] = []
    for name in chosen.models:
        model = MODELS[name]()
        for batch in chosen.batch:
            found = measure(model, batch, chosen)
            results += found
            console.print(table(f"{name}, batch {batch}, {chosen.threads} thread(s)", found))
    if chosen.json:
        chosen.json.write_text(json.dumps(about() | {"results": results}, indent=1))


@torch.inference_mode()
def measure(model: Model, batch: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each system: times, ratios to the best in the same rounds, accuracy; or why there is none."""
    inputs = model.inputs(batch, 0)
    expected = model.module(*inputs)
    macs = model.macs(batch)
    calls: dict[str, Callable[[], Any]] = {}
    rows = []
    wanted = [each for each in SYSTEMS if model.kind in each.kinds and _asked(each, chosen.systems)]
    for system in track(wanted, f"{model.name}, batch {batch}", transient=True, disable=not sys.stderr.isatty()):
        row = {"model": model.name, "batch": batch, "threads": chosen.threads, "system": system.name}
        row |= {"family": system.family, "int8": system.int8}
        try:
            calls[system.name] = built(system, model, inputs, chosen.threads)
            row["snr"] = signal_to_noise(expected, calls[system.name]())
        except Exception as error:
            calls.pop(system.name, None)
            row["unavailable"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        rows.append(row)
    with _quiet():
        times = rotate(calls, chosen.rounds, chosen.block)
        peak = _peak_rate()
    best = min((each for each in times if each != OURS), key=lambda name: statistics.median(times[name]), default=OURS)
    for row in rows:
        if row["system"] in times:
            row["ms"] = statistics.median(times[row["system"]]) * 1e3
            row["to_best_peer"] = ratio(times, row["system"], best)
            row["share_of_peak"] = macs / statistics.median(times[row["system"]]) / (peak * chosen.threads)
    return rows


def _asked(system: System, pattern: str) -> bool:
    return system.name == OURS or re.search(pattern, system.name) is not None


def built(system: System, model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    with _quiet():
        return system.build(model, inputs, threads)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the peers print and warn of while they convert."""
    logging.disable(logging.WARNING)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def _peak_rate() -> float:
    """Multiplications a second of one thread's dot product instructions alone, on the instruction set in use."""
    from qcore_fbgemm_x86.backend import FbgemmX86

    from benchmarks.gemm import peak_rate

    return peak_rate(FbgemmX86().probe().detail)


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """The figures of one model, fastest first; at the end the systems that do not run it, with the reason."""
    shown = Table(title=title, title_justify="left")
    for head in ("system", "ms", "x best peer", "share of int8 peak", "SNR, dB"):
        shown.add_column(head, justify="left" if head == "system" else "right")
    for row in sorted(rows, key=lambda row: row.get("ms", float("inf"))):
        if "ms" not in row:
            shown.add_row(row["system"], "", "", "", row["unavailable"][:60])
            continue
        share = f"{row['share_of_peak']:.0%}" if row["int8"] else ""
        snr = "" if row["snr"] > 90 else f"{row['snr']:.1f}"
        style = "bold" if row["system"] == OURS else ""
        shown.add_row(row["system"], f"{row['ms']:.2f}", f"{row['to_best_peer']:.2f}", share, snr, style=style)
    return shown


def about() -> dict[str, Any]:
    """Date, versions and CPU of a run."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    from qcore_fbgemm_x86.backend import FbgemmX86

    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {FbgemmX86().probe().detail}",
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }
