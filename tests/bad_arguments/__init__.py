"""Calls that must be refused, for every name of the reference's API: `TABLE[home][names]` are expressions, one a line.

In an expression `it` is what is named, `name` its name and `rank` the number in that; the other words are in words.py.
"""

from __future__ import annotations

from tests.bad_arguments import calls, modules

TABLE = modules.TABLE | calls.TABLE

NOTHING_TO_REFUSE = {
    "abstract": {"qcore.api.fake_quantize": "FakeQuantizeBase"},
    "a constant": {"qcore.api.qconfig": "default_.*|per_channel_.*|float.*"},
    "given nothing, or anything": {
        "qcore.api": "QuantStub|DeQuantStub",
        "qcore.nn.quantized": "FXFloatFunctional",
        "qcore.api.fake_quantize": "(dis|en)able_(fake_quant|observer)",
        "qcore.nn.intrinsic.qat": "update_bn_stats|freeze_bn_stats",
    },
    "methods of tensors, tested in tests/tensor": {"qcore.QTensor": ".*"},
}
"""Names without a row, by the reason."""
