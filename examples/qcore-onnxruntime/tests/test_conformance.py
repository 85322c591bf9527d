"""The ONNX Runtime backend under qcore's conformance kit, held to the one step that it declares."""

import pytest

from qcore.conformance import Conformance

pytest.importorskip("qcore_onnxruntime", reason="torch-qcore-onnxruntime is not installed here")


class TestConformance(Conformance):
    backend = "onnxruntime"
