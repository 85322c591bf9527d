"""`python -m benchmarks models | memory | chart | NAME`: models beside the peers, or one benchmark of this folder."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

COMMANDS = {"models": "compare", "memory": "memory", "chart": "chart"}


def main() -> None:
    """Run the one that is named."""
    name, *arguments = sys.argv[1:] or [""]
    if name in COMMANDS:
        __import__(f"benchmarks.{COMMANDS[name]}", fromlist=["main"]).main(arguments)
    elif (Path(__file__).parent / f"{name}.py").exists() and name:
        sys.argv = [f"{name}.py", *arguments]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    else:
        own = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
        sys.exit(f"{__doc__}\nmodels, memory, chart; single ones: {', '.join(own)}")


if __name__ == "__main__":
    main()
