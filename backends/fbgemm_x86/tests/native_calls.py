"""Calls that every entry of the native module takes, and what may spoil them: for a process that a crash would end.

    python native_calls.py ISA SEED COUNT LOG

Each of COUNT drawn calls has an argument or two replaced, or is a drawn plan. LOG holds the call that is being made, so
that it names the one that crashed.
"""

from __future__ import annotations

import inspect
import math
import random
import resource
import sys
from typing import Any

import torch
from qcore_fbgemm_x86 import _native

import qcore

U8, S8, I32, I64, F32, F16 = torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.float16
ROOM = 256  # bytes on either side of a tensor, which no call may touch
REFUSED = (qcore.QcoreError, TypeError, MemoryError)
Call = tuple[Any, str, tuple[Any, ...]]


class Tensors:
    """Tensors with room around, and whether this is as it was."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.all: list[torch.Tensor] = []

    def __call__(self, dtype: torch.dtype, *sizes: int, high: int = 100, last: bool = False) -> torch.Tensor:
        item = torch.empty((), dtype=dtype).itemsize
        count = math.prod(sizes)
        memory = torch.full((count * item + 2 * ROOM,), 170, dtype=U8)
        self.all.append(memory)
        inner = memory[ROOM : ROOM + count * item].view(dtype)
        values = torch.randint(0, high, (count,), generator=self.generator)
        inner.copy_(values / 10 if dtype.is_floating_point else values)
        if not last:
            return inner.view(sizes)
        return inner.view(sizes[0], *sizes[2:], sizes[1]).movedim(-1, 1)

    def intact(self) -> bool:
        return all((each[:ROOM] == 170).all() and (each[-ROOM:] == 170).all() for each in self.all)


def weights(t: Tensors, *sizes: int, channels: int | None = None) -> tuple[Any, ...]:
    n = sizes[0] if channels is None else channels
    return t(S8, *sizes), t(F32, n) + 0.1, torch.zeros(n, dtype=I32), True, t(F32, n), False


def kernels_calls(k: Any, t: Tensors) -> list[Call]:
    """A call of every method of the kernels and of the objects that these make."""
    image = lambda: t(U8, 2, 8, 5, 6, last=True)  # noqa: E731
    three, ones, none = (1, 2, 2), (1, 1, 1), (0, 0, 0)
    linear, conv = k.linear(*weights(t, 7, 12)), k.conv(*weights(t, 4, 8, 1, 3, 3), ones, (0, 1, 1), ones, 1)
    depthwise = k.conv(*weights(t, 8, 1, 1, 3, 3), ones, (0, 1, 1), ones, 8)
    transposed = k.conv_transpose(*weights(t, 8, 4, 1, 2, 2, channels=4), three, none, none, ones, 1)
    cell = [tuple(weights(t, 12, n)[:5]) for n in (5, 3)]
    lstm = k.recurrent("lstm", 1, [cell], False, False, False)
    half = [(t(F16, 9, n), None, None, False, t(F32, 9)) for n in (5, 3)]
    gru = k.recurrent("gru", 1, [half], False, False, True)
    table = k.embedding(t(U8, 10, 6), t(F32, 10, 2), None, False)
    state = lambda: t(F32, 1, 2, 3)  # noqa: E731
    calls: list[tuple[Any, str, tuple[Any, ...]]] = [
        (k, "linear", weights(t, 7, 12)),
        (k, "conv", (*weights(t, 4, 8, 1, 3, 3), ones, none, ones, 1)),
        (k, "conv", (*weights(t, 8, 1, 1, 3, 3), ones, none, ones, 8)),
        (k, "conv_transpose", (*weights(t, 8, 4, 1, 2, 2, channels=4), three, none, none, ones, 1)),
        (k, "linear_half", (t(F16, 7, 12), t(F32, 7), False)),
        (k, "recurrent", ("lstm", 1, [cell], False, False, False)),
        (k, "recurrent", ("gru", 1, [half], False, False, True)),
        (k, "embedding", (t(U8, 10, 6, high=16), t(F32, 10, 2), t(I64, 12, high=10), True)),
        (k, "plan", ()),
        (linear, "run", (t(U8, 3, 12), 0.1, 3, 0.2, 5, t(U8, 3, 7), 2)),
        (linear, "run_dynamic", (t(F32, 3, 12), t(F32, 3, 7), False, True, 2)),
        (conv, "run", (image(), 0.1, 3, 0.2, 5, t(U8, 2, 4, 5, 6, last=True), 2)),
        (depthwise, "run", (image(), 0.1, 3, 0.2, 5, image(), 2)),
        (transposed, "run", (image(), 0.1, 3, 0.2, 5, t(U8, 2, 4, 10, 12, last=True), 2)),
        (k.linear_half(t(F16, 7, 12), None, False), "run", (t(F32, 3, 12), t(F32, 3, 7), 2)),
        (lstm, "run", (t(F32, 4, 2, 5), None, state(), state(), t(F32, 4, 2, 3), 2)),
        (lstm, "run", (t(F32, 3, 5), torch.tensor([2, 1]), state(), state(), t(F32, 3, 3), 2)),
        (gru, "run", (t(F32, 4, 2, 5), None, state(), None, t(F32, 4, 2, 3), 2)),
        (lstm, "step", (t(F32, 2, 5), t(F32, 2, 3), t(F32, 2, 3), 2)),
        (table, "run", (t(I64, 9, high=10), True, torch.tensor([0, 4]), False, t(F32, 9), True, t(F32, 2, 6), 2)),
        (table, "run", (t(I32, 8, high=10), False, None, False, None, False, t(F32, 2, 6), 2)),
        (k, "quantize", (t(F32, 4, 5), t(U8, 4, 5), False, 0.1, 3, 2)),
        (k, "dequantize", (t(U8, 4, 5), t(F32, 4, 5), False, 0.1, 3, 2)),
        (k, "quantize_channels", (t(F32, 4, 5), t(S8, 4, 5), True, torch.ones(5).double(), t(I64, 5), 1, 2)),
        (k, "dequantize_channels", (t(U8, 4, 5), t(F32, 4, 5), False, torch.ones(4).double(), t(I64, 4), 0, 2)),
        *(
            (k, name, (t(U8, 4, 5), 0.1, 3, t(U8, 4, 5), 0.1, 4, t(U8, 4, 5), 0.2, 5, True, 2))
            for name in ("add", "mul")
        ),
        (k, "requantize", (t(U8, 4, 5), 0.1, 3, t(U8, 4, 5), 0.2, 5, True, 2)),
        (k, "clamp", (t(U8, 4, 5), t(U8, 4, 5), 3, 90, 2)),
        (k, "lookup", (t(U8, 4, 5), t(U8, 4, 5), t(U8, 256), 2)),
        (k, "lookup_channels", (t(U8, 2, 3, 4), t(U8, 2, 3, 4), t(U8, 3, 256), 2)),
        (k, "peak", (5,)),
        (k, "max_pool", (image(), t(U8, 2, 8, 3, 3, last=True), three, three, (0, 1, 0), ones, 2)),
        (k, "avg_pool", (image(), t(U8, 2, 8, 3, 3, last=True), 3, three, three, (0, 1, 0), True, 0, 2)),
        (k, "adaptive_avg_pool", (image(), t(U8, 2, 8, 2, 7, last=True), 3, 2)),
        (k, "normalize", (t(U8, 2, 2, 3, 4), 0.1, 3, t(F32, 6), t(F32, 6), 1e-5, False, t(U8, 2, 2, 3, 4), 0.2, 5, 2)),
        (k, "batch_norm", (t(U8, 2, 3, 4), 3, t(F32, 3), t(F32, 3), True, t(U8, 2, 3, 4), 5, 2)),
        (k, "mean_of_rows", (t(U8, 3, 9), 3, t(U8, 3), 2)),
        (k, "softmax", (t(U8, 3, 9), torch.arange(256).flip(0), t(U8, 3, 9), 0.01, 0, 2)),
        (
            k,
            "attention",
            (
                t(F32, 2, 1, 3, 4),
                t(F32, 2, 1, 5, 4),
                t(F32, 2, 1, 5, 6),
                t(F32, 2, 1, 3, 5),
                t(F32, 2, 1, 3, 6),
                0.5,
                True,
                2,
            ),
        ),
        (k, "nearest", (t(U8, 2, 1, 3, 4, 1), t(U8, 2, 1, 5, 6, 1), [0.0, 0.0, 1.5], 2)),
        (k, "bilinear", (t(U8, 2, 3, 4, 1), t(U8, 2, 5, 6, 1), [0.0, 1.5], True, 3, 2)),
        (k, "matmul", (t(U8, 2, 3, 4), 0.1, 3, t(U8, 2, 4, 5), 0.1, 4, t(U8, 2, 3, 5), 0.2, 5, 2)),
        (k, "float_function", (t(F32, 4, 5), t(F32, 4, 5), "gelu", 2)),
        (k, "float_add", (t(F32, 4, 5), t(F32, 4, 5), t(F32, 4, 5), 2)),
        (k, "float_layer_norm", (t(F32, 4, 5), t(F32, 5), t(F32, 5), 1e-5, t(F32, 4, 5), 2)),
        (k, "float_embedding", (t(I64, 3, high=10), True, t(F32, 10, 4), t(F32, 3, 4), 2)),
        *(
            (k, "fake_quantize", (t(F32, n, 5), t(F32, n) + 1, t(I32, n), 0, 0, 255, t(F32, n, 5), t(U8, 2), 2))
            for n in (1, 3)
        ),
        (k, "fake_quantize", (t(F32, 1), t(F32, 1) + 1, t(I32, 1), -1, 0, 255, t(F32, 1), t(U8, 2), 2)),
        (k, "keep_inside", (t(F32, 3, 5), t(U8, 2), t(F32, 3, 5), 2)),
        (k, "ranges", (t(F32, 3, 5), 1, t(F32, 5), t(F32, 5), 2)),
        (
            k,
            "observe_fake_quantize",
            (
                t(F32, 3, 5),
                -1,
                0.1,
                0,
                255,
                False,
                1e-4,
                128,
                *(t(F32, 1) for _ in range(3)),
                t(I32, 1),
                t(F32, 3, 5),
                t(U8, 2),
                2,
            ),
        ),
        (k, "grid_histogram", (t(F32, 30), 2, -3, t(I64, 50), t(F32, 2), 2)),
        (k, "even_histogram", (t(F32, 30), 0.0, 5.0, t(I64, 50), 2)),
        (_native, "kernels", ("scalar",)),
        (_native, "known_isas", ()),
        (_native, "supported_isas", ()),
    ]
    return calls


CLASSES = {name: each for name, each in vars(_native).items() if inspect.isclass(each)}
NUMBERS = (-1, 0, 1, 7, 2**31, 2**40, 2**62, 2**63, -(2**62), math.nan, math.inf, -1.0, 1e300, 1e-46)
OTHERS = (
    None,
    [],
    (),
    "x",
    {},
    object(),
    True,
    *NUMBERS,
    torch.empty(0),
    torch.tensor(1.0),
    torch.empty(3, 2, dtype=U8),
)


def spoiled(value: Any, draw: random.Random) -> Any:
    """Something else in its place."""
    kind = draw.randrange(10)
    if kind == 0:
        return draw.choice(OTHERS)
    if isinstance(value, torch.Tensor):
        return spoiled_tensor(value, draw)
    if isinstance(value, tuple | list) and value and kind < 8:
        changed = list(value)
        at = draw.randrange(len(changed))
        if draw.randrange(3):
            changed[at] = spoiled(changed[at], draw)
        elif draw.randrange(2):
            changed.pop(at)
        else:
            changed += changed[:1]
        return type(value)(changed)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return draw.choice(("", "gru", "tanh", "scalar", "neon", "\0", "x" * 1000))
    return draw.choice(NUMBERS) if kind < 9 else draw.choice(OTHERS)


def spoiled_tensor(x: torch.Tensor, draw: random.Random) -> Any:
    axis = draw.randrange(x.ndim) if x.ndim else 0
    dtypes = (U8, S8, I32, I64, F32, F16, torch.float64, torch.bool, torch.complex64)
    if x.dtype == I64 and draw.randrange(2):
        return torch.full_like(x, draw.choice((-1, 0, 10, 2**31, 2**62, -(2**63))))
    if x.is_floating_point() and draw.randrange(4) == 0:
        return torch.full_like(x, draw.choice((math.nan, math.inf, -1.0, 0.0, 3e38)))
    changes = (
        lambda: x.to(draw.choice(dtypes)),
        lambda: x[None],
        lambda: x[0] if x.ndim and len(x) else x,
        lambda: x.narrow(axis, 0, 0) if x.ndim else x,
        lambda: x.narrow(axis, 0, 1) if x.numel() else x,
        lambda: torch.cat([x, x], axis) if x.ndim else x,
        lambda: torch.cat([x, x], axis).unfold(axis, 1, 2).squeeze(-1) if x.numel() else x,
        lambda: x.transpose(0, axis) if x.ndim else x,
        lambda: x.contiguous(),
        lambda: x.flatten()[:1].expand(x.shape) if x.numel() else x,
        lambda: x.flatten()[:1].expand(draw.choice((2**31, 2**40, 2**62))) if x.numel() else x,
        lambda: torch.empty((0, 2**33, 2**20), dtype=x.dtype)[:, :1] if x.ndim else x,
        lambda: x.to("meta"),
        lambda: x.to_sparse() if x.ndim and x.dtype == F32 else x,
        lambda: torch.empty_like(x).flatten().as_strided((2, 2, 2), (1, 1, 5)) if x.numel() >= 8 else x,
        lambda: x.reshape(*([1] * 9), *x.shape),
    )
    try:
        return draw.choice(changes)()
    except (RuntimeError, NotImplementedError):
        return x  # a change that torch itself does not make


def drawn_plan(k: Any, other: Any, t: Tensors, draw: random.Random) -> list[str]:
    """A plan of drawn nodes with good and spoiled arguments, bound and run; what was done."""
    done: list[str] = []
    plan, q = k.plan(), (0.1, 3)
    maker = k if draw.randrange(8) else other
    linear, conv = (
        maker.linear(*weights(t, 7, 6)),
        maker.conv(*weights(t, 4, 4, 1, 1, 1), *[(1, 1, 1), (0, 0, 0), (1, 1, 1)], 1),
    )
    norm = (t(F32, 6), t(F32, 6), [6], 1e-5)
    integers, floats, rest = [plan.input(1)], [plan.input(4)], [plan.input(8)]
    one, window = (1, 1, 1), ((1, 2, 2), (1, 1, 1), (0, 1, 1))

    def some(values: list[int]) -> int:
        return draw.choice(values if draw.randrange(25) else (*integers, *floats, *rest, -1, 100))

    def nodes() -> dict[str, tuple[Any, ...]]:
        i, f = some(integers), some(floats)
        axis = draw.randint(-4, 3)
        return {
            "input": (1,),
            "output": (i,),
            "quantize": (f, q),
            "dequantize": (i, q),
            "conv": ([i], conv, q, q, None, 0, 255, None),
            "linear": ([i, i], linear, q, q, (q, q, True), 3, 200, t(U8, 256)),
            "add": (i, some(integers), q, q, q, True, 0, 255, None),
            "mul": (i, some(integers), q, q, q, False, 0, 255, None),
            "clamp": (i, 3, 200),
            "table": (i, t(U8, 256)),
            "cat": ([i, i], axis, [q, q], q, False),
            "float_chain": ([f, f], norm, "gelu", (linear, False, bool(draw.randrange(2))), bool(draw.randrange(2))),
            "attention": ([f, f, f], None, False),
            "float_embedding": (some(rest), t(F32, 10, 6)),
            "dynamic_linear": (some(rest), f, linear),
            "max_pool": (i, 2, *window, one, False),
            "avg_pool": (i, 2, *window, True, 3, False, 0),
            "adaptive_avg_pool": (i, 2, (0, 1, 2), 3),
            "mean": (i, [axis], True, 3),
            "identity": (i,),
            "contiguous": (f,),
            "reshape": ([i, i], [(0, 1, 0), (-1, -1, 0), (1, -1, 0)]),
            "flatten": (i, 0, -1),
            "permute": (i, [0, 2, 3, 1]),
            "transpose": (f, axis, 0),
            "squeeze": (i, axis),
            "unsqueeze": (i, axis),
            "select": (i, axis, 0),
            "slice": (f, axis, draw.randint(-3, 2), draw.choice((None, 1, 2)), 1),
            "chunk": (i, 2, axis, 1),
        }

    floating = {"dequantize", "float_embedding", "dynamic_linear", "contiguous", "transpose", "slice", "attention"}
    for _ in range(draw.randint(1, 8)):
        name, arguments = draw.choice(list(nodes().items()))
        arguments = arguments if name in ("input", "output") else (f"n{len(done)}", *arguments)
        if draw.randrange(3) == 0:
            at = draw.randrange(len(arguments))
            arguments = (*arguments[:at], spoiled(arguments[at], draw), *arguments[at + 1 :])
        done.append(f"p.{name}{shown(arguments)}")
        log(" ".join(done))
        try:
            made = getattr(plan, name)(*arguments)
        except REFUSED:
            continue
        if name == "float_chain":
            floats.append(made[0])
            rest.append(made[1])
        elif made is not None:
            (floats if name in floating else integers).append(made)
    sizes = draw.choice(
        ((2, 4, 3, 6), (1, 4, 1, 6), (2, 6), (0, 4, 3, 6), (1, 1, 1, 6), (2**20, 2**20, 2**20, 6), (-1, 6), (2**40,))
    )
    extents: list[Any] = []
    for x in (sizes, sizes, sizes[:1]):
        strides = [math.prod(x[d + 1 :]) for d in range(len(x))]
        extents.append((list(x), strides if draw.randrange(10) else [draw.choice((0, -1, 2**62)) for _ in x]))
    log(" ".join([*done, f"p.bind({extents})"]))
    for _ in range(2):
        try:
            program = plan.bind(extents if draw.randrange(10) else spoiled(extents, draw))
            outputs = program.outputs()
            program.accesses()
            if math.prod(map(abs, sizes)) > 10**6:
                return done
            inputs = [t(dtype, *x[0], high=5) for dtype, x in zip((U8, F32, I64), extents, strict=True)]
            results = [
                t(F32 if real else U8, math.prod(size)).as_strided(size, stride) for size, stride, real in outputs
            ]
            arguments = [inputs, results, 2, bool(draw.randrange(2))]
            if draw.randrange(4) == 0:
                at = draw.randrange(4)
                arguments[at] = spoiled(arguments[at], draw)
            program.run(*arguments)
        except REFUSED:
            pass
    return done


def shown(arguments: Any) -> str:
    if isinstance(arguments, torch.Tensor):
        return f"{arguments.dtype}{tuple(arguments.shape)}"
    if isinstance(arguments, tuple | list):
        return f"({', '.join(map(shown, arguments))})"
    return repr(arguments)[:40]


def log(line: str) -> None:
    LOG.seek(0)
    LOG.truncate()
    LOG.write(line)
    LOG.flush()


def main(isa: str, seed: int, count: int) -> None:
    k, draw = _native.kernels(isa), random.Random(seed)
    other = _native.kernels(next((each for each in _native.supported_isas() if each != isa), isa))
    methods = {(type(owner).__name__, name) for owner, name, _ in kernels_calls(k, Tensors(0))}
    for name, each in CLASSES.items():
        left = {m for m in dir(each) if not m.startswith("_") and m != "name"} - {
            m for owner, m in methods if owner == name
        }
        assert not left or name in ("Plan", "Program"), f"{name} has methods that no call is made of: {left}"
        for make in (each, lambda each=each: each.__new__(each)):
            try:
                make()
                raise AssertionError(f"{name} was made by hand")
            except TypeError:
                pass
    for number in range(count):
        if number % 25 == 0:
            t = Tensors(number)
            calls = kernels_calls(k, t)
        if number % 3 == 0:
            what = " ".join(drawn_plan(k, other, t, draw))
        else:
            owner, name, arguments = draw.choice(calls)
            given = list(arguments)
            for _ in range(draw.choice((0, 1, 1, 1, 2))):
                if given:
                    at = draw.randrange(len(given))
                    given[at] = spoiled(given[at], draw)
            what = f"{type(owner).__name__}.{name}{shown(given)}"
            log(what)
            try:
                getattr(owner, name)(*given)
            except REFUSED:
                assert any(new is not old for new, old in zip(given, arguments, strict=True)), f"{what} is refused"
        assert t.intact(), f"{what} wrote around a tensor"


if __name__ == "__main__":
    LOG = open(sys.argv[4], "w")  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
