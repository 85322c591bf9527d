"""torch.ao.quantization.utils: questions to QConfigs, observers, schemes and modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from qcore.compat.quantization.kinds import QuantType
from qcore.errors import ArgumentError
from qcore.tensor.dtypes import QDType, as_qdtype, as_qscheme, is_qdtype, qint8, qint32, quint8
from qcore.tensor.qparams import choose_qparams

__all__ = [
    "activation_dtype",
    "activation_is_dynamically_quantized",
    "activation_is_int8_quantized",
    "activation_is_int32_quantized",
    "activation_is_statically_quantized",
    "calculate_qmin_qmax",
    "check_min_max_valid",
    "determine_qparams",
    "get_combined_dict",
    "get_fqn_to_example_inputs",
    "get_qconfig_dtypes",
    "get_qparam_dict",
    "get_quant_type",
    "get_swapped_custom_module_class",
    "getattr_from_fqn",
    "has_no_children_ignoring_parametrizations",
    "is_per_channel",
    "is_per_tensor",
    "op_is_int8_dynamically_quantized",
    "to_underlying_dtype",
    "validate_qmin_qmax",
    "weight_dtype",
    "weight_is_quantized",
    "weight_is_statically_quantized",
]


# --- QConfigs -------------------------------------------------------------------------------------------------------


def activation_dtype(qconfig: Any) -> Any:
    """The dtype that a QConfig gives activations."""
    return qconfig.activation().dtype


def weight_dtype(qconfig: Any) -> Any:
    """The dtype that a QConfig gives weights."""
    return qconfig.weight().dtype


def get_qconfig_dtypes(qconfig: Any) -> tuple[Any, Any, bool]:
    """Dtypes of activations and weights, and whether activations are quantized dynamically."""
    return activation_dtype(qconfig), weight_dtype(qconfig), _is_dynamic(qconfig)


def activation_is_statically_quantized(qconfig: Any) -> bool:
    """Whether activations become integers, or float16, with fixed parameters."""
    return _reduced(activation_dtype(qconfig)) and not _is_dynamic(qconfig)


def activation_is_dynamically_quantized(qconfig: Any) -> bool:
    """Whether the parameters of activations are chosen at each call."""
    return _is_dynamic(qconfig)


def activation_is_int8_quantized(qconfig: Any) -> bool:
    """Whether activations become 8-bit integers."""
    return activation_dtype(qconfig) in (quint8, qint8, torch.uint8, torch.int8)


def activation_is_int32_quantized(qconfig: Any) -> bool:
    """Whether activations become 32-bit integers."""
    return activation_dtype(qconfig) in (qint32, torch.int32)


def weight_is_quantized(qconfig: Any) -> bool:
    """Whether weights become integers, or float16."""
    return _reduced(weight_dtype(qconfig))


def weight_is_statically_quantized(qconfig: Any) -> bool:
    """Whether weights become integers."""
    return is_qdtype(weight_dtype(qconfig)) or weight_dtype(qconfig) in (torch.uint8, torch.int8)


def op_is_int8_dynamically_quantized(qconfig: Any) -> bool:
    """Whether a QConfig is for dynamic quantization to int8."""
    return (
        activation_dtype(qconfig) in (quint8, torch.uint8)
        and weight_dtype(qconfig) in (qint8, torch.int8)
        and _is_dynamic(qconfig)
    )


def get_quant_type(qconfig: Any) -> QuantType:
    """Which kind of quantization a QConfig asks for; ArgumentError for none."""
    if _is_dynamic(qconfig):
        return QuantType.DYNAMIC
    if weight_is_quantized(qconfig):
        return QuantType.STATIC if _reduced(activation_dtype(qconfig)) else QuantType.WEIGHT_ONLY
    raise ArgumentError(f"{qconfig} quantizes neither weights nor activations")


def _is_dynamic(qconfig: Any) -> bool:
    return bool(getattr(qconfig.activation(), "is_dynamic", False))


def _reduced(dtype: Any) -> bool:
    return is_qdtype(dtype) or dtype in (torch.float16, torch.uint8, torch.int8)


# --- dtypes, schemes, ranges ----------------------------------------------------------------------------------------


def is_per_tensor(qscheme: Any) -> bool:
    """Whether a scheme has one scale for the whole tensor."""
    return not as_qscheme(qscheme).per_channel


def is_per_channel(qscheme: Any) -> bool:
    """Whether a scheme has a scale for each channel."""
    return as_qscheme(qscheme).per_channel


def to_underlying_dtype(qdtype: Any) -> torch.dtype:
    """The integer dtype that stores a quantized one."""
    return as_qdtype(qdtype).storage


def validate_qmin_qmax(quant_min: int, quant_max: int) -> None:
    """ArgumentError unless quant_min <= 0 <= quant_max and quant_min < quant_max."""
    if not quant_min <= 0 <= quant_max or quant_min == quant_max:
        raise ArgumentError(f"quant_min={quant_min} and quant_max={quant_max} must enclose 0, and differ")


def calculate_qmin_qmax(
    quant_min: int | None, quant_max: int | None, has_customized_qrange: bool, dtype: Any, reduce_range: bool
) -> tuple[int, int]:
    """The range of integers: the one given, or that of a dtype, halved by `reduce_range`."""
    if has_customized_qrange and quant_min is not None and quant_max is not None:
        validate_qmin_qmax(quant_min, quant_max)
        return quant_min, quant_max
    whole = _integer_range(dtype)
    return (whole[0] // 2, whole[1] // 2) if reduce_range and dtype not in (qint32, torch.int32) else whole


def _integer_range(dtype: Any) -> tuple[int, int]:
    if is_qdtype(dtype):
        known: QDType = as_qdtype(dtype)
        return known.qmin, known.qmax
    info = torch.iinfo(dtype)
    return int(info.min), int(info.max)


def check_min_max_valid(min_val: Tensor, max_val: Tensor) -> bool:
    """Whether an observed range holds data; ArgumentError where a minimum is above its maximum."""
    if min_val.numel() == 0 or max_val.numel() == 0:
        return False
    if min_val.numel() == 1 and float(min_val) == float("inf") and float(max_val) == float("-inf"):
        return False
    if bool((min_val > max_val).any()):
        raise ArgumentError(f"a minimum is above its maximum: {min_val} and {max_val}")
    return True


def determine_qparams(
    min_val: Tensor,
    max_val: Tensor,
    quant_min: int,
    quant_max: int,
    dtype: Any,
    eps: Tensor,
    has_customized_qrange: bool,
    qscheme: Any = "per_tensor_affine",
) -> tuple[Tensor, Tensor]:
    """Scale and zero point for an observed range, by the rule of observers; 1 and 0 where nothing was observed."""
    if not check_min_max_valid(min_val, max_val):
        return torch.tensor([1.0], device=min_val.device), torch.tensor([0], device=min_val.device)
    qdtype = as_qdtype({torch.uint8: quint8, torch.int8: qint8, torch.int32: qint32}.get(dtype, dtype))
    scheme = as_qscheme(qscheme)
    eps = eps.reshape(1)
    return choose_qparams(min_val, max_val, qdtype, scheme, quant_min, quant_max, eps, has_customized_qrange)


def get_qparam_dict(observer_or_fake_quant: Any) -> dict[str, Any]:
    """What an observer has found, by name: qscheme, dtype, and scale and zero_point, with the axis per channel."""
    scheme = getattr(observer_or_fake_quant, "qscheme", None)
    found: dict[str, Any] = {"qscheme": scheme, "dtype": observer_or_fake_quant.dtype}
    if scheme is None:
        return found
    scale, zero_point = observer_or_fake_quant.calculate_qparams()
    if is_per_channel(scheme):
        found["axis"] = observer_or_fake_quant.ch_axis
    return {**found, "scale": scale, "zero_point": zero_point}


# --- modules --------------------------------------------------------------------------------------------------------


def get_combined_dict(default_dict: dict[Any, Any], additional_dict: dict[Any, Any]) -> dict[Any, Any]:
    """Both dicts in one; the second wins."""
    return {**default_dict, **additional_dict}


def getattr_from_fqn(obj: Any, fqn: str) -> Any:
    """The attribute at a dotted path."""
    for name in fqn.split("."):
        obj = getattr(obj, name)
    return obj


def has_no_children_ignoring_parametrizations(module: nn.Module) -> bool:
    """Whether a module has no children but its parametrizations."""
    children = module._modules
    return not children or (len(children) == 1 and is_parametrized(module))


def get_swapped_custom_module_class(
    custom_module: nn.Module, custom_module_class_mapping: dict[Any, dict[type[nn.Module], Any]], qconfig: Any
) -> Any:
    """What a custom module becomes, by a mapping from kinds of quantization; ArgumentError where it has none."""
    table = custom_module_class_mapping.get(get_quant_type(qconfig), {})
    if type(custom_module) not in table:
        raise ArgumentError(f"{type(custom_module).__name__} has no class in the mapping for {get_quant_type(qconfig)}")
    return table[type(custom_module)]


def get_fqn_to_example_inputs(model: nn.Module, example_inputs: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """Run a model once, and give what each of its modules is called with, by path."""
    found: OrderedDict[str, tuple[Any, ...]] = OrderedDict()

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            found.setdefault(path, args)

        return hook

    handles = [module.register_forward_pre_hook(note(path)) for path, module in model.named_modules()]
    try:
        model(*example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return dict(found)
