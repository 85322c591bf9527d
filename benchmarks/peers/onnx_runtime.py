"""ONNX Runtime on the CPU, all graph optimizations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import Inputs, Model
from benchmarks.peers import onnx_files


def static(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """The file with QuantizeLinear and DequantizeLinear."""
    return _session(onnx_files.static_file(model), inputs, threads)


def dynamic(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """The file with activations quantized in each call."""
    return _session(onnx_files.dynamic_file(model), inputs, threads)


def _session(path: Path, inputs: Inputs, threads: int) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {f"input{i}": each.numpy() for i, each in enumerate(inputs)}
    return lambda: torch.from_numpy(session.run(None, feeds)[0])
