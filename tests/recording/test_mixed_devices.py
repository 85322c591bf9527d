"""A tensor without numbers among others: torch takes the outline of a custom op then, which writes to no memory."""

from __future__ import annotations

import pytest
import torch

import qcore
from qcore.custom_ops.schema import CALLS, flatten
from tests.fuzz.recorded import cases

CASES = {case.operator.name: (backend, case) for backend, case in reversed(list(cases()))}
"""The first of each operator, of the plainest parameters."""


@pytest.mark.parametrize("name", [kind.name for kind in CALLS if kind.name in CASES])
def test_one_argument_on_meta(name):
    backend, case = CASES[name]
    function = getattr(torch.ops.qcore, name)
    arguments = flatten(case.operator, case.args, backend)
    for spoiled in _with_one_on_meta(list(arguments)):
        with pytest.raises(qcore.errors.ArgumentError, match="devices"):
            function(*spoiled)


def _with_one_on_meta(arguments):
    """The arguments, with each tensor in turn on meta, where there are others."""
    lists = [each if isinstance(each, list | tuple) else [each] for each in arguments]
    places = [(i, j) for i, each in enumerate(lists) for j, x in enumerate(each) if isinstance(x, torch.Tensor)]
    for i, j in places if len(places) > 1 else ():
        changed = [list(each) for each in lists]
        changed[i][j] = changed[i][j].to("meta")
        yield [new if isinstance(old, list | tuple) else new[0] for old, new in zip(arguments, changed, strict=True)]
