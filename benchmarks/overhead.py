"""What a quantized module's call costs above its kernel's, in microseconds: `python -m benchmarks.overhead`.

One thread, layers too small to matter; the fastest of many blocks of calls, each shorter than what a scheduler lets
run at a time. `compiler loaded`: after torch.compile was used in the process.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from typing import Any

import torch

import qcore
from qcore.nn import quantized as nnq
from qcore.nn.quantized import dynamic as nnqd


def per_call(function: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls * 1e6


def pairs(backend: str) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """The call of each module, and that of its kernel alone."""
    found: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    for name, module, shape in (("Linear", nnq.Linear(8, 8), (1, 8)), ("Conv2d", nnq.Conv2d(4, 4, 3), (1, 4, 3, 3))):
        module.backend = backend
        x = qcore.quantize_per_tensor(torch.randn(shape), 0.05, 113, qcore.quint8)
        module(x)
        arguments = (x.raw, x.qparams, module.output_qparams)
        found[name] = (lambda m=module, x=x: m(x), lambda k=module._kernel[0], a=arguments: k(*a))
    dynamic, floats = nnqd.Linear(8, 8), torch.randn(1, 8)
    dynamic.backend = backend
    dynamic(floats)
    found["dynamic Linear"] = (lambda: dynamic(floats), lambda k=dynamic._kernel[0]: k(floats))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--calls", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'module':<18}{'':<18}{'module us':>10}{'kernel us':>10}{'above us':>10}")
    for state in ("", "compiler loaded"):
        if state:
            importlib.import_module("torch._dynamo")
        for name, (module, kernel) in pairs(options.backend).items():
            both = [(per_call(module, options.calls), per_call(kernel, options.calls)) for _ in range(options.rounds)]
            whole, bare = (min(times) for times in zip(*both, strict=True))
            print(f"{name:<18}{state:<18}{whole:>10.2f}{bare:>10.2f}{whole - bare:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
