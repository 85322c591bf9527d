"""What is traced, exported or written as ONNX does what the model does, with other sizes too: drawn parts of models."""

from __future__ import annotations

import pytest
import torch

from tests.recording.differential import differences
from tests.recording.drawn import KINDS, part

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:`torch.jit",
        "ignore::DeprecationWarning",
        "ignore:Using padding='same'",
        "ignore::torch.jit.TracerWarning",
    ),
    pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's tracer and exporter need its legacy stack"),
    pytest.mark.skipif(
        torch.torch_version.TorchVersion(torch.__version__) < (2, 13),
        reason="torch's exporter before 2.13 (2.9 is known to) fails at its own checks of free sizes",
    ),
]


@pytest.mark.parametrize("way, count", [("trace", 4 * len(KINDS)), ("export", 2 * len(KINDS)), ("onnx", len(KINDS))])
def test_what_is_recorded_does_what_the_model_does(way, count):
    if way == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert list(differences(way, [part(seed) for seed in range(count)])) == []
