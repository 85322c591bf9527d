"""Code written for torch.ao gives what it gives there, on torch as it is and where each line of its stack raises."""

from __future__ import annotations

import pytest

from tests import oracle
from tests.compat.results import differences, results
from tests.vision_models import torchvision_models

pytestmark = [
    pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing()),
    pytest.mark.skipif(not oracle.vectorized(), reason="torch does not use its vector code here"),
]
SMALL = ("dynamic", "eager", "graphs", "operators", "suites")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def theirs(folder):
    return results("torch", folder, *SMALL)


@pytest.mark.parametrize("mode", ["installed", "raising", "removed"])
def test_callers_get_what_torch_gives_them(mode, folder, theirs):
    ours = results(mode, folder, *SMALL)
    assert ours.keys() == theirs.keys() and len(theirs) >= 30
    for name, expected in theirs.items():
        assert not isinstance(expected, str), f"the oracle fails at {name}: {expected}"
        assert not isinstance(ours[name], str), f"{name}: {ours[name]}"
        assert differences(ours[name], expected) == [], name


def test_torchvisions_nets_are_those_of_torch(folder):
    torchvision_models()  # skips where they are not installed
    theirs = results("torch", folder, "vision")
    ours = results("installed", folder, "vision")
    for name, expected in theirs.items():
        assert not isinstance(expected, str), f"the oracle fails at {name}: {expected}"
        assert not isinstance(ours[name], str), f"{name}: {ours[name]}"
        assert differences(ours[name], expected) == [], name
