"""The files that the fuzzer of files spoils: small ones of every kind of model, and those of torch.ao."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

_GOLDEN = Path(__file__).parents[1] / "compat" / "checkpoints" / "golden"
_SAVED = ("graph-Residual", "plain", "single", "tables-4", "tables-8", "eager-ConvNet", "dynamic-int8", "parts")

Pair = namedtuple("Pair", "first second")


@dataclass(frozen=True)
class Sample:
    """A file, and what it takes to load it and to call the model."""

    data: bytes
    factory: Callable[[], nn.Module] | None = None
    inputs: tuple[Any, ...] = ()
    allow: tuple[Any, ...] = ()

    @property
    def weight(self) -> float:
        """How often it is drawn: what is small takes less time, and has as much that can be wrong."""
        return 1 / (len(self.data) + 2000)


class Calls(nn.Module):
    """A layer between functions, methods, an assignment to a slice, and one of several results."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("mask", torch.ones(4))

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> Any:
        y = self.fc(x) * self.mask
        y[:, 1:3] = 0.5
        z = y.max(1, keepdim=True).values
        return {"a": torch.cat([y, z], 1).reshape(x.shape[0], -1), "b": [y.softmax(-1) * scale, None], "n": x.shape[1]}


class Tables(nn.Module):
    """Float tables with indices and offsets, a float window, and results that a class of the user's holds."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.table, self.pool = nn.EmbeddingBag(5, 4, mode="sum"), nn.Embedding(5, 4), nn.MaxPool1d(2)
        self.fc = nn.Linear(4, 2)

    def forward(self, index: torch.Tensor, offsets: torch.Tensor) -> Any:
        bags = self.bag(index, offsets) + self.table(index[:2])
        return Pair(self.fc(bags), self.pool(bags).gather(1, index[:2, None] % 2))


class Holding(nn.Module):
    """Code of the user's that reads what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale, self.mask, self.mode = nn.Linear(4, 2), 2.0, torch.ones(2), "mean"
        self.cache: list[Any] = [torch.ones(1), (1, None)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * self.scale * self.mask + self.cache[0] * len(self.cache)


def _graph(model: nn.Module, inputs: tuple[Any, ...], backend: str) -> nn.Module:
    import qcore
    from qcore.api.qconfig_mapping import get_default_qconfig_mapping

    mapping = get_default_qconfig_mapping(backend)
    for name, layer in model.named_children():
        if not isinstance(layer, nn.Linear):
            mapping.set_module_name(name, None)
    prepared = qcore.prepare(model.eval(), qconfig_mapping=mapping, example_inputs=inputs, backend=backend)
    prepared(*inputs)
    return qcore.convert(prepared)


def of_qcore(folder: Path) -> dict[str, Sample]:
    """Files of qcore.save, written here, on the best backend that there is; and of the version of the format before."""
    import qcore
    from tests.api import eager_models
    from tests.api.saved_models import GOLDEN, SAVED, Attending, Recurrent

    factories: dict[str, Callable[[], nn.Module]] = {
        "eager-ConvNet": lambda: eager_models.ConvNet(eager_models.QCORE),
        "dynamic-int8": Recurrent,
        "parts": Attending,
    }
    path, best = folder / "model.qcore", qcore.registry.choose().name
    torch.manual_seed(0)
    found = {}
    for name in _SAVED:
        model, _, inputs = SAVED[name](best)
        qcore.save(model, path)
        found[name] = Sample(path.read_bytes(), factories.get(name), inputs)
    graphs: dict[str, tuple[nn.Module, tuple[Any, ...]]] = {
        "calls": (Calls(), (torch.randn(2, 4), 2.0)),
        "float-tables": (Tables(), (torch.tensor([0, 3, 4]), torch.tensor([0, 2]))),
    }
    for name, (model, inputs) in graphs.items():
        qcore.save(_graph(model, inputs, best), path, allow=[Pair])
        found[name] = Sample(path.read_bytes(), None, inputs, (Pair,))
    qcore.save(qcore.quantize_dynamic(Holding().eval(), backend=best), path)
    found["attributes"] = Sample(path.read_bytes(), Holding, (torch.randn(2, 4),))
    for name in ("graph-Residual", "plain"):
        found[f"{name}-v1"] = Sample((GOLDEN / "v1" / f"{name}.qcore").read_bytes(), None, found[name].inputs)
    return found


def of_torch() -> dict[str, Sample]:
    """The files of torch.ao that the tests keep."""
    return {path.stem: Sample(path.read_bytes()) for path in sorted(_GOLDEN.glob("*.pt"))}
