"""Small programs that use the public names as they are meant; what they call is spoiled afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import qcore
from qcore import api
from qcore.api import backend_config, custom_config, fake_quantize, observer, qconfig
from qcore.api.qconfig_mapping import QConfigMapping, get_default_qat_qconfig_mapping, get_default_qconfig_mapping
from tests.fuzz.spoil_calls import by_channel, quantized
from tests.nn import quantizable_models


def _made(make: Any) -> Any:
    """An observer or a fake-quantize module, with what its kind needs; None for one that is never made alone."""
    fixed = observer.FixedQParamsObserver.with_args(scale=0.1, zero_point=3)
    for options in ({}, {"scale": 0.1, "zero_point": 3}, {"observer": fixed}):
        try:
            return make(**options)
        except (TypeError, qcore.QcoreError):
            continue
    return None


def observers() -> None:
    for module in (observer, fake_quantize):
        for name in dir(module):
            make = getattr(module, name)
            if name.startswith(("_", "Takes")) or not hasattr(make, "with_args") or name.endswith("Base"):
                continue
            made = _made(make)
            if made is None:
                continue
            made(torch.randn(3, 4))
            made(torch.randn(3, 4))
            try:
                made.calculate_qparams()
            except qcore.QcoreError:
                continue
            made.load_state_dict(made.state_dict())
            repr(made)
            make.with_args(dtype=qcore.quint8)
            for switch in ("enable_observer", "disable_observer", "enable_fake_quant", "disable_fake_quant"):
                if hasattr(made, switch):
                    getattr(made, switch)()
            if hasattr(made, "reset_min_max_vals"):
                made.reset_min_max_vals()
            if hasattr(made, "get_tensor_value"):
                made.get_tensor_value()


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()


def flows() -> None:
    x = torch.randn(2, 3, 4, 4)

    def run(prepared: nn.Module, batches: Any) -> None:
        for each in batches:
            prepared(each)

    fused = api.fuse_modules(model(), [["0", "1", "2"]])
    wrapped = api.QuantWrapper(fused)
    wrapped.qconfig = qconfig.default_qconfig
    prepared = api.prepare(wrapped)
    prepared(x)
    observer.load_observer_state_dict(prepared, observer.get_observer_state_dict(prepared))
    api.get_observer_dict(prepared, {})
    qcore.report(api.convert(prepared))
    api.quantize(api.QuantWrapper(model()), run, [[x]])
    api.quantize_qat(api.QuantWrapper(model()).train(), run, [[x]])
    api.quantize_dynamic(model(), {nn.Linear}, dtype=qcore.qint8)
    train = api.fuse_modules_qat(model().train(), [["0", "1", "2"]])
    api.prepare_qat(api.QuantWrapper(train))(x).sum().backward()
    model_ = model()
    model_.qconfig = qconfig.default_qconfig
    api.propagate_qconfig_(model_)
    api.add_observer_(model_)
    api.add_quant_dequant(model_)
    api.swap_module(nn.ReLU(), {})
    api.default_eval_fn(model(), [(x, torch.tensor([0, 1]))])
    with contextlib.suppress(Exception):  # torch reads the source of methods, which while they are watched is another
        qcore.script(api.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)).eval()))


def graphs() -> None:
    x = torch.randn(2, 3, 4, 4)
    mapping = get_default_qconfig_mapping()
    mapping.set_global(qconfig.default_qconfig).set_object_type(nn.Linear, qconfig.per_channel_dynamic_qconfig)
    mapping.set_module_name("0", None).set_module_name_regex("4", qconfig.default_qconfig)
    get_default_qconfig_mapping().set_module_name_object_type_order("4", nn.Linear, 0, qconfig.default_qconfig)
    QConfigMapping.from_dict(mapping.to_dict())
    prepared = qcore.prepare_fx(model(), mapping, (x,))
    prepared(x)
    converted = qcore.convert_fx(prepared)
    converted(x)
    with qcore.on_modules():
        converted(x)
    qcore.profile(converted, (x,))
    qcore.fuse_fx(model())
    qcore.prepare_qat_fx(model().train(), get_default_qat_qconfig_mapping(), (x,))
    for preset in ("fbgemm", "x86", "default"):
        try:
            qcore.get_qconfig_preset(preset)
        except (qcore.QcoreError, TypeError):
            continue
    config = custom_config.PrepareCustomConfig()
    config.set_standalone_module_name("a", None, (x,), None, None)
    config.set_non_traceable_module_names(["a"]).set_non_traceable_module_classes([nn.Linear])
    config.set_input_quantized_indexes([0]).set_output_quantized_indexes([0]).set_preserved_attributes(["a"])
    type(config).from_dict(config.to_dict())
    custom_config.ConvertCustomConfig().set_preserved_attributes(["a"]).to_dict()
    custom_config.FuseCustomConfig().set_preserved_attributes(["a"]).to_dict()
    dtypes = backend_config.DTypeConfig(qcore.quint8, qcore.quint8, qcore.qint8, torch.float32)
    pattern = backend_config.BackendPatternConfig(nn.Linear)
    pattern.set_observation_type(backend_config.ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT)
    pattern.add_dtype_config(dtypes)
    whole = backend_config.BackendConfig("mine").set_backend_pattern_config(pattern)
    type(whole).from_dict(whole.to_dict())
    backend_config.get_backend_config()


def quantizable() -> None:
    for kind in (quantizable_models.Recurrent, quantizable_models.Attending):
        made = kind(api).eval()
        prepared = api.prepare(made)
        for batch in quantizable_models.batches(made, 1):
            prepared(batch)
        api.convert(prepared)
    cell, attention = qcore.nn.quantizable.LSTMCell(4, 3), qcore.nn.quantizable.MultiheadAttention(4, 2)
    lstm, x = qcore.nn.quantizable.LSTM(4, 3, 2, bidirectional=True), torch.randn(5, 2, 4)
    lstm(x), cell(x[0]), attention(x, x, x)


def functions() -> None:
    F = qcore.nn.quantized.functional
    for rank in (1, 2, 3):
        x = quantized(2, 4, *(5,) * rank)
        weight = quantized(6, 4, *(3,) * rank, dtype=qcore.qint8)
        getattr(F, f"conv{rank}d")(x, weight, torch.randn(6), 1, 1, 1, 1, scale=0.1, zero_point=3)
        if rank > 1:
            getattr(F, f"avg_pool{rank}d")(x, 2)
            getattr(F, f"adaptive_avg_pool{rank}d")(x, 2)
            F.interpolate(x, size=(3,) * rank)
            F.interpolate(x, scale_factor=2.0, mode="nearest")
        if rank < 3:
            getattr(F, f"max_pool{rank}d")(x, 2, 1, 1)
    x = quantized(2, 4)
    F.linear(x, quantized(3, 4, dtype=qcore.qint8), torch.randn(3), 0.1, 3)
    for call in (F.elu, F.celu, F.hardswish):
        call(x, 0.1, 3)
    F.leaky_relu(x, 0.1), F.hardtanh(x), F.clamp(x, -1.0, 1.0), F.threshold(x, 0.0, 0.0), F.hardsigmoid(x)
    joined = qcore.nn.quantized.QFunctional()
    joined.scale, joined.zero_point = 0.1, 3
    joined.add(x, x), joined.mul(x, x), joined.add_relu(x, x), joined.cat([x, x]), joined.add_scalar(x, 1.0)
    joined.mul_scalar(x, 2.0), joined.matmul(x, quantized(4, 2))
    plain = qcore.nn.quantized.FloatFunctional()
    y = torch.randn(2, 4)
    plain.add(y, y), plain.mul(y, y), plain.add_relu(y, y), plain.cat([y, y]), plain.add_scalar(y, 1.0)
    qcore.quantize_per_tensor(y, 0.1, 3, qcore.quint8)
    qcore.quantize_per_tensor([y, y], torch.tensor([0.1, 0.2]), torch.tensor([3, 4]), qcore.quint8)
    qcore.quantize_per_channel(y, torch.ones(4), torch.zeros(4).int(), 1, qcore.qint8)
    qcore.dequantize(x), qcore.dequantize([x, by_channel(2, 4)])


def registered() -> None:
    registry = qcore.registry
    registry.names(), registry.statuses(), registry.status("reference"), registry.get("reference")
    registry.choose("auto"), registry.choose("reference", "error"), registry.preferred
    list(registry.candidates("reference")), registry.extensions("reference"), registry.families("reference")
    registry.patterns(registry.get("reference")), registry.brought("reference"), registry.prefer(None)


PROGRAMS = (observers, flows, graphs, quantizable, functions, registered)

_X: Callable[[], Any] = lambda: quantized(2, 4)  # noqa: E731
_CALLS: dict[str, tuple[Any, ...]] = {
    "view": ((8,), (4, 2), (-1,), (torch.uint8,)),
    "reshape": ((8,), ((4, 2),)),
    "permute": ((1, 0), ((1, 0),)),
    "transpose": ((0, 1),),
    "squeeze": ((), (0,)),
    "unsqueeze": ((0,),),
    "flatten": ((), (0, 1)),
    "select": ((1, 2),),
    "narrow": ((1, 0, 2),),
    "expand": ((3, 2, 4),),
    "repeat": ((2, 2),),
    "as_strided": (((2, 2), (4, 1)), ((2, 2), (4, 1), 1)),
    "split": ((2, 1), ([1, 3], 1)),
    "chunk": ((2, 1),),
    "unbind": ((0,),),
    "clone": ((),),
    "contiguous": ((),),
    "copy_": ((_X,), (lambda: torch.randn(2, 4),)),
    "fill_": ((1.0,),),
    "resize_": ((2, 2),),
    "sort": ((1,), (1, True)),
    "topk": ((2, 1),),
    "max": ((), (1,), (_X,)),
    "min": ((), (1,)),
    "mean": ((), (1,), ([0, 1], True)),
    "relu": ((),),
    "clamp": ((-1.0, 1.0),),
    "equal": ((_X,),),
    "eq": ((_X,), (0.5,)),
    "lt": ((_X,),),
    "index_select": ((1, lambda: torch.tensor([0, 1])),),
    "masked_fill": ((lambda: torch.ones(2, 4).bool(), 0.0),),
    "to": (("cpu",), (torch.float32,), ("meta",)),
    "type": ((), ("torch.FloatTensor",)),
    "__getitem__": ((0,), ((0, 1),), ((slice(0, 1), None),), (lambda: torch.tensor([0, 1]),)),
    "__setitem__": ((0, _X), (0, 1.0)),
    "flip": (((0,),),),
    "roll": ((1, 0),),
    "movedim": ((0, 1),),
    "gather": ((1, lambda: torch.zeros(2, 2).long()),),
}
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "torch.cat": (([_X, _X], 1),),
    "torch.stack": (([_X, _X], 0),),
    "torch.where": ((lambda: torch.ones(2, 4).bool(), _X, _X),),
    "torch.nn.functional.relu": ((_X,),),
    "torch.nn.functional.max_pool2d": ((lambda: quantized(2, 4, 5, 5), 2),),
    "torch.nn.functional.avg_pool2d": ((lambda: quantized(2, 4, 5, 5), 2),),
    "torch.nn.functional.interpolate": ((lambda: quantized(2, 4, 5, 5), (3, 3)),),
    "torch.nn.functional.pad": ((_X, (1, 1)),),
    "torch.nn.functional.linear": ((_X, lambda: torch.randn(3, 4)),),
    "torch.sigmoid": ((_X,),),
    "torch.tanh": ((_X,),),
    "torch.einsum": (("ij,ij->i", _X, _X),),
}


def _real(value: Any) -> Any:
    if isinstance(value, list):
        return [_real(each) for each in value]
    return value() if type(value) is type(_X) else value


TENSOR_CALLS: dict[str, list[Callable[[], tuple[Any, ...]]]] = {
    **{f"QTensor.{k}": [lambda a=a: (_X(), *map(_real, a)) for a in rows] for k, rows in _CALLS.items()},
    **{k: [lambda a=a: tuple(map(_real, a)) for a in rows] for k, rows in _FUNCTIONS.items()},
}
