"""What the examples share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qcore


def usable_backends() -> list[str]:
    """Names of the backends that can run here."""
    return [status.name for status in qcore.registry.statuses() if status.usable]


def fit(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    epochs: int,
    rate: float,
    before_epoch: Callable[[int], object] = lambda epoch: None,
) -> None:
    """Train a classifier in place, and leave it in eval mode; logits are (..., classes), labels (...)."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for epoch in range(epochs):
        model.train()
        before_epoch(epoch)
        for chunk in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[chunk]).flatten(0, -2), labels[chunk].flatten()).backward()
            optimizer.step()
    model.eval()


def run(main: Callable[[bool], object], doc: str | None) -> None:
    """Run an example from the command line, on one thread."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data and fewer epochs")
    torch.set_num_threads(1)
    main(parser.parse_args().quick)
