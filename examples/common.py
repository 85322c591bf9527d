"""What the examples share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

import qcore


def usable_backends() -> list[str]:
    """Names of the backends that can run here."""
    return [status.name for status in qcore.registry.statuses() if status.usable]


def run(main: Callable[[bool], object], doc: str | None) -> None:
    """Run an example from the command line, on one thread."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data and fewer epochs")
    torch.set_num_threads(1)
    main(parser.parse_args().quick)
