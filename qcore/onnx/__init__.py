"""Converted models as ONNX: QuantizeLinear and DequantizeLinear around float operators, weights in integers."""

from __future__ import annotations

from qcore.onnx.export import export_graph, export_onnx

__all__ = ["export_graph", "export_onnx"]
