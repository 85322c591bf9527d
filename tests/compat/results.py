"""Results of callers in two modes, and where they differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]


def results(mode: str, folder: Path, *names: str) -> dict[str, Any]:
    """What callers return in a mode, run in a process of their own."""
    out = folder / f"{mode}_{'_'.join(names)}.pt"
    command = [sys.executable, "-m", "tests.compat.run", mode, str(out), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = torch.load(out, weights_only=True)
    return found


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Where the results of a caller differ: not at all allowed, but for names that begin with "close:" (float sums in
    another order, and recurrent gates, which torch computes as the CPU has it): within 1e-5."""
    found = [f"only one has {name}" for name in ours.keys() ^ theirs.keys()]
    for name in ours.keys() & theirs.keys():
        mine, its = ours[name], theirs[name]
        if not isinstance(its, torch.Tensor):
            found += [] if mine == its else [f"{name}: {mine} and {its}"]
        elif name.startswith("close:"):
            close = mine.shape == its.shape and torch.allclose(mine, its, rtol=1e-5, atol=1e-5)
            found += [] if close else [f"{name}: {(mine - its).abs().max()}"]
        elif not torch.equal(mine, its):
            found.append(f"{name}: {int((mine != its).sum())} of {its.numel()}")
    return found
