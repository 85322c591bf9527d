"""torch.ao.ns._numeric_suite: weights, outputs and shadows of a float model beside its quantized form.

It takes graph modules too: whatever has the same module paths in both models is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from qcore.api.quantize import prepare
from qcore.compat.quantization.mappings import get_default_compare_output_module_list
from qcore.errors import QuantizationError
from qcore.nn.quantized import QFunctional

__all__ = [
    "Logger",
    "OutputLogger",
    "Shadow",
    "ShadowLogger",
    "compare_model_outputs",
    "compare_model_stub",
    "compare_weights",
    "get_default_compare_output_module_list",
    "get_logger_dict",
    "get_matching_activations",
    "prepare",
    "prepare_model_outputs",
    "prepare_model_with_stubs",
]

_PACKED = "._packed_params._packed_params"
_CELL = "._all_weight_values."


# --- weights --------------------------------------------------------------------------------------------------------


def compare_weights(float_dict: dict[str, Any], quantized_dict: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """From state dicts of both models: key of the quantized weight -> {"float": its weight, "quantized": its integers}.

    The weights of recurrent layers have the key of their layer and direction, with ".weight_ih" or ".weight_hh" added.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in quantized_dict.items():
        for name, path, weight in _weights(key, value):
            match = _matching(float_dict, path)
            if match is not None:
                found[name] = {"float": float_dict[match], "quantized": weight}
    return found


def _weights(key: str, value: Any) -> list[tuple[str, str, Tensor]]:
    """(name, path in the float model, weight) of an entry of a quantized state dict."""
    if key.endswith(_PACKED) and isinstance(value, tuple):
        return [(key, key.removesuffix(_PACKED) + ".weight", value[0])]
    if _CELL in key and key.endswith(".param"):
        path, _, rest = key.partition(_CELL)
        layer = rest.removesuffix(".param")
        return [(f"{key}.{kind}", f"{path}.{kind}_l{layer}", value[at]) for at, kind in enumerate(_CELL_WEIGHTS)]
    if key.endswith("weight") and isinstance(value, Tensor):
        return [(key, key, value)]
    return []


_CELL_WEIGHTS = ("weight_ih", "weight_hh")


def _matching(float_dict: dict[str, Any], path: str) -> str | None:
    """The key of the float weight; a fused layer's is that of its first part."""
    parent, _, name = path.rpartition(".")
    return next((key for key in (path, f"{parent}.0.{name}", f"{parent}.0.0.{name}") if key in float_dict), None)


# --- loggers --------------------------------------------------------------------------------------------------------


class Logger(nn.Module):
    """Base of loggers; `stats` is what they keep."""

    def __init__(self) -> None:
        super().__init__()
        self.stats: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Any:
        """Take one output."""
        raise NotImplementedError


class OutputLogger(Logger):
    """Keeps the outputs of a layer: stats["tensor_val"] is the list."""

    def __init__(self) -> None:
        super().__init__()
        self.stats["tensor_val"] = []

    def forward(self, x: Tensor) -> Tensor:
        """Take one output, and hand it on."""
        self.stats["tensor_val"].append(x)
        return x


class ShadowLogger(Logger):
    """Keeps the outputs of a quantized layer and of its float shadow: stats["quantized"] and stats["float"]."""

    def __init__(self) -> None:
        super().__init__()
        self.stats.update(float=[], quantized=[])

    def forward(self, x: Any, y: Any) -> None:  # type: ignore[override]
        """Take one output of each; of several, the first."""
        for name, value in (("quantized", x), ("float", y)):
            self.stats[name].append((value[0] if isinstance(value, tuple | list) else value).detach())


class Shadow(nn.Module):
    """A quantized module, its float form beside, called with the same real numbers, and a logger of both outputs."""

    def __init__(self, q_module: nn.Module, float_module: nn.Module, logger_cls: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.orig_module = q_module
        self.shadow_module = float_module
        self.logger = logger_cls()

    def forward(self, *x: Any) -> Any:
        """Call both; the result is the quantized module's."""
        return self._both("forward", *x)

    def add(self, x: Tensor, y: Tensor) -> Any:
        """Of a QFunctional."""
        return self._both("add", x, y)

    def add_scalar(self, x: Tensor, y: float) -> Any:
        """Of a QFunctional."""
        return self._both("add_scalar", x, y)

    def mul(self, x: Tensor, y: Tensor) -> Any:
        """Of a QFunctional."""
        return self._both("mul", x, y)

    def mul_scalar(self, x: Tensor, y: float) -> Any:
        """Of a QFunctional."""
        return self._both("mul_scalar", x, y)

    def cat(self, x: list[Tensor], dim: int = 0) -> Any:
        """Of a QFunctional."""
        return self._both("cat", x, dim)

    def add_relu(self, x: Tensor, y: Tensor) -> Any:
        """Of a QFunctional."""
        return self._both("add_relu", x, y)

    def _both(self, method: str, *inputs: Any) -> Any:
        def called(module: nn.Module, given: Any) -> Any:
            return module(*given) if method == "forward" else getattr(module, method)(*given)

        output = called(self.orig_module, inputs)
        self.logger(output, called(self.shadow_module, _real(inputs)))
        return output


def _real(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_real, value))
    return value.dequantize() if isinstance(value, Tensor) and value.is_quantized else value


# --- shadows --------------------------------------------------------------------------------------------------------


def prepare_model_with_stubs(
    float_module: nn.Module,
    q_module: nn.Module,
    module_swap_list: Collection[type[nn.Module]],
    logger_cls: Callable[[], nn.Module],
) -> None:
    """Put a Shadow in the place of each module of the quantized model, in place, whose float form is of a class listed.

    A float form that was fused is its first part, so list the fused class.
    """
    floats = dict(float_module.named_modules())
    for path, module in list(q_module.named_modules()):
        parent_path, _, name = path.rpartition(".")
        twin = floats.get(path)
        if not path or twin is None or type(twin) is type(module):
            continue
        if type(twin) in module_swap_list:
            q_module.get_submodule(parent_path)._modules[name] = Shadow(module, twin, logger_cls)


def compare_model_stub(
    float_model: nn.Module,
    q_model: nn.Module,
    module_swap_list: Collection[type[nn.Module]],
    *data: Any,
    logger_cls: Callable[[], nn.Module] = ShadowLogger,
) -> dict[str, dict[str, Any]]:
    """Run the quantized model with shadows: path of a logger -> {"float": outputs, "quantized": outputs}."""
    prepare_model_with_stubs(float_model, q_model, module_swap_list, logger_cls)
    q_model(*data)
    return get_logger_dict(q_model)


# --- outputs --------------------------------------------------------------------------------------------------------


def prepare_model_outputs(
    float_module: nn.Module,
    q_module: nn.Module,
    logger_cls: Callable[[], nn.Module] = OutputLogger,
    allow_list: Collection[type[nn.Module]] | None = None,
) -> None:
    """Put a logger on the output of each module of both models, in place, that is of a class in `allow_list`."""
    listed = get_default_compare_output_module_list() if allow_list is None else allow_list
    for model in (float_module, q_module):
        for path, module in list(model.named_modules()):
            if path and type(module) in listed:
                _log(module, logger_cls)


def _log(module: Any, logger_cls: Callable[[], nn.Module]) -> None:
    logger = logger_cls()
    if isinstance(getattr(module, "activation_post_process", None), nn.Module) and hasattr(module, "add_relu"):
        if isinstance(module, QFunctional):
            _log_methods(module, logger)
        module.activation_post_process = logger
        return
    module.add_module("activation_post_process", logger)
    module.register_forward_hook(lambda module, inputs, output: module.activation_post_process(output))


def _log_methods(module: Any, logger: nn.Module) -> None:
    for name in ("add", "add_relu", "add_scalar", "mul", "mul_scalar", "cat"):
        method = getattr(module, name)

        def call(*args: Any, _method: Callable[..., Any] = method) -> Any:
            return logger(_method(*args))

        setattr(module, name, call)


def compare_model_outputs(
    float_model: nn.Module,
    q_model: nn.Module,
    *data: Any,
    logger_cls: Callable[[], nn.Module] = OutputLogger,
    allow_list: Collection[type[nn.Module]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Run both models: path of a logger -> {"float": outputs, "quantized": outputs}."""
    prepare_model_outputs(float_model, q_model, logger_cls, allow_list)
    with torch.no_grad():
        float_model(*data)
        q_model(*data)
    return get_matching_activations(float_model, q_model)


def get_logger_dict(mod: nn.Module, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Path of each module that has a logger + ".stats" -> what that keeps."""
    found = {}
    for path, part in mod.named_modules():
        if isinstance(part, Logger):
            parent = path.rpartition(".")[0]
            found[".".join(each for each in (prefix, parent, "stats") if each)] = part.stats
    return found


def get_matching_activations(float_module: nn.Module, q_module: nn.Module) -> dict[str, dict[str, Any]]:
    """What the loggers of both models have kept, by the path that they share; QuantizationError where none match."""
    floats, quantized = get_logger_dict(float_module), get_logger_dict(q_module)
    both = {
        key: {"float": floats[match]["tensor_val"], "quantized": stats["tensor_val"]}
        for key, stats in quantized.items()
        if (match := _like(floats, key)) is not None
    }
    if not both:
        raise QuantizationError("no logger of the quantized model has a path that the float model's loggers have")
    return both


def _like(floats: dict[str, Any], key: str) -> str | None:
    inner = key.removesuffix(".stats") + ".0.stats"
    return next((name for name in (key, inner) if name in floats), None)
