"""Drawn parts of models, recorded in every way and called with other sizes.

python -m tests.recording.differential trace|export|onnx FIRST LAST: a line for each seed that goes wrong.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import qcore
from tests.recording.drawn import Part, part


class Together(nn.Module):
    """Parts side by side."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part.module for part in parts)
        self.counts = [len(part.inputs) for part in parts]

    def forward(self, *inputs: Tensor) -> Any:
        results, taken = [], 0
        for module, count in zip(self.parts, self.counts, strict=True):
            results.append(module(*inputs[taken : taken + count]))
            taken += count
        return tuple(results)


def inputs(parts: Sequence[Part], which: str) -> tuple[Tensor, ...]:
    """`which`: "inputs" or "others"."""
    return tuple(x for part in parts for x in getattr(part, which))


def traced(parts: Sequence[Part]) -> Callable[..., Any]:
    """torch.jit.trace, saved and loaded."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Together(parts), inputs(parts, "inputs"), check_trace=False, strict=False), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def exported(parts: Sequence[Part]) -> Callable[..., Any]:
    """torch.export, saved and loaded."""
    shapes = tuple(each for part in parts for each in part.free())
    buffer = io.BytesIO()
    program = torch.export.export(Together(parts), inputs(parts, "inputs"), dynamic_shapes=(shapes,))
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer).module()


def written(parts: Sequence[Part]) -> Callable[..., Any]:
    """An ONNX file, in ONNX Runtime."""
    from tests.onnx.running import run

    shapes = tuple(each for part in parts for each in part.free())
    path = Path(tempfile.mkdtemp()) / "parts.onnx"
    qcore.export_onnx(Together(parts), path, inputs(parts, "inputs"), (shapes,), unsigned_weights=True)
    return lambda *given: run(path, given)


WAYS = {"trace": traced, "export": exported, "onnx": written}


def differences(way: str, parts: Sequence[Part]) -> Iterator[str]:
    """The name of each part with results that are not the module's; in ONNX they may be one step away."""
    model = Together(parts)
    with torch.no_grad():
        recorded = WAYS[way](parts)
        for which in ("inputs", "others"):
            given = inputs(parts, which)
            results = model(*given)
            owners = [part.name for part, result in zip(parts, results, strict=True) for _ in tree_leaves(result)]
            for name, right, found in zip(owners, tree_leaves(results), tree_leaves(recorded(*given)), strict=True):
                if right.shape != found.shape:
                    yield f"{name}: {which}: shape {tuple(found.shape)}, not {tuple(right.shape)}"
                elif way != "onnx" and not torch.equal(right, found):
                    yield f"{name}: {which}: other numbers"
                elif way == "onnx" and float((right - found).abs().max()) > 1.01 * step(right) + 1e-5:
                    yield f"{name}: {which}: {float((right - found).abs().max())} away, and a step is {step(right)}"


def step(x: Tensor) -> float:
    """Of what was quantized; 0 for floats."""
    levels = x.unique()
    return float(levels.diff().min()) if 1 < len(levels) <= 256 and len(levels) < x.numel() else 0.0


def main() -> None:
    """See above."""
    way, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for seed in range(first, last):
        try:
            for problem in differences(way, [part(seed)]):
                print(seed, problem, flush=True)
        except Exception as error:
            print(seed, part(seed).name, type(error).__name__, str(error)[-400:].replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
