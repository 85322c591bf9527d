"""A seed gives a program."""

from __future__ import annotations

import random
import re
from typing import Any

import torch

from tests.drawn.drawer import Drawer
from tests.drawn.program import Program, Scope
from tests.drawn.vocabulary import CHOICES, WEIGHTS
from tests.drawn.vocabulary.structure import ARGUMENTS

SIZES = ((3, 6), (1, 5), (4, 9))
"""(batch, length) of the example and of further calls."""
INPUTS = {
    "image": "torch.randn(batch, {c}, 8, 8, generator=g)",
    "wide": "torch.randn(batch, {c}, length, 8, generator=g)",
    "volume": "torch.randn(batch, {c}, 4, 4, 4, generator=g)",
    "signal": "torch.randn(batch, {c}, length, generator=g)",
    "rows": "torch.randn(batch, {f}, generator=g)",
    "sequence": "torch.randn(batch, length, {f}, generator=g)",
    "shifted": "torch.randn(batch, length, {f}, generator=g) * 3 + 1",
    "tokens": "torch.randint(0, 16, (batch, length), generator=g)",
}
OFTEN = {"image": 5, "wide": 2, "volume": 1, "signal": 3, "rows": 3, "sequence": 5, "shifted": 1, "tokens": 3}
MASK = "torch.rand(batch, length, generator=g) < 0.8"


def draw(seed: int) -> Program:
    """The program of a seed."""
    rng = random.Random(seed)
    is_sequential = rng.random() < 0.12
    inputs, parameters = _inputs(rng, is_sequential)
    names = [each.split("=")[0] for each in parameters]
    runs = [dict(zip(names, evaluated(inputs, size, seed), strict=False)) for size in SIZES]
    for parameter in parameters[len(inputs) :]:
        name, default = parameter.split("=")
        for run in runs:
            run[name] = eval(default, {"torch": torch})
    torch.manual_seed(seed)
    drawer = Drawer(rng, runs, {})
    drawer.has_containers = not is_sequential
    wanted, tries = min(12, 2 + int(rng.expovariate(0.25))), 0
    while len(drawer.statements) < wanted and tries < 60:
        tries += 1
        operation = rng.choices(CHOICES, WEIGHTS)[0]
        if is_sequential:
            _one_more(drawer, operation)
        else:
            drawer.draw(operation)
    scope = Scope("Drawn", tuple(parameters), tuple(drawer.statements), _result(drawer, names, is_sequential))
    dtype = rng.choice([".bfloat16()", ".double()"]) if rng.random() < 0.015 else ""
    if dtype:
        inputs = [f"({each}){dtype}" if "randn" in each else each for each in inputs]
    return Program(seed, (*drawer.scopes, scope), tuple(inputs), SIZES, is_sequential, dtype, dict(drawer.counted))


def evaluated(inputs: list[str], size: tuple[int, int], seed: int) -> list[Any]:
    batch, length = size
    names = {"torch": torch, "batch": batch, "length": length, "g": torch.Generator().manual_seed(seed)}
    return [eval(each, names) for each in inputs]


def _inputs(rng: random.Random, is_sequential: bool) -> tuple[list[str], list[str]]:
    """Code of each argument, and the parameters of forward: some with defaults, some not given."""
    kinds = rng.choices(list(OFTEN), list(OFTEN.values()), k=1 if is_sequential or rng.random() < 0.7 else 2)
    sizes = {"c": rng.choice([1, 3, 4, 8]), "f": rng.choice([4, 8, 8, 16])}
    inputs = [INPUTS[kind].format(**sizes) for kind in kinds]
    parameters = [f"x{i}" for i in range(len(inputs))]
    if is_sequential:
        return inputs, parameters
    if set(kinds) & {"sequence", "tokens", "shifted"} and rng.random() < 0.25:
        inputs.append(MASK)
        parameters.append("mask")
    if rng.random() < 0.2:
        name, value, _ = rng.choice(ARGUMENTS)
        parameters.append(f"{name}={value}" if rng.random() < 0.7 else name)
        if "=" not in parameters[-1] or rng.random() < 0.6:
            inputs.append(value)
    return inputs, parameters


CALL = re.compile(r"v\d+ = self\.\w+\((v\d+|x0)\)")


def _one_more(drawer: Drawer, operation: Any) -> None:
    """A further module behind the latest value."""
    drawer.exposed = drawer.exposed[-1:]
    drawer.draw(operation, lambda lines: bool(lines) and all(CALL.fullmatch(line) for line in lines))


def _result(drawer: Drawer, names: list[str], is_sequential: bool) -> str:
    rng = drawer.rng
    made = [name for name in drawer.exposed if name not in names and isinstance(drawer.get(name), torch.Tensor)]
    if not made:
        return names[0]
    if is_sequential:
        return made[-1]
    unread = [name for name in made if not drawer.used[name]] or made[-1:]
    if len(unread) == 1 and rng.random() < 0.8:
        return unread[0]
    a, b = unread[0], rng.choice(made)
    rest = unread[-3:]
    return rng.choice(
        [
            ", ".join(rest) + ("," if len(rest) == 1 else ""),
            f"[{', '.join(rest)}]",
            "{" + ", ".join(f"'{chr(97 + i)}': {name}" for i, name in enumerate(rest)) + "}",
            f"Result({a}, {b})",
            f"{{'out': ({', '.join(rest)},), 'size': {a}.shape[0], 'none': None}}",
            f"({a}, [{b}, {a}])",
            f"OrderedDict(first={a}, second={b})",
            unread[-1],
        ]
    )
