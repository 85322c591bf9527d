"""Expressions for functions, observers and fake-quantize modules, and what prepares and converts models."""

from __future__ import annotations

POOL = """
    it(image(rank), 0)
    it(image(rank), -1)
    it(image(rank), 99)
    it(image(rank), "2")
    it(image(rank), None)
    it(image(rank), (1, 2, 3, 4))
    it(image(rank), 2, stride=0)
    it(image(rank), 2, padding=-1)
    it(image(rank), 2, padding=2)
    it(image(rank).dequantize(), 2)
    it(quantized(4), 2)
    it(image(rank)[:, :0], 2)
    it(None, 2)
"""
SCALED = """
    it(quantized(2, 4), 0.0, 0)
    it(quantized(2, 4), NAN, 0)
    it(quantized(2, 4), -1.0, 0)
    it(quantized(2, 4), 0.1, 256)
    it(quantized(2, 4), 0.1, -1)
    it(quantized(2, 4), "x", 0)
    it(randn(2, 4), 0.1, 0)
    it(by_channel(2, 4), 0.1, 0)
    it(None, 0.1, 0)
"""
RESIZED = """
    it(image(2))
    it(image(2), size=4, scale_factor=2.0)
    it(image(2), size=-4)
    it(image(2), size=0)
    it(image(2), size="4")
    it(image(2), size=(1, 2, 3))
    it(image(2), scale_factor=0.0)
    it(image(2), scale_factor=NAN)
    it(image(2), scale_factor=1e30)
    it(image(2).dequantize(), scale_factor=2)
    it(None, scale_factor=2)
"""
RANGE = """
    it(dtype=torch.float32)
    it(dtype="x")
    it(dtype=None)
    it(qscheme="x")
    it(qscheme=None)
    it(quant_min=5, quant_max=1)
    it(quant_min=-1000, quant_max=1000)
    it(quant_min=-0.5, quant_max=3)
    it(quant_min="a", quant_max="b")
    it(eps=-1.0)
    it(eps=NAN)
    it(eps="x")
    it().calculate_qparams()
    it()(None)
    it()("x")
    it()(torch.tensor([1.0, NAN]))
    it()(torch.tensor([1.0, INF]))
    it()(randn(2, 2).to(torch.complex64))
    it()(quantized(2, 2))
"""
CHANNELS = (
    RANGE
    + """
    it(ch_axis="x")
    it(ch_axis=1.5)
    it(ch_axis=5)(randn(2, 2))
    it(ch_axis=-3)(randn(2, 2))
    it()(randn(()))
    after(it(ch_axis=0), randn(3, 2))(randn(2, 2))
"""
)
AVERAGE = """
    it(averaging_constant=NAN)
    it(averaging_constant=2.0)
    it(averaging_constant="x")
"""
FAKE = """
    it(observer=3)
    it(observer=None)
    it(quant_min=5, quant_max=1)
    it(quant_min=-1000, quant_max=1000)
    it(quant_min=-0.5, quant_max=3)
    it(quant_min="a", quant_max="b")
    it().calculate_qparams()
    it()(None)
    it()("x")
    it()(torch.tensor([[1.0, NAN]]))
    it()(torch.tensor([[1.0, INF]]))
    it()(randn(2, 2).to(torch.complex64))
    it()(quantized(2, 2))
    it()(torch.ones(2, 2).int())
    frozen(it(), randn(3, 3), scale=0.0)(randn(3, 3))
    frozen(it(), randn(3, 3), scale=-1.0)(randn(3, 3))
    frozen(it(), randn(3, 3), scale=NAN)(randn(3, 3))
"""
FAKE_CHANNELS = (
    FAKE
    + """
    after(it(), randn(3, 3))(randn(2, 3))
    frozen(it(), randn(3, 3), scale=1.0)(randn(2, 3))
    it(ch_axis=5)(randn(2, 2))
"""
)
MODEL = """
    it(None)
    it("x")
    it(ONES)
"""
TABLE: dict[str, dict[str, str]] = {
    "qcore.nn.quantized.functional": {
        "avg_pool2d avg_pool3d max_pool1d max_pool2d": POOL,
        "adaptive_avg_pool2d adaptive_avg_pool3d": """
            it(image(rank), 0)
            it(image(rank), -1)
            it(image(rank), "1")
            it(image(rank), 1.5)
            it(image(rank), (1, 2, 3, 4))
            it(image(rank).dequantize(), 1)
            it(quantized(4), 1)
            it(None, 1)
        """,
        "conv1d conv2d conv3d": """
            it(image(rank), weight((6, 4) + (3,) * rank), None, stride=0)
            it(image(rank), weight((6, 4) + (3,) * rank), None, padding=-1)
            it(image(rank), weight((6, 4) + (3,) * rank), None, dilation=0)
            it(image(rank), weight((6, 4) + (3,) * rank), None, groups=3)
            it(image(rank), weight((6, 4) + (3,) * rank), None, scale=0.0)
            it(image(rank), weight((6, 4) + (3,) * rank), None, scale=NAN)
            it(image(rank), weight((6, 4) + (3,) * rank), None, zero_point=300)
            it(image(rank), weight((6, 3) + (3,) * rank), None)
            it(image(rank), randn(6, 4, *(3,) * rank), None)
            it(image(rank), weight((6, 4) + (3,) * rank), torch.ones(5))
            it(image(rank, size=1), weight((6, 4) + (3,) * rank), None)
            it(None, weight((6, 4) + (3,) * rank), None)
        """,
        "linear": """
            it(quantized(3, 4), weight((6, 5)))
            it(quantized(3, 4), weight((6, 4)), torch.ones(5))
            it(quantized(3, 4), weight((6, 4)), None, 0.0, 0)
            it(quantized(3, 4), weight((6, 4)), None, NAN, 0)
            it(quantized(3, 4), weight((6, 4)), None, 0.1, 256)
            it(quantized(3, 4), randn(6, 4))
            it(randn(3, 4), weight((6, 4)))
            it(by_channel(3, 4), weight((6, 4)))
            it(None, None)
        """,
        "interpolate upsample": RESIZED + "it(image(2), size=4, mode='bicubic')",
        "upsample_bilinear upsample_nearest": RESIZED,
        "celu": SCALED + "it(quantized(2), 0.1, 0, 0.0)\nit(quantized(2), 0.1, 0, NAN)\nit(quantized(2), 0.1, 0, 'x')",
        "elu": SCALED + "it(quantized(2), 0.1, 0, NAN)\nit(quantized(2), 0.1, 0, 'x')",
        "hardswish": SCALED,
        "leaky_relu": """
            it(quantized(2), NAN)
            it(quantized(2), "x")
            it(quantized(2), 0.1, False, 0.0, 0)
            it(quantized(2), 0.1, False, 0.1, 256)
            it(quantized(2), 0.1, False, 0.1)
            it(ONES, 0.1)
            it(None, 0.1)
        """,
        "hardtanh": """
            it(quantized(2), 2.0, 1.0)
            it(quantized(2), NAN, 1.0)
            it(quantized(2), "x", 1.0)
            it(ONES)
            it(None)
        """,
        "threshold": """
            it(quantized(2), NAN, 1.0)
            it(quantized(2), 1.0, "x")
            it(ONES, 0.0, 0.0)
            it(None, 0.0, 0.0)
        """,
        "clamp": """
            it(quantized(2), NAN, 1.0)
            it(quantized(2), "x", 1.0)
            it(ONES, 0.0, 1.0)
            it(None, 0.0, 1.0)
        """,
        "hardsigmoid": """
            it(ONES)
            it(None)
            it("x")
        """,
    },
    "qcore.api.observer": {
        "MinMaxObserver default_observer default_weight_observer": RANGE,
        "MovingAverageMinMaxObserver": RANGE + AVERAGE,
        "PerChannelMinMaxObserver default_per_channel_weight_observer default_float_qparams_observer": CHANNELS,
        "MovingAveragePerChannelMinMaxObserver": CHANNELS + AVERAGE,
        "HistogramObserver default_histogram_observer": RANGE
        + """
            it(bins=0)
            it(bins=1)
            it(bins=1.5)
            it(bins="x")
        """,
        "PlaceholderObserver default_placeholder_observer default_dynamic_quant_observer": """
            it(dtype="x")
            it(dtype=None)
            it(qscheme="x")
            it(dtype=quint8, quant_min=5, quant_max=1)
            it(dtype=quint8, quant_min=-1000, quant_max=1000)
            it(eps=NAN)
            it(eps=-1.0)
            it().calculate_qparams()
        """,
        "RecordingObserver default_debug_observer": """
            it(dtype="x")
            it()(None)
            it()("x")
            it().calculate_qparams()
        """,
        "NoopObserver": """
            it(dtype="x")
            it().calculate_qparams()
        """,
        "ObserverBase": """
            type("Own", (it,), {"forward": abs, "calculate_qparams": abs})(dtype="x")
        """,
        "get_observer_state_dict": MODEL,
        "load_observer_state_dict": """
            it(None, {})
            it("x", {})
            it(small(), None)
            it(api.prepare(small()), {})
            it(api.prepare(small()), {"x": ONES})
        """,
    },
    "qcore.api.fake_quantize": {
        "FakeQuantize": FAKE + "it(observer=observer.PlaceholderObserver)",
        "FusedMovingAvgObsFakeQuantize": FAKE
        + """
            it(observer=observer.PlaceholderObserver)
            it(observer=observer.HistogramObserver)
        """,
        "FixedQParamsFakeQuantize": """
            it(observer=3)
            it(observer=observer.MinMaxObserver)
            it(observer=observer.FixedQParamsObserver.with_args(scale=0.0, zero_point=0))
            it(observer=observer.FixedQParamsObserver.with_args(scale=NAN, zero_point=0))
            it(observer=observer.FixedQParamsObserver.with_args(scale=0.1, zero_point=300))
            it(observer=observer.FixedQParamsObserver.with_args(scale=0.1, zero_point=0))(None)
            it(observer=observer.FixedQParamsObserver.with_args(scale=0.1, zero_point=0))(torch.ones(2).int())
            frozen(it(observer=observer.FixedQParamsObserver.with_args(scale=1.0, zero_point=0)), scale=0.0)(ONES)
        """,
        "default_fake_quant default_weight_fake_quant default_histogram_fake_quant": FAKE,
        "default_fused_act_fake_quant default_fused_wt_fake_quant": FAKE,
        "default_per_channel_weight_fake_quant default_fused_per_channel_wt_fake_quant": FAKE_CHANNELS,
    },
    "qcore.api.qconfig": {
        "QConfig": """
            it(activation=observer.MinMaxObserver(), weight=observer.MinMaxObserver)
            it(activation=None, weight=None)
            it(activation=observer.MinMaxObserver, weight=3)
        """,
    },
    "qcore.api": {
        "quantize": """
            it(None, print, ())
            it("x", print, ())
            it(small(), None, ())
            it(small(), lambda model: None, ())
            it(small(), lambda model: None, (), backend="x")
        """,
        "quantize_qat": """
            it(None, print, ())
            it(ONES, print, ())
            it(small(), None, ())
            it(small(), lambda model: None, (), backend="x")
        """,
        "quantize_dynamic": MODEL
        + """
            it(small(), dtype=qint32)
            it(small(), dtype="x")
            it(small(), {"absent"})
            it(small(), 3)
            it(small(), backend="x")
            it(small(), mapping={nn.Linear: 3})
        """,
        "prepare": MODEL
        + """
            it(small(), backend="x")
            it(small(), backend=3)
            it(small(), fallback="x")
            it(small(), allow_list=3)
            it(small(), allow_list=["x"])
            it(small(), observer_non_leaf_module_list="x")
            it(small(), prepare_custom_config_dict=3)
            it(small(), prepare_custom_config_dict={"x": {}})
            it(with_qconfig(3))
            it(with_qconfig("x"))
        """,
        "prepare_qat": MODEL
        + """
            it(small())
            it(small().train(), backend="x")
            it(with_qconfig(3).train())
            it(small().train(), prepare_custom_config_dict={"x": {}})
        """,
        "convert": MODEL
        + """
            it(api.prepare(small()))
            it(api.prepare(small()), mapping={nn.Linear: 3})
        """,
        "fuse_modules": """
            it(None, ["0", "1"])
            it(small(), None)
            it(small(), 3)
            it(small(), [[1, 2]])
            it(small(), ["0", "9"])
            it(small(), ["0"])
            it(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval(), ["0", "1"])
            it(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train(), ["0", "1"])
        """,
        "QuantWrapper add_quant_dequant": "it(None)\nit('x')",
        "swap_module": "it(None, {})\nit('x', {})",
        "add_observer_": MODEL + "it(with_qconfig(3))",
        "propagate_qconfig_": MODEL + "it(small(), 3)\nit(small(), {'absent': qconfig.default_qconfig})",
        "default_eval_fn get_observer_dict": "it(None, {})\nit('x', {})\nit(ONES, {})",
    },
    "qcore.api.quantize_fx": {
        "prepare_fx prepare_qat_fx": """
            it(None, qconfig.default_qconfig, (ONES,))
            it("x", qconfig.default_qconfig, (ONES,))
            it(small().train('qat' in name), 3, (torch.ones(1, 4),))
            it(small().train('qat' in name), {"": qconfig.default_qconfig}, None)
            it(small().train('qat' not in name), {"": qconfig.default_qconfig}, (torch.ones(1, 4),))
            it(small().train('qat' in name), {"": qconfig.default_qconfig}, (torch.ones(1, 4),), backend="x")
        """,
        "convert_fx": MODEL + "it(small())",
        "fuse_fx": MODEL + "it(small().train())",
    },
    "qcore": {
        "quantize_per_tensor": """
            it(ONES, 0.0, 0, quint8)
            it(ONES, NAN, 0, quint8)
            it(ONES, -1.0, 0, quint8)
            it(ONES, INF, 0, quint8)
            it(ONES, None, 0, quint8)
            it(ONES, "x", 0, quint8)
            it(ONES, 0.1, 300, quint8)
            it(ONES, 0.1, 1.5, quint8)
            it(ONES, 0.1, None, quint8)
            it(ONES, 0.1, 0, torch.float32)
            it(ONES, 0.1, 0, None)
            it(ONES.int(), 0.1, 0, quint8)
            it(quantized(2), 0.1, 0, quint8)
            it(ONES, torch.ones(2), 0, quint8)
            it([ONES], torch.ones(2), torch.zeros(2), quint8)
            it([ONES, 3], torch.ones(2), torch.zeros(2), quint8)
            it(None, 0.1, 0, quint8)
            it(3, 0.1, 0, quint8)
        """,
        "quantize_per_channel": """
            it(randn(3, 4), ONES, ZEROS.int(), 2, qint8)
            it(randn(3, 4), ONES, ZEROS.int(), -3, qint8)
            it(randn(3, 4), ONES, ZEROS.int(), "x", qint8)
            it(randn(3, 4), ONES, ZEROS.int(), None, qint8)
            it(randn(3, 4), ONES[:3], ZEROS[:3].int(), 1, qint8)
            it(randn(3, 4), ONES, ZEROS[:3].int(), 1, qint8)
            it(randn(3, 4), 0 * ONES, ZEROS.int(), 1, qint8)
            it(randn(3, 4), NAN * ONES, ZEROS.int(), 1, qint8)
            it(randn(3, 4), ONES, ZEROS.int() + 200, 1, qint8)
            it(randn(3, 4), [1.0] * 4, [0] * 4, 1, qint8)
            it(randn(3, 4), ONES.view(2, 2), ZEROS.view(2, 2), 1, qint8)
            it(randn(3, 4), ONES, None, 1, qint8)
            it(randn(3, 4).int(), ONES, ZEROS.int(), 1, qint8)
            it(None, ONES, ZEROS.int(), 1, qint8)
        """,
        "dequantize": """
            it(None)
            it("x")
            it(3)
            it([quantized(2), 3])
        """,
    },
}
