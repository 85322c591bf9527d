"""A converted model, rewritten for export: every quantized value becomes the float that its integers stand for."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.errors import UnsupportedError
from qcore.fx.convert import is_dequantize
from qcore.fx.graph_module import QuantizedGraphModule, free_name
from qcore.fx.modules import Constant, Operation, ScalarOperation
from qcore.graph.from_fx import read
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.dynamic.cell_weights import LayerCell
from qcore.nn.quantized.dynamic.rnn import Recurrent
from qcore.nn.quantized.functional_modules import QFunctional
from qcore.nn.quantized.stubs import DeQuantize, Quantize
from qcore.onnx.floats import Function, QuantizeDequantize, float_module, reason_against
from qcore.onnx.recurrent import Layers
from qcore.onnx.weights import Ends
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


class Seen:
    """The parameters of the first input and of the result of each quantized module, from a run on example inputs.

    None where they differ between calls, or where the value was not quantized.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.inputs: dict[str, set[QParams | None]] = {}
        self.outputs: dict[str, set[QParams | None]] = {}
        hooks = [
            module.register_forward_hook(self._note(path))
            for path, module in model.named_modules()
            if isinstance(module, QuantizedModule)
        ]
        try:
            with torch.no_grad():
                model(*inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, path: str) -> Any:
        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            first = inputs[0] if inputs else None
            self.inputs.setdefault(path, set()).add(_qparams(first))
            self.outputs.setdefault(path, set()).add(_qparams(output))

        return note

    def input(self, path: str) -> QParams | None:
        """Those of the first input of a module."""
        return _single(self.inputs.get(path, set()))

    def output(self, path: str) -> QParams | None:
        """Those of its result."""
        return _single(self.outputs.get(path, set()))


def _qparams(value: Any) -> QParams | None:
    return value.qparams if isinstance(value, QTensor) else None


def _single(found: set[QParams | None]) -> QParams | None:
    return next(iter(found)) if len(found) == 1 else None


class Rounded(nn.Module):
    """A float module whose result is rounded to what integers can hold."""

    def __init__(self, inner: nn.Module, out: QParams | None) -> None:
        super().__init__()
        self.inner = inner
        self.rounding = nn.Identity() if out is None else QuantizeDequantize(out)

    def forward(self, *inputs: Any) -> Any:
        """As the float module."""
        return self.rounding(self.inner(*inputs))


class Held(nn.Module):
    """A tensor, called without inputs."""

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers)

    def forward(self) -> Any:
        """The tensor."""
        return self.numbers


class Functional(nn.Module):
    """The methods of a QFunctional on floats."""

    def __init__(self, out: QParams) -> None:
        super().__init__()
        self.rounding = QuantizeDequantize(out)

    def add(self, x: Tensor, y: Tensor) -> Any:
        """x + y."""
        return self.rounding(x + y)

    def add_relu(self, x: Tensor, y: Tensor) -> Any:
        """relu(x + y)."""
        return self.rounding(torch.relu(x + y))

    def mul(self, x: Tensor, y: Tensor) -> Any:
        """x * y."""
        return self.rounding(x * y)

    def matmul(self, x: Tensor, y: Tensor) -> Any:
        """x @ y."""
        return self.rounding(x @ y)

    def cat(self, x: list[Tensor], dim: int = 0) -> Any:
        """Joined along dim."""
        return self.rounding(torch.cat(x, dim))

    def add_scalar(self, x: Tensor, y: float) -> Tensor:
        """x + y; its integers are x's."""
        return x + y

    def mul_scalar(self, x: Tensor, y: float) -> Tensor:
        """x * y; its integers are x's."""
        return x * y


def rewritten(model: nn.Module, inputs: tuple[Any, ...], unsigned: bool) -> nn.Module:
    """A float model of the same structure; the model stays as it is. `inputs`: an example of what it is called with.

    Raises UnsupportedError that names every module that has no translation.
    """
    refused = [
        f"{path or 'the model'} ({reason})"
        for path, module in model.named_modules()
        if isinstance(module, QuantizedModule) and (reason := _reason_against(module))
    ]
    if refused:
        raise UnsupportedError(
            f"cannot be exported to ONNX: {'; '.join(refused)}. Leave these modules float (their qconfig None) and "
            "convert again"
        )
    seen = Seen(model, inputs)
    whole = nn.Module()
    whole.model = copy.deepcopy(model)
    graphs = [module for module in whole.modules() if isinstance(module, QuantizedGraphModule)]
    for graph in graphs:
        _round_calls(graph)
    _replace(whole.model, whole, "model", "", seen, unsigned)
    for graph in graphs:
        _without_dequantize(graph)
    return whole.model.eval()


def _replace(module: nn.Module, owner: nn.Module, name: str, path: str, seen: Seen, unsigned: bool) -> None:
    """Put float forms in the place of quantized modules, the outermost first; `path`: in the model."""
    if isinstance(module, QuantizedModule):
        setattr(owner, name, _float_form(module, Ends(seen.input(path), seen.output(path)), unsigned))
        return
    for inner, child in list(module.named_children()):
        _replace(child, module, inner, f"{path}.{inner}" if path else inner, seen, unsigned)


def _reason_against(module: QuantizedModule) -> str:
    if isinstance(module, Constant | Quantize | DeQuantize | QFunctional | ScalarOperation | Recurrent | LayerCell):
        return ""  # a layer's cell is a part of it
    return reason_against(module.operator())


def _float_form(module: Any, ends: Ends, unsigned: bool) -> nn.Module:
    if isinstance(module, Quantize):
        return QuantizeDequantize(module._out)
    if isinstance(module, DeQuantize):
        return nn.Identity()
    if isinstance(module, Constant):
        return Held(module.value.dequantize())
    if isinstance(module, QFunctional):
        return Functional(module.output_qparams)
    if isinstance(module, Recurrent):
        return Layers(module, unsigned)
    if isinstance(module, ScalarOperation):
        return Rounded(Function(_scaled(module)), ends.out)
    if isinstance(module, Operation) and module.negate:
        return Rounded(Function(_difference(module.kind)), ends.out)
    operator = module.operator()
    return Rounded(
        float_module(operator, ends, unsigned), None if isinstance(operator, ops.LinearDynamic) else ends.out
    )


def _difference(operator: Any) -> Any:
    return lambda x, y: torch.relu(x - y) if operator.relu else x - y


def _scaled(module: ScalarOperation) -> Any:
    factor, summand, relu = module.factor, module.summand, module.relu
    return lambda x: torch.relu(x * factor + summand) if relu else x * factor + summand


def _round_calls(model: Any) -> None:
    """Let results of functions and methods be rounded too, where their parameters are known."""
    values = read(model).values
    for node in list(model.graph.nodes):
        value = values.get(node)
        if node.op not in ("call_function", "call_method") or value is None or value.qparams is None:
            continue
        name = free_name(model, f"{node.name}_rounding")
        model.add_module(name, QuantizeDequantize(value.qparams))
        with model.graph.inserting_after(node):
            rounded = model.graph.call_module(name, (node,))
        node.replace_all_uses_with(rounded, lambda user, rounded=rounded: user is not rounded)
    model.recompile()


def _without_dequantize(model: Any) -> None:
    """Values are float already."""
    for node in list(model.graph.nodes):
        if is_dequantize(node):
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)
    model.recompile()
