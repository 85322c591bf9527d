"""A quantized graph compiled for ONNX Runtime: its session is made when it is first called."""

from __future__ import annotations

import os
import threading
from typing import Any

import torch
from torch import Tensor

from qcore.graph.ir import Graph
from qcore.onnx import export_graph

PROVIDERS = "QCORE_ONNXRUNTIME_PROVIDERS"
"""Environment variable: execution providers, best first, with commas between; the CPU's is always the last."""


def providers() -> list[str]:
    """The execution providers to use."""
    asked = [name for name in os.environ.get(PROVIDERS, "").split(",") if name]
    return [*asked, *({"CPUExecutionProvider"} - set(asked))]


class Plan:
    """Plain tensors in the order of the graph's inputs -> a tuple of its outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._sessions: dict[tuple[int, ...], Any] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Sizes may change from call to call; there is a session for each number of dimensions."""
        ranks = tuple(each.ndim for each in inputs)
        with self._lock:
            if ranks not in self._sessions:
                self._sessions[ranks] = self._open(ranks)
        session = self._sessions[ranks]
        feeds = {each.name: x.contiguous().numpy() for each, x in zip(session.get_inputs(), inputs, strict=True)}
        return tuple(torch.from_numpy(each) for each in session.run(None, feeds))

    def _open(self, ranks: tuple[int, ...]) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        model = export_graph(self.graph, ranks, unsigned_weights=True)
        return onnxruntime.InferenceSession(model, options, providers=providers())

    def __str__(self) -> str:
        return f"ONNX Runtime on {', '.join(providers())}\n{self.graph}"
