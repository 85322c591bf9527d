"""python -m qcore.compat script.py args...: run a script written for torch.ao.quantization on qcore."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from qcore.compat.installation import install


def main(arguments: list[str]) -> None:
    """Run a script, or with -m a module, as Python itself would; SystemExit where none is named."""
    if not arguments or (arguments[0] == "-m" and len(arguments) < 2):
        sys.exit("usage: python -m qcore.compat script.py args...   or   python -m qcore.compat -m module args...")
    install()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
