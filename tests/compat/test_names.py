"""The list of torch's public names is torch 2.13's, and each name has a home or a reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qcore.compat.layout import inventory, resolve
from qcore.compat.reasons import reason_against
from qcore.compat.refused import refusal

ROOT = Path(__file__).parents[2]


def test_each_name_resolves_and_refusals_give_a_reason():
    refused = 0
    for module, names in inventory().items():
        for name in names:
            message = refusal(resolve(module, name))
            refused += message is not None
            assert message is None or len(message.partition("is not in qcore: ")[2]) > 20, (module, name)
    assert 0 < refused < sum(map(len, inventory().values())) / 2


def test_a_name_without_home_and_reason_is_an_error():
    with pytest.raises(LookupError, match=r"neither torch.ao.quantization.Nothing nor a reason"):
        reason_against("torch.ao.quantization", "Nothing")


def test_operators_that_applications_use_are_there():
    there = [
        name for name in inventory()["torch.ops.quantized"] if refusal(resolve("torch.ops.quantized", name)) is None
    ]
    assert len([name for name in there if "." not in name]) >= 120


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="the list is that of torch 2.13")
def test_the_list_is_that_of_torch_as_it_is():
    # in a process of its own, where nothing of the originals (oracle) was changed
    command = [sys.executable, "-m", "tests.compat.inventory", "--print"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "qcore" / "compat" / "torch_2_13.txt").read_text()
