"""Where the time of a call goes: the steps of compiled parts, and the calls between them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import fx, nn

from qcore.errors import ArgumentTypeError
from qcore.fx.graph_module import QuantizedGraphModule
from qcore.graph.execution import Part, execution_of, item
from qcore.tensor.arguments import check_whole


@dataclass(frozen=True)
class Profile:
    """Seconds of each step of a call, in order; `total`: of a whole call, measured by itself. str() is a table."""

    rows: tuple[tuple[str, float], ...]
    total: float

    def __str__(self) -> str:
        whole = sum(seconds for _, seconds in self.rows) or 1.0
        lines = [f"{seconds * 1e6:10.1f} us {seconds / whole:6.1%}  {label}" for label, seconds in self.rows]
        return "\n".join([*lines, f"{self.total * 1e6:10.1f} us         a whole call"])


def profile(model: nn.Module, inputs: tuple[Any, ...], calls: int = 10) -> Profile:
    """The time of each step of a converted graph model, as it runs, on some inputs (a tuple); medians of `calls` calls.

    Raises ArgumentTypeError for a model that convert_fx, or qcore.compile, did not make, and for other inputs;
    ArgumentError for calls below 1.
    """
    if not isinstance(model, QuantizedGraphModule) or "qcore_runs_on" not in vars(model):
        raise ArgumentTypeError(
            f"profile takes a model from convert_fx, or qcore.compile after convert, not {type(model).__name__}"
        )
    if not isinstance(inputs, tuple):
        given = type(inputs).__name__
        raise ArgumentTypeError(f"profile: inputs must be a tuple, as the model is called with, not {given}")
    check_whole(1, calls=calls)
    model(*inputs)
    code = execution_of(model).code
    timer = _Timer(model if code is None else code)
    timer.run(*inputs)
    runs, totals = [], []
    for _ in range(calls):
        timer.rows = []
        timer.run(*inputs)
        runs.append(timer.rows)
        begin = time.perf_counter()
        model(*inputs)
        totals.append(time.perf_counter() - begin)
    rows = tuple((label, median(run[index][1] for run in runs)) for index, (label, _) in enumerate(runs[0]))
    return Profile(rows, median(totals))


class _Timer(fx.Interpreter):
    """Runs a graph node by node, and keeps the time of each."""

    def __init__(self, code: fx.GraphModule) -> None:
        super().__init__(code)
        self.rows: list[tuple[str, float]] = []

    def run_node(self, n: fx.Node) -> Any:
        begin = time.perf_counter()
        result = super().run_node(n)
        if n.op.startswith("call_") and n.target is not item and not self._took_apart(n):
            self.rows.append((n.name, time.perf_counter() - begin))
        return result

    def _took_apart(self, n: fx.Node) -> bool:
        """Whether a node is a part whose plan tells the time of its steps."""
        part = self.submodules.get(str(n.target)) if n.op == "call_module" else None
        seconds = getattr(part.plan, "seconds", None) if isinstance(part, Part) else None
        if seconds is None or not isinstance(part, Part):
            return False
        arguments, _ = self.fetch_args_kwargs_from_env(n)
        self.rows += seconds(*part.plain(arguments))
        return True
