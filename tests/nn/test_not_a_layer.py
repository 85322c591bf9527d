"""What makes layers of other layers, given what is none, and constructors given what is no size: qcore's errors."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

import qcore
from tests.fuzz.entries import python_entries

MAKERS = "from_float", "from_reference", "from_observed", "from_params", "around"
GIVEN = (
    lambda: None,
    lambda: 3,
    lambda: "Linear",
    object,
    lambda: nn.Linear,
    lambda: [nn.Linear(2, 2)],
    lambda: torch.ones(2, 2),
    nn.Module,
    nn.ReLU,
    nn.Sequential,
    lambda: nn.Bilinear(2, 2, 2),
    lambda: qcore.quantize_per_tensor(torch.ones(2), 1.0, 0, qcore.quint8),
)
ENTRIES = {entry.name: entry.call for entry in python_entries() if entry.name.startswith("qcore.nn.")}
METHODS = {name: call for name, call in ENTRIES.items() if name.rpartition(".")[2] in MAKERS}
PARTS = dict.fromkeys(("from_reference", "from_params", "around"), 2)
"""How many arguments the methods have beside the layer."""
LAYERS = {name: call for name, call in ENTRIES.items() if isinstance(call, type) and issubclass(call, nn.Module)}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_no_layer(name):
    rng = random.Random(name)
    for make in GIVEN:
        rest = [rng.choice(GIVEN)() for _ in range(PARTS.get(name.rpartition(".")[2], 0))]
        try:
            METHODS[name](make(), *rest)
        except qcore.QcoreError as error:
            assert len(str(error)) > 15
        except TypeError as error:
            assert "positional argument" in str(error)  # a signature with fewer places


@pytest.mark.parametrize("name", [name for name in LAYERS if ".qat." in name or ".quantizable.L" in name])
def test_what_is_no_size(name):
    rng = random.Random(name)
    qconfig = qcore.api.qconfig.get_default_qat_qconfig()
    for _ in range(20):
        sizes = [rng.choice((*GIVEN, lambda: 4, lambda: 4, lambda: -1, lambda: 2**70, lambda: 0.5))() for _ in range(3)]
        try:
            LAYERS[name](*sizes, **({"qconfig": qconfig} if ".qat." in name else {}))
        except qcore.QcoreError as error:
            assert len(str(error)) > 15
