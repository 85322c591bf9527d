"""The fuzzer of what a file's graph may call: each function, method and layer, with arguments that a file can give.

`python -m tests.fuzz.listed --runs N --seed S [--only NAME ...]` makes N calls of each (qcore/fx/callables.py) in
processes of its own. Tensors end, or begin, at a page that may not be touched, and so does, but for what rounds it,
each piece of memory that a call allocates (tests/native/fence.c). A failure is: the end of a process; a write beside a
tensor; a result with memory that was not written to. Errors of torch's are what they must be; calls that take long, or
more memory than there is, are counted.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import inspect
import json
import math
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
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from qcore.api._saving.arguments import Budget, known, made
from qcore.fx.callables import functions, methods
from tests.fuzz.spoil_files import NUMBERS
from tests.native.guarded import ENDS, Moved, _fence, with_fence
from tests.trust import record

SECONDS = 5
"""Of a core that a call may take; it is ended then, and counted."""
MEMORY = 3 * 2**30
_MOST = 5  # crashes of one name that are told

DTYPES = (
    *[torch.float32] * 8, *[torch.int64] * 4, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8,
    torch.int8, torch.int16, torch.int32, torch.complex64,
)  # fmt: skip
_STRINGS = (
    "mean", "sum", "none", "max", "prod", "amax", "amin", "nearest", "nearest-exact", "linear", "bilinear", "bicubic",
    "trilinear", "area", "reflect", "replicate", "circular", "constant", "zeros", "border", "reflection", "floor",
    "trunc", "left", "right", "fro", "nuc", "tanh", "same", "valid", "ij", "xy", "reduced", "complete", "ortho",
    "forward", "backward", "lower", "ij,jk->ik", "ii->i", "...i,i", "bij,bjk", "a" * 3000, "gelsd", "gelsy",
)  # fmt: skip


def names() -> list[str]:
    """Everything on the list that computes on tensors; methods with a dot before them, and torch's layers."""
    found = [name for name in functions() if not name.startswith(("builtins.", "math.", "collections."))]
    layers = [name for name, kind in known().items() if _is_layer(kind)]
    return [*found, *(f".{name}" for name in sorted(methods())), *layers]


def _is_layer(kind: type[nn.Module]) -> bool:
    return kind.__module__.startswith("torch.") and kind.forward is not nn.Module.forward


def called(name: str) -> Callable[..., Any]:
    """The function, or the method, of a name."""
    if name.startswith("."):
        return getattr(Tensor, name[1:])  # type: ignore[no-any-return]
    return functions().get(name) or known()[name]


@cache
def parameters(name: str) -> list[list[tuple[str, str, bool]]]:
    """Name and type of the parameters of each form of a call, and whether they have a default, where torch tells."""
    own = name.removeprefix(".").removeprefix("torch.nn.functional.").removeprefix("torch.")
    packet = getattr(torch.ops.aten, own.replace("fft.", "fft_").replace("linalg.", "linalg_").replace(
        "special.", "special_"), None)  # fmt: skip
    found = []
    for overload in packet.overloads() if packet is not None else ():
        schema = getattr(packet, overload)._schema
        found.append([(each.name, str(each.type), each.has_default_value()) for each in schema.arguments])
    try:
        by_python = inspect.signature(called(name)).parameters.values()
        found.append(
            [
                (each.name, str(each.annotation), each.default is not each.empty)
                for each in by_python
                if each.kind is not each.VAR_KEYWORD
            ]
        )
    except (ValueError, TypeError):
        pass
    tensors = [[(letter, "Tensor", False) for letter in "abc"[:count]] for count in (1, 2, 3)]
    numbers = [[("self", "Tensor", False), ("more", kind, False)] for kind in ("int", "List[int]")]
    return found or [*tensors, *numbers]


class Drawing:
    """Arguments of one call, from a seed; `moved`: its tensors."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.moved: list[Moved] = []
        sizes = self.chance.choice(((1, 2), (2, 3), (2, 4), (1, 3), (0, 2), (1, 2, 5), (3,), (4, 8)))
        self._shape = [self.chance.choice(sizes) for _ in range(self.chance.randrange(5))]
        self._sizes, self._dtype = sizes, self.chance.choice(DTYPES)

    def arguments(self, name: str) -> tuple[list[Any], dict[str, Any]]:
        """Positional ones, and those by name."""
        form = self.chance.choice(parameters(name))
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for index, (parameter, kind, is_given) in enumerate(form):
            if parameter in ("out", "device", "_weight", "_freeze"):  # which no file may give
                continue
            if index and self.chance.random() < (0.5 if is_given else 0.03):
                continue
            wrong = self.chance.random() < 0.03 and not (name.startswith(".") and not index)
            is_size = not is_given and kind in ("int", "<class 'int'>") and self.chance.random() < 0.8
            size = self.chance.choice(self._sizes)
            found = self._any() if wrong else size if is_size else self._of(parameter, kind)
            if len(args) == index and self.chance.random() < 0.9:
                args.append(found)
            else:
                kwargs[parameter] = found
        return args, kwargs

    def _of(self, parameter: str, kind: str) -> Any:
        chance = self.chance
        if "Tensor" in kind and ("List" in kind or "Tuple" in kind or "Sequence" in kind):
            return [self.tensor() for _ in range(chance.randrange(4))]
        if ("Optional" in kind or "None" in kind) and chance.random() < 0.4:
            return None
        if "Tensor" in kind:
            is_index = parameter in ("index", "indices", "offsets", "target", "sorted_sequence") or "ind" in parameter
            return self.tensor(torch.bool if "mask" in parameter else torch.int64 if is_index else None)
        if parameter == "dtype":
            return chance.choice((torch.float32, self._dtype, self._dtype, chance.choice(DTYPES)))
        if ("List" in kind or "Tuple" in kind or "Sequence" in kind) and ("int" in kind or "loat" in kind):
            return [self._number() for _ in range(chance.randrange(5))]
        if "str" in kind and "stride" not in kind:
            return chance.choice(_STRINGS)
        if "bool" in kind:
            return chance.random() < 0.5
        if "float" in kind or "number" in kind:
            return chance.choice((0.0, 0.5, -1.0, 2, 1e30, -1e300, math.inf, math.nan, self._number()))
        if "int" in kind or "BroadcastingList" in kind:
            return self._number() if chance.random() < 0.9 else [self._number() for _ in range(chance.randrange(1, 4))]
        return self._any()

    def _number(self) -> int:
        if self.chance.random() < 0.85:
            return self.chance.choice((0, 1, 1, 2, 2, 3, -1, -2, 4, 5, 8))
        return self.chance.choice([number for number in NUMBERS if type(number) is int and abs(number) < 2**63])

    def _any(self) -> Any:
        chance = self.chance
        kind = chance.randrange(9)
        if kind < 3:
            return self.tensor()
        if kind == 3:
            return chance.choice(_STRINGS)
        if kind == 4:
            return [self._number() for _ in range(chance.randrange(70) if chance.random() < 0.1 else 3)]
        if kind == 5:
            return chance.choice((None, True, False, Ellipsis, 1j, slice(self._number(), None, self._number())))
        if kind == 6:
            return chance.choice((torch.channels_last, torch.sparse_coo, torch.strided, torch.device("cpu")))
        if kind == 7:
            return [self.tensor(), *[self.tensor() for _ in range(chance.randrange(3))]]
        return chance.choice((self._number(), chance.choice(DTYPES), 0.5))

    def tensor(self, usual: torch.dtype | None = None, given: list[int] | None = None) -> Tensor:
        """A tensor at a forbidden page, of the shape and dtype of the others, or not."""
        chance = self.chance
        shape = list(self._shape)
        if given is not None:
            shape = given
        elif chance.random() < 0.25:
            shape = [chance.choice(self._sizes) for _ in range(chance.randrange(6))]
        elif shape and chance.random() < 0.2:
            shape[chance.randrange(len(shape))] = chance.choice(self._sizes)
        dtype = (usual or self._dtype) if chance.random() < 0.9 or given is not None else chance.choice(DTYPES)
        count = math.prod(shape)
        values = [self._element(dtype) for _ in range(min(count, 2000))]
        flat = torch.tensor(values * (count // max(len(values), 1) + 1), dtype=torch.float64)[:count]
        made = flat.to(dtype).reshape(shape)
        if made.ndim > 1 and chance.random() < 0.2:
            made = made.transpose(0, -1)
        if made.ndim and chance.random() < 0.1:
            made = made[:1].expand_as(made) if made.shape[0] else made
        if not made.numel():
            return made
        moved = Moved(made, chance.choice(ENDS))
        self.moved.append(moved)
        return moved.tensor

    def _element(self, dtype: torch.dtype) -> float:
        if dtype.is_floating_point or dtype.is_complex:
            return self.chance.choice((0.0, 1.0, -1.0, 0.5, 3.0, 1e30, math.inf, math.nan, -7.25))
        huge = self.chance.random() < 0.08 and dtype is torch.int64
        return self.chance.choice((2**31, -(2**31), 2**40, -(2**60), 10**9)) if huge else self.chance.choice(
            (0, 1, 2, 3, -1, 4)
        )  # fmt: skip


def _layer(kind: type[nn.Module], drawing: Drawing, given: dict[str, Any]) -> tuple[nn.Module, list[Any]]:
    """A layer as a file makes it, with drawn weights and buffers, and what it is called with."""
    layer = made(kind, given, Budget(2**16)).to_empty(device="cpu")
    for held in (layer._parameters, layer._buffers):
        for key, value in held.items():
            drawn = None if value is None else drawing.tensor(value.dtype, list(value.shape)).to(value.dtype)
            held[key] = nn.Parameter(drawn, False) if drawn is not None and held is layer._parameters else drawn
    forward = [each for each in inspect.signature(kind.forward).parameters.values() if each.name != "self"]
    count = sum(each.default is each.empty and each.kind is not each.VAR_KEYWORD for each in forward)
    usual = drawing.chance.choice((torch.float32, torch.float32, torch.int64, None))
    args = [drawing.tensor(usual) for _ in range(drawing.chance.choice((count, count, len(forward))))]
    return layer.train(drawing.chance.random() < 0.3), args


def run(name: str, seed: int) -> tuple[str, str]:
    """(what was wrong, what came of it) for one call."""
    drawing = Drawing(seed)
    args, kwargs = drawing.arguments(name)
    function: Any = called(name)
    torch.manual_seed(0)
    if isinstance(function, type):
        try:
            names_of = [each for each, *_ in parameters(name)[0]]
            function, args = _layer(function, drawing, {**dict(zip(names_of, args, strict=False)), **kwargs})
            kwargs = {}
        except Exception:
            return "", "refused"
    _fence(1)
    try:
        with torch.no_grad():
            result = function(*args, **kwargs)
            leaves = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
            copies = [each.clone() for each in leaves if each.layout is torch.strided and each.numel() < 2**24]
    except MemoryError:
        return "", "memory"
    except Exception as error:
        return "", "memory" if "memory" in str(error) else "refused"
    finally:
        _fence(-1)
        around = [bool((each._around == _CANARY).all()) for each in drawing.moved]
    if not all(around):
        return "wrote beside a tensor", "ran"
    return ("gives memory that was not written to" if any(map(_unwritten, copies)) else ""), "ran"


_CANARY = 0xA5


def _unwritten(copied: Tensor) -> bool:
    """Whether elements have the bytes that fresh memory is filled with; small ones have these by chance."""
    if copied.is_complex():
        copied = torch.view_as_real(copied.resolve_conj())
    if copied.element_size() < 4 or not copied.numel():
        return False
    words = copied.contiguous().flatten().view(torch.int32)
    return bool((words == int.from_bytes(bytes([_CANARY] * 4), "little", signed=True)).any())


# --- processes --------------------------------------------------------------------------------------------------------


def _fork(name: str, numbers: range, at: mmap.mmap, counts: collections.Counter[str]) -> tuple[int, str]:
    """Run calls in a fork, as far as that goes; the number of the last, and what was wrong with it."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reads)
            os.dup2(writes, 2)
            faulthandler.enable()
            warnings.simplefilter("ignore")
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            found: collections.Counter[str] = collections.Counter()
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
            for number in numbers:
                at[:8] = struct.pack("<q", number)
                signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
                problem, outcome = run(name, number)
                found[outcome] += 1
                if problem:
                    os.write(2, f"\n{problem}".encode())
                    os._exit(3)
            os.write(writes, b"\n" + json.dumps(found).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    with os.fdopen(reads, "rb") as stream:
        said = stream.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    (number,) = struct.unpack("<q", at[:8])
    if not status:
        counts.update(json.loads(said.rpartition("\n")[2]))
        return numbers.stop - 1, ""
    counts["ran or refused"] += number - numbers.start
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGVTALRM, signal.SIGKILL):
        counts["took too long"] += 1
        return number, ""
    ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said.rpartition("\n")[2]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) == 1:
        ended = said[-1500:]
    return number, ended


def run_all(wanted: list[str], runs: int, seed: int, seconds: float = math.inf) -> dict[str, Any]:
    """Calls of each name, until there are enough or the time is over: counts, and problems by name and seed."""
    counts: collections.Counter[str] = collections.Counter()
    problems: dict[str, list[tuple[int, str]]] = {}
    start, at = time.monotonic(), mmap.mmap(-1, 8)
    for name in wanted:
        first, last = seed, seed + runs
        while first < last and time.monotonic() - start < seconds:
            number, problem = _fork(name, range(first, last), at, counts)
            first = number + 1
            if problem:
                problems.setdefault(name, []).append((number, problem))
                print(name, number, problem.splitlines()[-1], flush=True, file=sys.stderr)
            if len(problems.get(name, ())) >= _MOST:
                break
    return {"names": len(wanted), "runs": sum(counts.values()), "counts": dict(counts), "problems": problems}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/trust.md")
    options = parser.parse_args()
    if "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.fuzz.listed", *sys.argv[1:]]
            return subprocess.run(command, env=with_fence(Path(folder)), check=False).returncode
    torch.set_num_threads(1)
    found = run_all(options.only or names(), options.runs, options.seed, options.seconds)
    print(json.dumps(found, indent=1))
    if options.record:
        counts = ", ".join(f"{count} {what}" for what, count in found["counts"].items())
        figures = f"{found['names']} names, {found['runs']} calls ({counts}): {len(found['problems'])} with problems"
        record("what graphs of files call", f"python -m tests.fuzz.listed {' '.join(sys.argv[1:])}", figures)
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
