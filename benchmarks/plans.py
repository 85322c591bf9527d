"""What compiling a graph gains: converted nets by their plans and module by module: `python -m benchmarks.plans`.

One pinned thread (or --threads); both levels take turns in short blocks. With --steps, the slowest steps of each plan.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from typing import Any

import torch

import qcore
from benchmarks.models import vision
from benchmarks.rounds import pin, ratio, rotate

NETS = ("resnet18", "resnet50", "mobilenet_v2")


def converted(model: Any) -> Any:
    """The model prepared, calibrated and converted."""
    batches = model.calibration()
    prepared = qcore.prepare_fx(copy.deepcopy(model.module), None, batches[0])
    with torch.inference_mode():
        for batch in batches:
            prepared(*batch)
    return qcore.convert_fx(prepared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=NETS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--steps", type=int, default=0)
    arguments = parser.parse_args()
    pin(arguments.threads)
    for name in arguments.nets:
        net = vision(name)
        model, inputs = converted(net), net.inputs(arguments.batch, 0)

        def by_modules(model: Any = model, inputs: Any = inputs) -> Any:
            with qcore.on_modules():
                return model(*inputs)

        def by_plan(model: Any = model, inputs: Any = inputs) -> Any:
            return model(*inputs)

        with torch.inference_mode():
            assert torch.equal(by_plan(), by_modules())
            times = rotate({"plan": by_plan, "modules": by_modules}, arguments.rounds, arguments.seconds)
            plan, modules = (statistics.median(times[each]) * 1e3 for each in ("plan", "modules"))
            gain = ratio(times, "modules", "plan")
            print(f"{name}: plan {plan:.2f} ms, modules {modules:.2f} ms, ratio {gain:.3f}", flush=True)
            if arguments.steps:
                found = qcore.profile(model, inputs)
                for label, seconds in sorted(found.rows, key=lambda row: -row[1])[: arguments.steps]:
                    print(f"{seconds * 1e6:10.1f} us  {label}")


if __name__ == "__main__":
    main()
