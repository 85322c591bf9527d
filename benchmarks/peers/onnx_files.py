"""ONNX files of the models, float and quantized, for the peers that read them; each is made once a process."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import Inputs, Model

FOLDER = tempfile.TemporaryDirectory(prefix="qcore-benchmarks-")


def float_file(model: Model) -> Path:
    """The float model, with a free batch size."""
    path = Path(FOLDER.name) / f"{model.name}.onnx"
    if not path.exists():
        names = [f"input{i}" for i in range(len(model.inputs(1, 0)))]
        torch.onnx.export(
            model.module,
            model.inputs(2, 0),
            str(path),
            input_names=names,
            output_names=["output"],
            dynamo=False,
            opset_version=17,
            dynamic_axes={name: {model.batch_axis: "batch"} for name in [*names, "output"]},
        )
    return path


@lru_cache
def _prepared(path: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    to = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(to), skip_symbolic_shape=True)
    return to


class Reader:
    """Calibration batches as ONNX Runtime and OpenVINO take them."""

    def __init__(self, batches: list[Inputs]) -> None:
        self.left = [{f"input{i}": each.numpy() for i, each in enumerate(batch)} for batch in batches]

    def get_next(self) -> Any:
        """The next batch, None after the last."""
        return self.left.pop(0) if self.left else None


def static_file(model: Model) -> Path:
    """Quantized with QuantizeLinear and DequantizeLinear: per channel, uint8 activations, int8 weights, min-max."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    to = Path(FOLDER.name) / f"{model.name}.static.onnx"
    if not to.exists():
        CalibrationDataReader.register(Reader)
        quantize_static(
            str(_prepared(float_file(model))),
            str(to),
            Reader(model.calibration()),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return to


def dynamic_file(model: Model) -> Path:
    """Weights int8 per channel, activations quantized in each call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    to = Path(FOLDER.name) / f"{model.name}.dynamic.onnx"
    if not to.exists():
        quantize_dynamic(str(_prepared(float_file(model))), str(to), per_channel=True, weight_type=QuantType.QInt8)
    return to
