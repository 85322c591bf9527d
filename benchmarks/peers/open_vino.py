"""OpenVINO on the CPU: one stream, the latency hint, an infer request used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.models import Inputs, Model
from benchmarks.peers import onnx_files


def nncf(precision: str | None) -> Callable[[Model, Inputs, int], Callable[[], Any]]:
    """Quantized by NNCF; what stays float runs in `precision`, None: as OpenVINO chooses (bfloat16 where there is)."""

    def build(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
        import nncf as nn_compression
        import openvino

        transformer = nn_compression.ModelType.TRANSFORMER if model.kind == "text" else None
        data = nn_compression.Dataset(model.calibration(), lambda batch: [each.numpy() for each in batch])
        quantized = nn_compression.quantize(
            openvino.Core().read_model(onnx_files.float_file(model)),
            data,
            preset=nn_compression.QuantizationPreset.MIXED,
            model_type=transformer,
            subset_size=3,
        )
        return _request(quantized, inputs, threads, precision)

    return build


def qdq(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """ONNX Runtime's quantized file, read as it is."""
    import openvino

    return _request(openvino.Core().read_model(onnx_files.static_file(model)), inputs, threads, "f32")


def _request(model: Any, inputs: Inputs, threads: int, precision: str | None) -> Callable[[], Any]:
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",
    }
    if precision is not None:
        options["INFERENCE_PRECISION_HINT"] = precision
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    feeds = [each.numpy() for each in inputs]
    return lambda: torch.from_numpy(request.infer(feeds, share_inputs=True, share_outputs=True)[0])
