"""int8 linear and convolution of fbgemm_x86 on each instruction set, beside torch: `python -m benchmarks.gemm`.

One pinned thread; systems take turns in short blocks; the figure is the median of the best times of blocks. The peak
is that of the inner loop of the GEMM on operands in the L1 cache, measured before each block, so that changes of the
clock do not count.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from qcore_fbgemm_x86.backend import FbgemmX86

from benchmarks.rounds import best_time, pin
from qcore import operators as ops
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor

LINEARS = [(128, 384, 384), (128, 384, 1536), (128, 768, 768), (128, 3072, 768), (1, 512, 2048), (1024, 1024, 1024)]
"""rows, in, out"""


class ConvShape(NamedTuple):
    """A convolution with padding of half the kernel."""

    channels: int
    size: int
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    batch: int = 1

    def __str__(self) -> str:
        parts = [f"{self.channels}x{self.size}^2 -> {self.outputs}, {self.kernel[0]}x{self.kernel[1]}"]
        parts += [
            f"{name} {getattr(self, name)}"
            for name in ("stride", "groups", "dilation", "batch")
            if getattr(self, name) != 1
        ]
        return " ".join(parts)


CONVS = [
    ConvShape(3, 224, 64, (7, 7), 2),
    ConvShape(64, 56, 64),
    ConvShape(256, 14, 256),
    ConvShape(256, 14, 1024, (1, 1)),
    ConvShape(24, 56, 144, (1, 1)),
]
DEPTHWISE = [
    ConvShape(channels, size, channels, (width, width), stride, channels)
    for channels, size, width, stride in [
        (32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (192, 28, 3, 1), (384, 14, 3, 1), (576, 14, 3, 2),
        (960, 7, 3, 1), (120, 28, 5, 1), (240, 28, 5, 2), (672, 14, 5, 1),
    ]
]  # fmt: skip
ODD = [
    ConvShape(64, 28, 64),
    ConvShape(61, 28, 67),
    ConvShape(64, 28, 64, (1, 7)),
    ConvShape(64, 28, 64, (7, 1)),
    ConvShape(64, 28, 64, dilation=2),
    ConvShape(64, 28, 64, batch=3),
    ConvShape(32, 28, 32),
    ConvShape(64, 28, 64, groups=2),
    ConvShape(58, 28, 58, (1, 1), groups=2),
    *(
        ConvShape(channels, size, channels, groups=32)
        for channels, size in [(128, 56), (256, 28), (512, 14), (1024, 7)]
    ),
    ConvShape(256, 56, 256, stride=2, groups=32),
    ConvShape(64, 28, 64, groups=64),
    ConvShape(61, 28, 61, groups=61),
    ConvShape(64, 28, 64, (1, 7), groups=64),
    ConvShape(64, 28, 64, (7, 1), groups=64),
    ConvShape(64, 28, 64, (5, 5), groups=64),
    ConvShape(64, 28, 64, dilation=2, groups=64),
    ConvShape(64, 28, 64, groups=64, batch=3),
]
"""Shapes that no model of the comparison has, each beside a neighbour"""
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


def conv(*shape: Any) -> tuple[int, dict[str, Any]]:
    """Multiplications and the calls to time."""
    c = ConvShape(*shape)
    weight = torch.randint(-128, 128, (c.outputs, c.channels // c.groups, *c.kernel), dtype=torch.int8)
    bias = torch.randn(c.outputs)
    x = torch.randint(0, 256, (c.batch, c.channels, c.size, c.size), dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    padding = [width // 2 * c.dilation for width in c.kernel]
    geometry = [c.stride] * 2, padding, [c.dilation] * 2
    operator = ops.Conv(weight, QW, bias, False, *map(tuple, geometry), c.groups)
    packed = torch.ops.quantized.conv2d_prepack(
        torch._make_per_tensor_quantized_tensor(weight, 0.01, 0), bias, *geometry, c.groups
    )
    theirs = torch._make_per_tensor_quantized_tensor(x, 0.05, 3)
    macs = torch.ops.quantized.conv2d(theirs, packed, 1.0, 100).numel() * weight[0].numel()
    return macs, _calls(operator, x) | {"torch": lambda: torch.ops.quantized.conv2d(theirs, packed, 1.0, 100)}


def _calls(operator: Any, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    def call(isa: str) -> Callable[[], Any]:
        kernel = FbgemmX86().build(operator, isa=isa)
        return lambda: kernel(x, QX, OUT)

    return {isa: call(isa) for isa in FbgemmX86().supported_isas()}


CASES: dict[str, tuple[Callable[..., tuple[int, dict[str, Any]]], list[Any]]] = {
    "linear": (linear, LINEARS),
    "conv": (conv, CONVS),
    "depthwise": (conv, DEPTHWISE),
    "odd": (conv, ODD),
}


def peak_rate(isa: str) -> float:
    """Multiplications a second of the inner loop of the GEMM."""
    native = FbgemmX86().kernels(isa)
    done = native.peak(200) * 64
    return done / best_time(lambda: native.peak(200), 0.02)


def main() -> None:
    """Print a line for each shape and system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=float, default=0.05, help="seconds of a block")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--isa", nargs="+", help="of these instruction sets only (default: all that the CPU has)")
    options = parser.parse_args()
    pin(1)
    warnings.filterwarnings("ignore", message=".*deprecat.*")
    torch.backends.quantized.engine = "fbgemm"
    print(f"{'shape':50}{'system':14}{'microseconds':>13}{'GOPS':>8}{'of peak':>9}{'x torch':>9}")
    cases = [(name, shape) for name in options.only for shape in CASES[name][1]]
    for name, shape in cases:
        macs, calls = CASES[name][0](*shape)
        if options.isa:
            calls = {system: calls[system] for system in (*options.isa, "torch")}
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
                f"{name + ' ' + str(shape):50}{system:14}{elapsed * 1e6:13.1f}{2 * macs / elapsed / 1e9:8.0f}"
                f"{statistics.median(shares[system]):9.0%}{ratio:9.2f}"
            )


if __name__ == "__main__":
    main()
