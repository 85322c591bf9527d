"""Instructions of int8 linear and convolution on ARM, beside XNNPACK's: `python -m benchmarks.arm_instructions [FILE]`.

Counted in the emulator of tools/arm, whose seconds mean nothing; counts repeat to a few thousand. One thread,
requantization included. XNNPACK is Debian's (int8 activations, weights per tensor), with dot products where the
emulated CPU has them.
With FILE (docs/arm.md) the table is also written there, between `<!-- counts -->` and `<!-- end -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
ARM, HERE, MACHINE = ROOT / "tools/arm", ROOT / "benchmarks/arm", ROOT / ".cache/arm"
SHAPES = {
    "linear 128x768x768": (768, 128, 1, 768, 1, 1, 1),
    "linear 128x384x1536": (384, 128, 1, 1536, 1, 1, 1),
    "linear 128x3072x768": (3072, 128, 1, 768, 1, 1, 1),
    "linear 1x512x2048": (512, 1, 1, 2048, 1, 1, 1),
    "conv 3x3 64-64, 28x28": (64, 28, 28, 64, 3, 1, 1),
    "conv 3x3 128-128, 14x14": (128, 14, 14, 128, 3, 1, 1),
    "conv 1x1 256-64, 14x14": (256, 14, 14, 64, 1, 1, 1),
    "conv 1x1 24-144, 28x28": (24, 28, 28, 144, 1, 1, 1),
    "depthwise 3x3 144, 28x28": (144, 28, 28, 144, 3, 1, 144),
    "depthwise 5x5 96, 14x14": (96, 14, 14, 96, 5, 1, 96),
}
"""channels, height, width, outputs, kernel, stride, groups; of a linear layer the height is the rows"""
WITH_DOT, WITHOUT_DOT = "max,sme=off", "a64fx"
SYSTEMS = {
    "qcore i8mm": ("neon_i8mm", WITH_DOT),
    "qcore dot": ("neon_dot", WITH_DOT),
    "XNNPACK dot": ("xnnpack", WITH_DOT),
    "qcore NEON": ("neon", WITHOUT_DOT),
    "XNNPACK NEON": ("xnnpack", WITHOUT_DOT),
    "torch qnnpack": ("torch", WITHOUT_DOT),
}


def build(folder: Path) -> None:
    """The plugin for the emulator, and for the emulated machine the markers and the program that runs XNNPACK."""
    libraries = MACHINE / "root/usr/lib/aarch64-linux-gnu"
    shared = ["-shared", "-fPIC", "-O2"]
    link = [f"-L{libraries}", f"-Wl,-rpath-link,{libraries}", "-lXNNPACK", "-lpthreadpool"]
    for command in (
        ["cc", *shared, HERE / "count.c", "-o", folder / "count.so"],
        [ARM / "g++", *shared, "-x", "c", HERE / "markers.c", "-o", folder / "markers.so"],
        [ARM / "g++", "-O2", HERE / "xnnpack.cpp", "-o", folder / "xnnpack", *link],
    ):
        subprocess.run(command, check=True)


def counts(folder: Path, system: str, cpu: str) -> list[int]:
    """Instructions of every shape."""
    out = folder / "counts"
    shapes = [",".join(map(str, shape)) for shape in SHAPES.values()]
    plugin = f"-plugin {folder / 'count.so'},out={out}"
    environment = os.environ | {"QEMU_CPU": cpu, "OMP_NUM_THREADS": "1", "QCORE_ARM_QEMU": plugin}
    if system == "xnnpack":
        command = [ARM / "emulate", folder / "xnnpack"]
    else:
        command = [ARM / "python", HERE / "emulated.py", folder / "markers.so", system]
    subprocess.run([*command, *shapes], check=True, env=environment)
    counted = [int(line) for line in out.read_text().split()]
    if system == "xnnpack":
        return counted
    return [work - empty for work, empty in zip(counted[::2], counted[1::2], strict=True)]


def write(file: Path, rows: list[list[str]]) -> None:
    """Put the rows into the file's table."""
    lines = [["shape", *SYSTEMS], ["---"] + ["---:"] * len(SYSTEMS), *rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    text, count = re.subn(r"(<!-- counts -->\n).*?(<!-- end -->)", rf"\1{table}\2", file.read_text(), flags=re.DOTALL)
    assert count == 1, f"{file} has {count} places for the table"
    file.write_text(text)


def main() -> None:
    """Count, then print the table."""
    table = Table("shape", *SYSTEMS, title="million instructions on 64-bit ARM")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        columns = [counts(Path(folder), *system) for system in SYSTEMS.values()]
    rows = [
        [name, *(f"{count / 1e6:.3f}" for count in row)]
        for name, row in zip(SHAPES, zip(*columns, strict=True), strict=True)
    ]
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)
    for file in sys.argv[1:]:
        write(Path(file), rows)


if __name__ == "__main__":
    main()
