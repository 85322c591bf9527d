"""The fuzzer of files: spoiled ones are loaded, and run once; nothing may come of it but a model or an error in words.

`python -m tests.fuzz.files --runs N --seed S [--kind qcore|torch]` runs N files from seed S on, in child processes with
bounded memory, so that a crash, a hang, too much memory, or code that ran is caught and laid to its seed. It ends with
what was found and how often; `--only` in the place of `--runs` repeats one seed with its traceback.

What counts as a failure: any end of a process; more than SLOW seconds for loading; an error of loading that is not one
of qcore's or does not name the file; any import of what was not there, file written, program started, or library
opened. A model that loads is called: an ordinary exception of torch's may come of that, as of any graph that fits no
input, and it may run long, as paddings of thousands do; both are counted.
"""

from __future__ import annotations

import argparse
import collections
import json
import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.trust import record

SLOW = 10
"""Seconds of a core that loading one file may take; it is ended where it, or the call, has taken three times that."""
HUNG = 300
"""Seconds of the clock after which one that takes none of a core is ended."""
MEMORY = 6 * 2**30
"""Bytes of address space of a child."""
KINDS = ("qcore", "torch")
_BATCH = 20_000
_GOLDEN = Path(__file__).parents[1] / "compat" / "checkpoints" / "golden"


# --- what is spoiled --------------------------------------------------------------------------------------------------


def corpus(folder: Path) -> dict[str, tuple[bytes, Callable[[], nn.Module] | None, tuple[Any, ...]]]:
    """Small files of every kind of model, with the float model to load into and an input for the call."""
    import qcore
    from tests.api import eager_models
    from tests.api.saved_models import GOLDEN, SAVED, Attending, Recurrent

    factories: dict[str, Callable[[], nn.Module]] = {
        "eager-ConvNet": lambda: eager_models.ConvNet(eager_models.QCORE),
        "dynamic-int8": Recurrent,
        "parts": Attending,
    }
    names = ("graph-Residual", "graph-Sums", "graph-Attention", "plain", "single", "tables-4", "tables-8", *factories)
    found = {}
    for name in names:
        if name not in SAVED:
            continue
        model, _, inputs = SAVED[name]("reference")
        qcore.save(model, folder / "model.qcore")
        found[name] = (folder / "model.qcore").read_bytes(), factories.get(name), inputs
    for name in ("graph-Residual", "plain"):
        found[f"{name}-v1"] = (GOLDEN / "v1" / f"{name}.qcore").read_bytes(), None, found[name][2]
    return found


def torch_corpus() -> dict[str, bytes]:
    """The files of torch.ao that the tests keep."""
    return {path.stem: path.read_bytes() for path in sorted(_GOLDEN.glob("*.pt"))}


# --- one file ---------------------------------------------------------------------------------------------------------


class Runner:
    """Makes the spoiled file of a seed, loads it, and calls the model; what was wrong, and what came of it else."""

    def __init__(self, kind: str, folder: Path) -> None:
        import torch._dynamo  # noqa: F401  # which torch imports, with what it needs, to tell of an error in a graph

        from tests.fuzz.watch import Watch

        self.kind = kind
        self.calls: Callable[[], None] = lambda: None
        """Called when a model has been loaded, and before it is."""
        self.loaded = 0.0
        self.path = str(folder / "spoiled")
        self.files: dict[str, Any] = corpus(folder) if kind == "qcore" else torch_corpus()
        self.names = sorted(self.files)
        for name in self.names:  # so that what is imported on the way is there
            found = self.files[name]
            Path(self.path).write_bytes(found[0] if kind == "qcore" else found)
            outcome = self._end_of(name)
            assert outcome == ("", "ran"), (name, outcome)
        self.watch = Watch(may_write=self.path)

    def run(self, seed: int) -> tuple[str, str]:
        """(what was wrong, what came of it) for one seed."""
        from tests.fuzz import spoil_files as spoil

        chance = random.Random(seed)
        name = chance.choice(self.names)
        found = self.files[name]
        spoiled = spoil.safetensors(found[0], chance) if self.kind == "qcore" else spoil.torch_file(found, chance)
        Path(self.path).write_bytes(spoiled)
        return self._load_and_call(name)

    def _load_and_call(self, name: str) -> tuple[str, str]:
        start = time.process_time()
        self.watch.seen.clear()
        self.watch.on = True
        try:
            problem, outcome = self._end_of(name)
        finally:
            self.watch.on = False
        took = self.loaded - start
        if self.watch.seen:
            problem = f"did {self.watch.seen[:3]}"
        elif took > SLOW:
            problem = f"took {took:.0f} s"
        return problem, outcome

    def _end_of(self, name: str) -> tuple[str, str]:
        return self._of_torch() if self.kind == "torch" else self._of_qcore(*self.files[name][1:])

    def _of_qcore(self, factory: Callable[[], nn.Module] | None, inputs: tuple[Any, ...]) -> tuple[str, str]:
        import qcore

        try:
            model = qcore.load(self.path, factory)
        except qcore.QcoreError as error:
            named = self.path in str(error)
            return ("" if named else f"an error without the file: {error}"), f"refused by {type(error).__name__}"
        except BaseException:
            return traceback.format_exc(), "raised"
        finally:
            self.loaded = time.process_time()
        self.calls()
        try:
            with torch.no_grad():
                model(*inputs)
        except qcore.QcoreError as error:
            return "", f"ran, {type(error).__name__}"
        except Exception as error:
            return "", f"ran, {type(error).__name__} of torch's"
        return "", "ran"

    def _of_torch(self) -> tuple[str, str]:
        import qcore
        from qcore.compat import checkpoints
        from tests.compat.checkpoints import models

        try:
            checkpoints.load(self.path, allow=(models.ConvNet, models.Speech, models.Tables))
        except qcore.ArgumentError as error:
            named = self.path in str(error)
            return ("" if named else f"an error without the file: {error}"), "refused"
        except BaseException:
            return traceback.format_exc(), "raised"
        finally:
            self.loaded = time.process_time()
        return "", "ran"


# --- children ---------------------------------------------------------------------------------------------------------


def child(kind: str, first: int, last: int, progress: str) -> None:
    """Run seeds; each is noted in the file `progress` before it is run."""
    with tempfile.TemporaryDirectory() as folder, open(progress, "r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        runner = Runner(kind, Path(folder))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        counts: collections.Counter[str] = collections.Counter()
        most = resource.getrlimit(resource.RLIMIT_CPU)[1]
        for seed in range(first, last):
            at[:] = struct.pack("<q", 2 * seed)
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 3 * SLOW, most))
            runner.calls = partial(at.__setitem__, slice(None), struct.pack("<q", 2 * seed + 1))
            problem, outcome = runner.run(seed)
            counts[outcome] += 1
            if problem:
                print(json.dumps({"seed": seed, "problem": problem[-3000:]}), flush=True)
        at[:] = struct.pack("<q", -1)  # none
        print(json.dumps({"counts": counts}), flush=True)


def run(kind: str, runs: int, seed: int, seconds: float = float("inf"), batch: int = _BATCH) -> dict[str, Any]:
    """Run files of one kind in children, until there are enough or the time is over: counts, and problems by seed."""
    counts: collections.Counter[str] = collections.Counter()
    problems: dict[int, str] = {}
    start, next_seed, end = time.monotonic(), seed, seed + runs
    while next_seed < end and time.monotonic() - start < seconds:
        last = min(next_seed + batch, end)
        next_seed = _batch(kind, next_seed, last, counts, problems, seconds - (time.monotonic() - start))
    return {"kind": kind, "runs": sum(counts.values()), "counts": dict(counts), "problems": problems}


def _batch(
    kind: str, first: int, last: int, counts: collections.Counter[str], problems: dict[int, str], seconds: float
) -> int:
    """One child; the seed to go on from."""
    with tempfile.TemporaryDirectory() as folder:
        progress, output = Path(folder, "progress"), Path(folder, "output")
        progress.write_bytes(struct.pack("<q", -2))
        command = [sys.executable, "-m", "tests.fuzz.files", "--child", kind, str(first), str(last), str(progress)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with output.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
            seen, since, begun = -2, time.monotonic(), time.monotonic()
            is_over = False
            while process.poll() is None:
                time.sleep(0.2)
                (now,) = struct.unpack("<q", progress.read_bytes())
                if now != seen:
                    begun = time.monotonic() if seen == -2 else begun
                    seen, since = now, time.monotonic()
                is_over = time.monotonic() - begun > max(seconds, 0) and seen != -2
                if is_over or time.monotonic() - since > HUNG:
                    process.kill()
                    process.wait()
        (at,) = struct.unpack("<q", progress.read_bytes())
        for line in output.read_text(errors="replace").splitlines():
            found = json.loads(line) if line.startswith("{") else {}
            if "seed" in found:
                problems[found["seed"]] = found["problem"]
            counts.update(found.get("counts", {}))
        if at == -1 and process.returncode == 0:
            return last
        if at == -2:
            raise RuntimeError(f"the fuzzer could not begin:\n{output.read_text(errors='replace')[-3000:]}")
        at, is_called = divmod(at, 2)
        counts["ran or refused"] += at - first
        if is_called and not is_over and process.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
            counts["ran for too long"] += 1
        elif not is_over:
            tail = output.read_text(errors="replace")[-2000:]
            problems[at] = f"the process ended with {process.returncode}, or hung\n{tail}"
        return last if is_over else at + 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--kind", choices=KINDS, default="qcore")
    parser.add_argument("--only", type=int)
    parser.add_argument("--record", action="store_true", help="write the figures to docs/trust.md")
    parser.add_argument("--child", nargs=4)
    options = parser.parse_args()
    if options.child:
        kind, first, last, progress = options.child
        child(kind, int(first), int(last), progress)
        return 0
    if options.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(*Runner(options.kind, Path(folder)).run(options.only), sep="\n")
        return 0
    found = run(options.kind, options.runs, options.seed, options.seconds)
    print(json.dumps(found, indent=1))
    if options.record:
        command = f"python -m tests.fuzz.files {' '.join(sys.argv[1:])}"
        counts = ", ".join(f"{count} {what}" for what, count in found["counts"].items())
        figures = f"{found['runs']} files ({counts}): {len(found['problems'])} problems"
        record(f"files of {options.kind}", command, figures)
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
