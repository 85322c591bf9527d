"""What graph mode quantizes without a module of its own, as a function or a method, in an ONNX file."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore
from qcore.nn import catalog
from tests.fx.forms import FORMS
from tests.fx.test_operators import QCONFIG, Net, example
from tests.onnx.running import flat, run

FUNCTIONS = [
    name
    for name, each in FORMS.items()
    if getattr(each.forms[0], "func", each.forms[0]) not in catalog.mapping("static")  # test_every_module has those
]
OF_ONE_BATCH_SIZE = ("unbind", "expand", "channel_shuffle")
"""These name the batch size, or torch.export fixes it."""


class Together(nn.Module):
    """Models side by side, each with an input of its own."""

    def __init__(self, models):
        super().__init__()
        self.parts = nn.ModuleList(models)

    def forward(self, *inputs):
        return tuple(part(x) for part, x in zip(self.parts, inputs, strict=True))


def converted(name):
    model, x = Net(name, len(FORMS[name].forms) - 1).eval(), example(name)
    prepared = qcore.prepare_fx(model, qcore.QConfigMapping().set_global(QCONFIG), (x,), backend="reference")
    prepared(x.clone())
    return qcore.convert_fx(prepared)


def test_each_function_is_within_a_step(tmp_path):
    model, inputs = Together(map(converted, FUNCTIONS)).eval(), tuple(map(example, FUNCTIONS))
    shapes = [None if name in OF_ONE_BATCH_SIZE else {0: torch.export.Dim.DYNAMIC} for name in FUNCTIONS]
    qcore.export_onnx(model, tmp_path / "all.onnx", inputs, (tuple(shapes),), unsigned_weights=True)
    batch = [x if free is None else torch.cat([x, x.flip(0)]) for x, free in zip(inputs, shapes, strict=True)]
    results, found = model(*(x.clone() for x in batch)), run(tmp_path / "all.onnx", batch)
    assert len(found) == len(FUNCTIONS) > 50
    for name, (expected,), got in zip(FUNCTIONS, map(flat, results), found, strict=True):
        step = float(expected.unique().diff().min())
        torch.testing.assert_close(
            got, expected, atol=1.01 * step, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


class Strange(nn.Module):
    """With a function that ONNX has nothing for."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.special.bessel_j0(self.linear(x))


def test_a_function_without_translation_is_named(tmp_path):
    x = torch.randn(3, 4)
    with pytest.raises(
        qcore.UnsupportedError, match=r"translating node %bessel_j0.*No ONNX function found for .*bessel_j0"
    ):
        qcore.export_onnx(qcore.quantize_dynamic(Strange().eval()), tmp_path / "strange.onnx", (x,))
    assert not list(tmp_path.iterdir())


def test_a_size_that_cannot_be_free_is_named(tmp_path):
    model, x = converted("unbind"), example("unbind")
    torch_says = r"static shape of 4 for dimension .*shape\[0\]|size\(\)\[0\] .*a constant \(4\)"  # 2.13, and 2.9
    with pytest.raises(qcore.UnsupportedError, match=rf"({torch_says})(.|\n)*dynamic_shapes"):
        qcore.export_onnx(model, tmp_path / "unbind.onnx", (x,))
    qcore.export_onnx(model, tmp_path / "unbind.onnx", (x,), ({},))
