"""Expressions for modules."""

from __future__ import annotations

import re

ON_CALL = """
    made(None)
    made("x")
    made(randn(2, 4))
    made(by_channel(2, 4))
    made(quantized(2, 4, dtype=qint32))
"""
OUTPUT = """
    made(scale=0.0)
    made(scale=-1.0)
    made(scale=NAN)
    made(scale=INF)
    made(scale=None)
    made(scale="x")
    made(zero_point=256)
    made(zero_point=-1)
    made(zero_point=1.5)
    made(zero_point=None)
"""


def called(made: str) -> str:
    """Inputs that a module, made so, does not take."""
    return ON_CALL.replace("made(", f"{made}(")


def with_output(made: str) -> str:
    """Scales and zero points that quint8 has not; `made` has %s where they are given."""
    return re.sub(r"made\((.*)\)", lambda found: made % found[1], OUTPUT)


def assigned(made: str) -> str:
    return re.sub(r"made\((.*)\)", lambda found: f"assign({made}, {found[1]})", OUTPUT)


CONV = (
    """
    it(-4, 6, 3)
    it("4", 6, 3)
    it(1.5, 6, 3)
    it(4, -1, 3)
    it(4, None, 3)
    it(4, 6, 0)
    it(4, 6, None)
    it(4, 6, (1, 1, 1, 1, 1))
    it(4, 6, 3, stride=0)
    it(4, 6, 3, stride=-1)
    it(4, 6, 3, padding=-1)
    it(4, 6, 3, padding="some")
    it(4, 6, 3, dilation=0)
    it(4, 6, 3, groups=3)
    it(4, 6, 3, groups=0)
    it(4, 6, 3, groups="2")
    it(4, 6, 3, padding_mode="x")
    it(4, 6, 3)(image(rank, channels=3))
    it(4, 6, 3)(image(rank, channels=0))
    it(4, 6, 3)(image(rank).dequantize())
    it(4, 6, 3)(quantized(4))
    it(4, 6, 3).set_weight_bias(None, None)
    it(4, 6, 3).set_weight_bias(randn(6, 4), None)
    it(4, 6, 3).set_weight_bias(weight((6, 4, 2)), None)
    it(4, 4, 3).set_weight_bias(weight((4, 4) + (3,) * rank), torch.ones(5))
    it(4, 4, 3).set_weight_bias(weight((4, 4) + (3,) * rank), torch.full((4,), NAN))
    it(4, 4, 3).set_weight_bias(weight((4, 4) + (3,) * rank), "bias")
    it(4, 4, 3).set_weight_bias(quantized(4, 4, *(3,) * rank), None)
"""
    + called("it(4, 6, 3)")
    + assigned("it(4, 6, 3)")
)
SIZES = """
    it(-1, 6)
    it(4, -1)
    it("4", 6)
    it(4, "6")
    it(1.5, 6)
    it(4, None)
    it(True, 6)
"""
LINEAR = (
    SIZES
    + """
    it(4, 6, dtype=qint32)
    it(4, 6).set_weight_bias(None, None)
    it(4, 6).set_weight_bias(randn(6, 4), None)
    it(4, 6).set_weight_bias(quantized(6, 4), None)
    it(4, 6).set_weight_bias(weight((6, 5)), None)
    it(4, 6).set_weight_bias(by_channel(6, 4, axis=1), None)
    it(4, 6).set_weight_bias(weight((6, 4)), torch.ones(5))
    it(4, 6).set_weight_bias(weight((6, 4)), torch.full((6,), INF))
    it(4, 6)(randn(2, 5))
    it(4, 6)(quantized(2, 5))
    it(4, 6)(None)
    it(4, 6)("x")
"""
)
DYNAMIC = """
    it(4, 6)(quantized(2, 4))
    it(4, 6)(torch.full((2, 4), NAN))
    it(4, 6)(torch.full((2, 4), INF))
    it(4, 6)(randn(()))
"""
RECURRENT = (
    SIZES
    + DYNAMIC
    + """
    it(4, 6, dtype=torch.float64)
    it(4, 6)(None)
    it(4, 6)("x")
    it(4, 6)(randn(2, 5))
"""
)
LAYERS = """
    it(4, 6, num_layers=0)
    it(4, 6, num_layers=1.5)
    it(4, 6, dropout=2)
    it(4, 6, dropout=NAN)
    it(4, 6, dropout="x")
"""
EMBEDDING = (
    SIZES
    + """
    it(4, 6, dtype=qint8)
    it(4, 6).set_weight(None)
    it(4, 6).set_weight(randn(4, 6))
    it(4, 6).set_weight(quantized(4, 6))
    it(4, 6).set_weight(rows(3, 6))
"""
)
NORM = """
    made(eps=NAN)
    made(eps=-1.0)
    made(eps="x")
"""
AFFINE = """
    made(torch.ones(3))
    made("weight")
    made(torch.ones(4, 1))
"""
BATCH_NORM = (
    """
    it(-1)
    it("4")
    it(1.5)
    it(4)(image(rank, channels=3))
    it(4)(quantized(4))
"""
    + NORM.replace("made(", "it(4, ")
    + called("it(4)")
    + assigned("it(4)")
)
PARTS = """
    it()
    it(nn.Linear(4, 4))
    it(None, None)
    it(nn.Tanh(), nn.Tanh())
    it(nn.Tanh(), nn.Tanh(), nn.Tanh())
"""
TRAINED = """
    it(4, 4, 1)
    it(4, 4, 1, qconfig=3)
    it.from_float(None)
    it.from_float(nn.Tanh())
"""

TABLE: dict[str, dict[str, str]] = {
    "qcore.nn.quantized": {
        "Conv1d Conv2d Conv3d": CONV + "it(4, 6, 3)(image(rank, size=1))",
        "ConvTranspose1d ConvTranspose2d ConvTranspose3d": CONV
        + """
            it(4, 6, 3, output_padding=-1)
            it(4, 6, 3, output_padding=5)(image(rank))
        """,
        "Linear": LINEAR + called("it(4, 6)") + assigned("it(4, 6)"),
        "Embedding": EMBEDDING
        + """
            it(4, 6)(None)
            it(4, 6)("x")
            it(4, 6)(torch.tensor([4]))
            it(4, 6)(torch.tensor([-1]))
            it(4, 6)(ONES)
            it(4, 6)(quantized(3))
        """,
        "EmbeddingBag": EMBEDDING
        + """
            it(4, 6, mode="max")
            it(4, 6)(torch.tensor([4]), torch.tensor([0]))
            it(4, 6)(torch.tensor([1]), torch.tensor([1]))
            it(4, 6)(torch.tensor([1]), torch.tensor([0, 2]))
            it(4, 6)(torch.tensor([1, 2]), torch.tensor([0.0]))
            it(4, 6)(torch.tensor([1, 2]))
            it(4, 6)(ONES, torch.tensor([0]))
            it(4, 6)(None, torch.tensor([0]))
            it(4, 6)(torch.tensor([1]), torch.tensor([0]), per_sample_weights=torch.ones(2))
        """,
        "ReLU6": called("it()"),
        "Hardswish": with_output("it(**{'scale': 0.1, 'zero_point': 0} | dict(%s))") + called("it(0.1, 0)"),
        "Sigmoid": """
            it(0.0, 0)
            it(NAN, 0)
            it(None, 0)
            it("x", 0)
            it(0.1, 256)
            it(0.1, 1.5)
        """
        + called("it(0.1, 0)"),
        "ELU LeakyReLU": with_output("it(**{'scale': 0.1, 'zero_point': 0} | dict(%s))")
        + called("it(0.1, 0)")
        + """
            it(0.1, 0, NAN)
            it(0.1, 0, "x")
            it(0.1, 0, None)
        """,
        "BatchNorm2d BatchNorm3d": BATCH_NORM,
        "LayerNorm": with_output("it(4, ONES, ZEROS, **{'scale': 0.1, 'zero_point': 0} | dict(%s))")
        + called("it(4, ONES, ZEROS, 0.1, 0)")
        + NORM.replace("made(", "it(4, ONES, ZEROS, 0.1, 0, ")
        + AFFINE.replace(")\n", ", ZEROS, 0.1, 0)\n").replace("made(", "it(4, ")
        + """
            it("x", None, None, 0.1, 0)
            it((4, -1), None, None, 0.1, 0)
            it((4, 1.5), None, None, 0.1, 0)
            it(4, ONES, ZEROS, 0.1, 0)(quantized(2, 3))
        """,
        "GroupNorm": with_output("it(2, 4, ONES, ZEROS, **{'scale': 0.1, 'zero_point': 0} | dict(%s))")
        + called("it(2, 4, ONES, ZEROS, 0.1, 0)")
        + NORM.replace("made(", "it(2, 4, ONES, ZEROS, 0.1, 0, ")
        + AFFINE.replace(")\n", ", ZEROS, 0.1, 0)\n").replace("made(", "it(2, 4, ")
        + """
            it(3, 4, ONES, ZEROS, 0.1, 0)
            it(0, 4, ONES, ZEROS, 0.1, 0)
            it(-1, 4, ONES, ZEROS, 0.1, 0)
            it("2", 4, ONES, ZEROS, 0.1, 0)
            it(2, 4, ONES, ZEROS, 0.1, 0)(quantized(2, 3))
        """,
        "InstanceNorm1d InstanceNorm2d InstanceNorm3d": with_output(
            "it(4, ONES, ZEROS, **{'scale': 0.1, 'zero_point': 0} | dict(%s))"
        )
        + called("it(4, ONES, ZEROS, 0.1, 0)")
        + NORM.replace("made(", "it(4, ONES, ZEROS, 0.1, 0, ")
        + AFFINE.replace(")\n", ", ZEROS, 0.1, 0)\n").replace("made(", "it(4, ")
        + """
            it(-1, None, None, 0.1, 0)
            it("4", None, None, 0.1, 0)
            it(4, None, None, 0.1, 0)(quantized(4))
            it(4, ONES, ZEROS, 0.1, 0)(image(rank, channels=3))
        """,
        "FloatFunctional": """
            it()(ONES)
        """,
        "QFunctional": """
            it()(quantized(2))
            it().add(quantized(2), torch.ones(2))
            it().add(1, 2)
            it().mul(quantized(2), None)
            it().add_relu(quantized(2), quantized(3))
            it().cat([])
            it().cat(None)
            it().cat([quantized(2)], 1)
            it().cat([quantized(2)], "x")
            it().cat([quantized(2, 3), quantized(2, 4)], 0)
            it().cat([quantized(2, 3), quantized(2)], 0)
            it().matmul(quantized(2, 3), quantized(2, 3))
            it().mul_scalar(quantized(2), "x")
            it().add_scalar(quantized(2), NAN)
            it().mul_scalar(quantized(2), INF)
        """
        + assigned("it()"),
    },
    "qcore.nn.intrinsic.quantized": {
        "ConvReLU1d ConvReLU2d ConvReLU3d": CONV + "it(4, 6, 3)(image(rank, size=1))",
        "BNReLU2d BNReLU3d": BATCH_NORM,
        "LinearReLU": LINEAR + called("it(4, 6)") + assigned("it(4, 6)"),
    },
    "qcore.nn.intrinsic.quantized.dynamic": {"LinearReLU": LINEAR + DYNAMIC},
    "qcore.nn.quantized.dynamic": {
        "Linear": LINEAR + DYNAMIC,
        "LSTM GRU": RECURRENT + LAYERS + "it(4, 6, proj_size=2)\nit(4, 6)(randn(3, 2, 4), randn(2, 6))",
        "LSTMCell GRUCell": RECURRENT,
        "RNNCell": RECURRENT + "it(4, 6, nonlinearity='gelu')",
    },
    "qcore.nn.quantizable": {
        "LSTM": SIZES
        + LAYERS
        + """
            it(4, 6)(None)
            it(4, 6)(randn(4))
            it(4, 6)(randn(3, 2, 5))
            it(4, 6)(randn(0, 2, 4))
            it(4, 6)(nn.utils.rnn.pack_sequence([randn(3, 4)]))
            it(4, 6)(randn(3, 2, 4), (torch.zeros(1, 1, 6), torch.zeros(1, 2, 6)))
            it.from_float(nn.GRU(4, 6))
            it.from_float(nn.LSTM(4, 6, proj_size=2))
        """,
        "MultiheadAttention": """
            it(6, 4)
            it(4, 0)
            it("4", 2)
            it(4, "2")
            it(-4, 2)
            it(4, 2, dropout=2)
            it(4, 2, kdim=-1)
            it(4, 2)(None, None, None)
            it(4, 2)(randn(3, 2, 5), randn(3, 2, 5), randn(3, 2, 5))
            it(4, 2)(randn(4), randn(4), randn(4))
            it(4, 2)(*[randn(3, 2, 4)] * 3, attn_mask=torch.zeros(3, 4))
            it(4, 2)(*[randn(3, 2, 4)] * 3, key_padding_mask=torch.zeros(3, 4))
            it.from_float(nn.Linear(4, 4))
        """,
    },
    "qcore.nn.intrinsic": {
        "ConvReLU1d ConvReLU2d ConvReLU3d LinearReLU ConvBn1d ConvBn2d ConvBn3d": PARTS,
        "ConvBnReLU1d ConvBnReLU2d ConvBnReLU3d BNReLU2d BNReLU3d": PARTS,
    },
    "qcore.nn.intrinsic.qat": {
        "ConvBn1d ConvBnReLU1d ConvBn2d ConvBnReLU2d ConvReLU2d ConvBn3d ConvBnReLU3d ConvReLU3d": TRAINED,
        "LinearReLU": TRAINED,
    },
    "qcore.nn.qat": {"Conv2d Conv3d Linear": TRAINED},
    "qcore.nn.qat.dynamic": {"Linear": TRAINED},
}
