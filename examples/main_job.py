"""The main job on real input: a text and a vision model, fp32 beside every backend that can run here.

python -m examples.main_job [--quick] [--backend NAME ...]
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import qcore
from examples import text, vision


@dataclass
class Row:
    """One model on one backend."""

    model: str
    backend: str
    megabytes: float
    milliseconds: float
    accuracy: str


def saved_megabytes(model: nn.Module) -> float:
    """Size of the model's state dict on disk."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / 1e6


def latencies(calls: dict[str, Callable[[], object]], rounds: int, step: Callable[[], object]) -> dict[str, float]:
    """Median milliseconds of each call, taken in turns so that a noisy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for call in calls.values():
            call()
        for _ in range(rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
            step()
    return {name: 1000 * statistics.median(found) for name, found in times.items()}


def text_rows(backends: list[str], quick: bool, progress: Progress) -> list[Row]:
    """MiniLM-L6: latency of one batch of 8 sentences, mean cosine similarity with the fp32 embeddings over all."""
    inputs = list(text.batches(limit=32 if quick else 128, size=8))
    rounds = 3 if quick else 15
    task = progress.add_task("text: MiniLM-L6", total=2 * (1 + len(backends)) + rounds)
    models: dict[str, nn.Module] = {"fp32": text.SentenceEncoder()}
    progress.advance(task)
    for backend in backends:
        models[backend] = qcore.compile(text.quantize(models["fp32"], backend), tuple(inputs[0].values()))
        progress.advance(task)
    embeddings: dict[str, Tensor] = {}
    for name, model in models.items():
        embeddings[name] = text.embed(model, inputs)
        progress.advance(task)
    batch = inputs[len(inputs) // 2]
    calls = {name: lambda model=model: model(**batch) for name, model in models.items()}
    times = latencies(calls, rounds, lambda: progress.advance(task))
    rows = []
    for name, model in models.items():
        cosine = float(F.cosine_similarity(embeddings[name], embeddings["fp32"]).mean())
        rows.append(Row("MiniLM-L6, 8 sentences", name, saved_megabytes(model), times[name], f"cosine {cosine:.4f}"))
    return rows


def vision_rows(backends: list[str], quick: bool, progress: Progress) -> list[Row]:
    """The digits net: latency of 64 images, accuracy on the held-out ones."""
    images, labels, test_images, test_labels = vision.digits()
    epochs, rounds = (4, 5) if quick else (15, 50)
    task = progress.add_task("vision: digits", total=epochs + len(backends) + rounds)
    models: dict[str, nn.Module] = {"fp32": vision.train(images, labels, epochs, lambda: progress.advance(task))}
    for backend in backends:
        models[backend] = vision.quantize(models["fp32"], images[:512], backend)
        progress.advance(task)
    calls = {name: lambda model=model: model(test_images[:64]) for name, model in models.items()}
    times = latencies(calls, rounds, lambda: progress.advance(task))
    rows = []
    for name, model in models.items():
        quality = f"accuracy {100 * vision.accuracy(model, test_images, test_labels):.2f} %"
        rows.append(Row("digits conv net, 64 images", name, saved_megabytes(model), times[name], quality))
    return rows


def main() -> None:
    """Run both models everywhere and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data and fewer rounds")
    parser.add_argument("--backend", action="append", help="only this one (may be repeated; default: all)")
    options = parser.parse_args()

    torch.set_num_threads(1)
    console = Console()
    if not console.is_terminal:
        console.width = 110
    choice = qcore.registry.choose("auto")
    backends = options.backend or [status.name for status in qcore.registry.statuses() if status.usable]
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        rows = text_rows(backends, options.quick, progress) + vision_rows(backends, options.quick, progress)

    table = Table("model", "backend", "MB on disk", "ms (median, 1 thread)", "x fp32", "quality")
    fp32 = {row.model: row.milliseconds for row in rows if row.backend == "fp32"}
    for row in rows:
        table.add_row(
            row.model,
            row.backend,
            f"{row.megabytes:.2f}",
            f"{row.milliseconds:.2f}",
            f"{fp32[row.model] / row.milliseconds:.2f}",
            row.accuracy,
            end_section=row is rows[len(rows) // 2 - 1],
        )
    console.print(table)
    console.print(f"auto chose {choice.backend.name}: {choice.reason}.", highlight=False)


if __name__ == "__main__":
    main()
