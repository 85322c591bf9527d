"""The kernel of a module while other threads call it and write to it, played at the points where they could come in."""

from __future__ import annotations

from types import SimpleNamespace

import torch

import qcore
from qcore.nn.quantized import Linear

DTYPES = (qcore.quint8, qcore.qint8)


class Called(Linear):
    """After each attribute that is set, and while a kernel is built, another thread's turn comes."""

    turn = None

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if self.turn is not None and "set" in self.turn:
            self.__dict__["turn"] = None
            for dtype in DTYPES:
                assert self._ready(dtype)[0] is dtype, name
            self.__dict__["turn"] = "set"

    def binding(self, input=qcore.quint8):
        return SimpleNamespace(build=lambda hidden: self.build(input))

    def build(self, dtype):
        weight = self.weight().int_repr().clone()
        turn, self.__dict__["turn"] = self.turn, None
        if turn == "write":
            self.set_weight_bias(qcore.quantize_per_tensor(torch.ones(2, 2), 1.0, 0, qcore.qint8), None)
        elif turn == "write in place":
            self._raw.fill_(1)
        else:
            self.__dict__["turn"] = turn
        return dtype, weight


def test_a_kernel_is_never_paired_with_another_dtype():
    module = Called(2, 2)
    module.__dict__["turn"] = "set"
    for dtype in (*DTYPES, *DTYPES):
        assert module._ready(dtype)[0] is dtype


def test_a_weight_that_is_written_while_its_kernel_is_built_is_taken():
    for turn in ("write", "write in place"):
        module = Called(2, 2)
        module.__dict__["turn"] = turn
        module._ready()
        assert torch.equal(module._ready()[1], torch.ones(2, 2, dtype=torch.int8)), turn
