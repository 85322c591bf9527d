"""`python -m benchmarks memory`: resident memory of each system, in a process of its own."""

from __future__ import annotations

import argparse
import multiprocessing
import re
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.compare import built
from benchmarks.models import MODELS
from benchmarks.peers import SYSTEMS
from benchmarks.rounds import pin


def main(arguments: list[str]) -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--systems", default="", help="a regular expression")
    chosen = parser.parse_args(arguments)
    console = Console()
    for name in chosen.models:
        shown = Table(title=f"{name}, batch {chosen.batch}", title_justify="left")
        shown.add_column("system")
        shown.add_column("MB while it runs", justify="right")
        kind = MODELS[name]().kind
        for system in SYSTEMS:
            if kind in system.kinds and re.search(chosen.systems, system.name):
                shown.add_row(system.name, in_a_process(system.name, name, chosen.batch))
        console.print(shown)


def in_a_process(system: str, model: str, batch: int) -> str:
    """The figure of one system, or why there is none."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, system, model, batch))
    process.start()
    sender.close()
    try:
        return str(receiver.recv())
    except EOFError:
        return f"died with {process.exitcode}"
    finally:
        process.join()


@torch.inference_mode()
def _measure(sender: Any, system: str, model: str, batch: int) -> None:
    """Resident memory before five calls, and how far it rises during them."""
    pin(1)
    chosen = next(each for each in SYSTEMS if each.name == system)
    try:
        made = MODELS[model]()
        inputs = made.inputs(batch, 0)
        call = built(chosen, made, inputs, 1)
        call()
        _reset_peak()
        idle = _status("VmRSS")
        for _ in range(5):
            call()
        sender.send(f"{_status('VmHWM') - idle:.1f} above {idle:.0f}")
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}"[:60])


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _status(key: str) -> float:
    """A line of /proc/self/status in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))
