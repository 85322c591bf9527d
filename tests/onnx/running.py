"""A file checked and run."""

from __future__ import annotations

import pytest
import torch

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def run(path, inputs):
    """All outputs of a file in ONNX Runtime, after the checker has seen it."""
    onnx.checker.check_model(str(path), full_check=True)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    feeds = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
    return [torch.from_numpy(each) for each in session.run(None, feeds)]


def flat(result):
    """The tensors of a model's result, in order."""
    return [each for part in result for each in flat(part)] if isinstance(result, tuple | list) else [result]
