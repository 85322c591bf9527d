"""int8 linear and convolution of fbgemm_x86 on each instruction set, beside torch: `python -m benchmarks.gemm`.

One pinned thread; systems take turns in short blocks; the figure is the median of the best times of blocks. The peak
is that of the dot product instruction alone, measured before each block, so that changes of the clock do not count.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import torch
from qcore_fbgemm_x86.backend import FbgemmX86

from benchmarks.rounds import best_time, pin
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor

LINEARS = [(128, 384, 384), (128, 384, 1536), (128, 768, 768), (128, 3072, 768), (1, 512, 2048), (1024, 1024, 1024)]
"""rows, in, out"""
CONVS = [
    (3, 224, 64, 7, 2, 1),
    (64, 56, 64, 3, 1, 1),
    (256, 14, 256, 3, 1, 1),
    (256, 14, 1024, 1, 1, 1),
    (24, 56, 144, 1, 1, 1),
    (96, 112, 96, 3, 2, 96),
    (384, 14, 384, 3, 1, 384),
]
"""in channels, height and width, out channels, kernel, stride, groups"""
QX, OUT, QW = per_tensor(0.05, 3, quint8), per_tensor(1.0, 100, quint8), per_tensor(0.01, 0, qint8)


def linear(rows: int, features: int, outputs: int) -> tuple[int, dict[str, Callable[[], Any]]]:
    """Multiplications and the calls to time."""
    weight = torch.randint(-128, 128, (outputs, features), dtype=torch.int8)
    bias, x = torch.randn(outputs), torch.randint(0, 256, (rows, features), dtype=torch.uint8)
    operator = ops.Linear(weight, QW, bias)
    packed = torch.ops.quantized.linear_prepack(torch._make_per_tensor_quantized_tensor(weight, 0.01, 0), bias)
    theirs = torch._make_per_tensor_quantized_tensor(x, 0.05, 3)
    return rows * features * outputs, _calls(operator, x) | {
        "torch": lambda: torch.ops.quantized.linear(theirs, packed, 1.0, 100)
    }


def conv(channels: int, size: int, outputs: int, kernel: int, stride: int, groups: int) -> tuple[int, dict[str, Any]]:
    """Multiplications and the calls to time."""
    weight = torch.randint(-128, 128, (outputs, channels // groups, kernel, kernel), dtype=torch.int8)
    bias = torch.randn(outputs)
    x = torch.randint(0, 256, (1, channels, size, size), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    geometry = [stride] * 2, [kernel // 2] * 2, [1] * 2
    operator = ops.Conv(weight, QW, bias, False, *map(tuple, geometry), groups)
    packed = torch.ops.quantized.conv2d_prepack(
        torch._make_per_tensor_quantized_tensor(weight, 0.01, 0), bias, *geometry, groups
    )
    theirs = torch._make_per_tensor_quantized_tensor(x, 0.05, 3)
    pixels = ((size - kernel + 2 * (kernel // 2)) // stride + 1) ** 2
    return pixels * weight.numel(), _calls(operator, x) | {
        "torch": lambda: torch.ops.quantized.conv2d(theirs, packed, 1.0, 100)
    }


def _calls(operator: Any, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    def call(isa: str) -> Callable[[], Any]:
        kernel = FbgemmX86().build(operator, isa=isa)
        return lambda: kernel(x, QX, OUT)

    return {isa: call(isa) for isa in FbgemmX86().supported_isas()}


def peak_rate(isa: str) -> float:
    """Multiplications a second of the dot product instruction alone."""
    native = FbgemmX86().kernels(isa)
    done = native.peak(20_000) * 64
    return done / best_time(lambda: native.peak(20_000), 0.02)


def main() -> None:
    """Print a line for each shape and system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=float, default=0.05, help="seconds of a block")
    options = parser.parse_args()
    pin(1)
    warnings.filterwarnings("ignore", message=".*deprecat.*")
    torch.backends.quantized.engine = "fbgemm"
    print(f"{'shape':38}{'system':14}{'microseconds':>13}{'GOPS':>8}{'of peak':>9}{'x torch':>9}")
    cases = [("linear", linear, shape) for shape in LINEARS] + [("conv", conv, shape) for shape in CONVS]
    for name, build, shape in cases:
        macs, calls = build(*shape)
        times: dict[str, list[float]] = {system: [] for system in calls}
        shares: dict[str, list[float]] = {system: [] for system in calls}
        for _ in range(options.rounds):
            for system, call in calls.items():
                peak = peak_rate(system if system != "torch" else FbgemmX86().supported_isas()[0])
                times[system].append(best_time(call, options.block))
                shares[system].append(macs / times[system][-1] / peak)
        for system in calls:
            elapsed = statistics.median(times[system])
            ratio = statistics.median(t / ours for t, ours in zip(times["torch"], times[system], strict=True))
            print(
                f"{name + ' ' + str(shape):38}{system:14}{elapsed * 1e6:13.1f}{2 * macs / elapsed / 1e9:8.0f}"
                f"{statistics.median(shares[system]):9.0%}{ratio:9.2f}"
            )


if __name__ == "__main__":
    main()
