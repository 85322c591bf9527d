"""A quantized graph compiled for ONNX Runtime: a session for each combination of input sizes, made when needed."""

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
_SESSIONS = 16


def providers() -> list[str]:
    """The execution providers to use."""
    asked = [name for name in os.environ.get(PROVIDERS, "").split(",") if name]
    return [*asked, *({"CPUExecutionProvider"} - set(asked))]


class Plan:
    """Plain tensors in the order of the graph's inputs -> a tuple of its outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._sessions: dict[tuple[Any, ...], Any] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Sizes may change from call to call."""
        sizes = tuple(tuple(each.shape) for each in inputs)
        session = self._sessions.get(sizes)
        if session is None:
            with self._lock:
                session = self._sessions.get(sizes) or self._open(inputs)
                if len(self._sessions) >= _SESSIONS:
                    self._sessions.pop(next(iter(self._sessions)))
                self._sessions[sizes] = session
        names = [each.name for each in session.get_inputs()]
        feeds = {name: each.contiguous().numpy() for name, each in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(each) for each in session.run(None, feeds))

    def _open(self, inputs: tuple[Tensor, ...]) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        model = export_graph(self.graph, tuple(each.contiguous() for each in inputs), unsigned_weights=True)
        return onnxruntime.InferenceSession(model, options, providers=providers())

    def __str__(self) -> str:
        return f"ONNX Runtime on {', '.join(providers())}\n{self.graph}"
