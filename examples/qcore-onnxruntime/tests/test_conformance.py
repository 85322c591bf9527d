"""The ONNX Runtime backend under the kit; each case is a session of its own, so only the written ones."""

from qcore.conformance import Conformance


class TestConformance(Conformance):
    backend = "onnxruntime"
    quick = True
