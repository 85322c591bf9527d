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
import itertools
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

from tests.fuzz.corpus import Sample, of_qcore, of_torch
from tests.trust import record

SLOW = 10
"""Seconds of a core that loading one file may take; it is ended where it, or the call, has taken three times that."""
HUNG = 300
"""Seconds of the clock after which one that takes none of a core is ended."""
MEMORY = 6 * 2**30
"""Bytes of address space of a child."""
KINDS = ("qcore", "torch")
_BATCH = 20_000
_MEMORY = Path("/dev/shm")
"""Where Linux has a file system in memory: making a file there takes a tenth of the time."""


# --- one file ---------------------------------------------------------------------------------------------------------


class Runner:
    """Makes the spoiled file of a seed, loads it, and calls the model; what was wrong, and what came of it else."""

    def __init__(self, kind: str, folder: Path) -> None:
        import torch._dynamo  # noqa: F401  # which torch imports, with what it needs, to tell of an error in a graph

        from tests.fuzz.spoil_files import Safetensors
        from tests.fuzz.spoil_pickles import TorchFile
        from tests.fuzz.watch import Watch

        self.kind = kind
        self.calls: Callable[[], None] = lambda: None
        """Called when a model has been loaded, and before it is."""
        self.loaded = 0.0
        self.path = str(folder / "spoiled")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT)
        spoiler: Any = Safetensors if kind == "qcore" else TorchFile
        samples = of_qcore(folder) if kind == "qcore" else of_torch()
        self.samples = [(sample, spoiler(sample.data)) for _, sample in sorted(samples.items())]
        for sample, _ in self.samples:  # so that what is imported on the way is there
            self._put(sample.data)
            outcome = self._end_of(sample)
            assert outcome == ("", "ran"), outcome
        self._bounds = [*itertools.accumulate(sample.weight for sample, _ in self.samples)]
        self.watch = Watch(may_write=self.path)

    def run(self, seed: int) -> tuple[str, str]:
        """(what was wrong, what came of it) for one seed."""
        chance = random.Random(seed)
        sample, spoiler = chance.choices(self.samples, cum_weights=self._bounds)[0]
        self._put(spoiler.spoiled(chance))
        return self._load_and_call(sample)

    def _put(self, data: bytes) -> None:
        os.ftruncate(self._file, os.pwrite(self._file, data, 0))

    def _load_and_call(self, sample: Sample) -> tuple[str, str]:
        start = time.process_time()
        self.watch.seen.clear()
        self.watch.on = True
        try:
            problem, outcome = self._end_of(sample)
        finally:
            self.watch.on = False
        took = self.loaded - start
        if self.watch.seen:
            problem = f"did {self.watch.seen[:3]}"
        elif took > SLOW:
            problem = f"took {took:.0f} s"
        return problem, outcome

    def _end_of(self, sample: Sample) -> tuple[str, str]:
        return self._of_torch() if self.kind == "torch" else self._of_qcore(sample)

    def _of_qcore(self, sample: Sample) -> tuple[str, str]:
        import qcore

        try:
            model = qcore.load(self.path, sample.factory, allow=sample.allow)
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
                model(*sample.inputs)
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


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None)


# --- children ---------------------------------------------------------------------------------------------------------


def child(kind: str, first: int, last: int, progress: str) -> None:
    """Run seeds; each is noted in the file `progress` before it is run."""
    with _folder() as folder, open(progress, "r+b") as file, mmap.mmap(file.fileno(), 8) as at:
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
        with _folder() as folder:
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
