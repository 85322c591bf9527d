"""convert: observers become pairs of Quantize and dequantize, layers their reference form; still all in float."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from qcore.api._convert import build
from qcore.api._layers import Layer
from qcore.errors import QuantizationError
from qcore.fx import parts
from qcore.fx.graph_module import (
    CUSTOM,
    QUANTIZED,
    QuantizedGraphModule,
    erase_if_unused,
    finished,
    free_name,
    set_submodule,
)
from qcore.fx.modules import ReferenceModule
from qcore.nn import catalog
from qcore.nn.intrinsic.folding import float_form
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.observed import no_static_activation, observer_qparams
from qcore.nn.quantized.stubs import Quantize
from qcore.tensor.dtypes import per_tensor_affine
from qcore.tensor.qparams import QParams


def is_observer(module: object) -> bool:
    """Whether a module of a prepared graph watches a value (or fake-quantizes it)."""
    return isinstance(module, nn.Module) and hasattr(module, "calculate_qparams")


def to_reference(model: QuantizedGraphModule, backend: str, custom: dict[type[nn.Module], Any]) -> None:
    """Turn a calibrated graph, in place, into its reference form; `custom`: observed class -> quantized class.

    Raises QuantizationError, naming the place, where there was no calibration, or one that is not finite.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    _drop_dynamic(model, modules)
    static = catalog.conversion()
    dynamic = catalog.mapping("dynamic")
    found = _found(model, modules)
    layers: list[tuple[fx.Node, nn.Module]] = []
    customs: dict[fx.Node, list[fx.Node]] = {}
    for node in list(model.graph.nodes):
        if node.op != "call_module":
            continue
        module: Any = modules[str(node.target)]
        qconfig = getattr(module, "qconfig", None)
        if parts.is_in_parts(module):
            set_submodule(model, str(node.target), parts.converted(module))
            customs[node] = parts.results(node)
        elif type(module) in custom:
            set_submodule(model, str(node.target), custom[type(module)].from_observed(module))
            customs[node] = [node]
        elif getattr(module, CUSTOM, False):
            raise QuantizationError(
                f"custom module {node.target!r} ({type(module).__name__}) has no quantized class: name it in "
                f"ConvertCustomConfig.set_observed_to_quantized_mapping({type(module).__name__}, ...)"
            )
        elif qconfig is not None and not is_observer(module):
            layers.append((node, _layer(node, module, qconfig, found, static, dynamic, backend)))
    for node, qparams in found.items():
        _quantize_dequantize(model, node, qparams, backend)
    inputs = [node for node in model.graph.nodes if node.op == "placeholder"]
    for index in getattr(model, "qcore_quantized_inputs", ()):
        _dequantize_after(model, inputs[index], inputs[-1])
    for node, results in customs.items():
        _around_custom(model, node, results)
    used: set[str] = set()
    for node, new in layers:
        path = str(node.target)
        path = path if path not in used else free_name(model, path)
        used.add(path)
        node.target = path
        set_submodule(model, path, new)
    finished(model)


def _drop_dynamic(model: QuantizedGraphModule, modules: dict[str, nn.Module]) -> None:
    """Take away what stood, in training, for the dynamic quantization that layers do themselves now."""
    for node in list(model.graph.nodes):
        if node.op == "call_module" and getattr(modules[str(node.target)], "qcore_dynamic", False):
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)


def _layer(
    node: fx.Node,
    module: nn.Module,
    qconfig: Any,
    found: dict[fx.Node, QParams],
    static: catalog.Mapping,
    dynamic: catalog.Mapping,
    backend: str,
) -> nn.Module:
    """The reference form of a static layer, or the quantized form of a dynamic one."""
    layer = Layer(str(node.target), module, qconfig, True)
    target: Any = getattr(module, QUANTIZED, None) or catalog.match(type(module), static).target
    if (
        target is not None
        and getattr(target, "observes_output", hasattr(module, QUANTIZED))
        and not no_static_activation(qconfig)
    ):
        observers = [user for user in node.users if user in found]
        if not observers:
            raise QuantizationError(
                f"module {node.target!r} has no observer of its output: the prepared graph was changed after prepare"
            )
        quantized: Any = build(layer, target, backend, activation_post_process=_Known(found[observers[0]]))
        return ReferenceModule(float_form(module), quantized)
    if (
        target is not None
        and target is not catalog.match(type(module), dynamic).target
        and not no_static_activation(qconfig)
    ):
        same: Any = build(layer, target, backend)
        return ReferenceModule(float_form(module), same)
    target = catalog.match(type(module), {**catalog.trained_dynamic(), **dynamic}).target
    if target is None:
        raise QuantizationError(
            f"module {node.target!r} ({type(module).__name__}): no quantized class fits its qconfig"
        )
    return build(layer, target, backend)


class _Known:
    """Stands for an observer whose parameters were asked for already."""

    qscheme = per_tensor_affine

    def __init__(self, qparams: QParams) -> None:
        self.dtype = qparams.dtype
        self.qparams = qparams

    def calculate_qparams(self) -> tuple[Any, Any]:
        """What the observer gave."""
        return self.qparams.scale, self.qparams.zero_point


def _found(model: QuantizedGraphModule, modules: dict[str, nn.Module]) -> dict[fx.Node, QParams]:
    """The parameters that the observer of each observing node has found; each observer is asked once."""
    asked: dict[int, QParams] = {}
    found: dict[fx.Node, QParams] = {}
    for node in model.graph.nodes:
        observer: Any = modules.get(str(node.target)) if node.op == "call_module" else None
        if is_observer(observer):
            if id(observer) not in asked:
                asked[id(observer)] = observer_qparams(observer, observer)
            found[node] = asked[id(observer)]
            if found[node].axis is not None:
                raise QuantizationError(
                    f"module {observer.qcore_path!r}: its activation observer is per channel; "
                    "activations are quantized per tensor"
                )
    return found


def _quantize_dequantize(model: QuantizedGraphModule, node: fx.Node, qparams: QParams, backend: str) -> None:
    """Put Quantize and dequantize in the place of an observer."""
    name = free_name(model, "quantize")
    quantize = Quantize(qparams.scale, qparams.zero_point, qparams.dtype)
    quantize.backend = backend
    quantize.qcore_path = getattr(model.get_submodule(str(node.target)), "qcore_path", "") or name
    model.add_module(name, quantize)
    graph = model.graph
    with graph.inserting_before(node):
        quantized = graph.call_module(name, node.args)
        number = graph.call_method("dequantize", (quantized,))
    node.replace_all_uses_with(number)
    graph.erase_node(node)


TAKES_INTEGERS = "qcore_takes_integers"
"""Key in the meta of the call of a custom module: True."""


def _around_custom(model: QuantizedGraphModule, node: fx.Node, results: list[fx.Node]) -> None:
    """A custom module takes quantized tensors, and gives them as `results`; around it the graph stays float."""
    node.meta[TAKES_INTEGERS] = True
    integers_to(node)
    for result in results:
        _dequantize_after(model, result)


def integers_to(node: fx.Node) -> None:
    """Give a node the integers of the values that it has dequantized."""
    for number in node.all_input_nodes:
        if is_dequantize(number):
            node.replace_input_with(number, number.args[0])  # type: ignore[arg-type]
            erase_if_unused(number)


def _dequantize_after(model: QuantizedGraphModule, node: fx.Node, after: fx.Node | None = None) -> None:
    with model.graph.inserting_after(node if after is None else after):
        number = model.graph.call_method("dequantize", (node,))
    node.replace_all_uses_with(number, lambda user: user is not number)


def leave_outputs_quantized(model: QuantizedGraphModule) -> None:
    """Take away the dequantize before each output that callers take quantized."""
    output = next(node for node in model.graph.nodes if node.op == "output")
    for index in getattr(model, "qcore_quantized_outputs", ()):
        values = output.args[0]
        number: Any = values[index] if isinstance(values, tuple | list) else values
        if is_dequantize(number):
            output.replace_input_with(number, number.args[0])
            erase_if_unused(number)
    finished(model)


def fold(model: QuantizedGraphModule) -> None:
    """Take away each Quantize of a value that was just dequantized and has those parameters already."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for node in list(model.graph.nodes):
        if node.op != "call_module" or not isinstance(modules.get(str(node.target)), Quantize):
            continue
        source = node.args[0]
        if is_dequantize(source) and qparams_of(source.args[0], modules) == modules[str(node.target)]._out:
            node.replace_all_uses_with(source.args[0])
            model.graph.erase_node(node)
            if not source.users:
                model.graph.erase_node(source)
    finished(model)


def is_dequantize(node: object) -> bool:
    """Whether a node is the dequantize that converting has put there."""
    return isinstance(node, fx.Node) and node.op == "call_method" and node.target == "dequantize"


def qparams_of(node: Any, modules: dict[str, nn.Module]) -> QParams | None:
    """Parameters of a quantized value, as far as the graph alone says."""
    if node.op != "call_module":
        return None
    module = modules.get(str(node.target))
    found: QParams | None = getattr(module, "_out", None) if isinstance(module, QuantizedModule) else None
    return found
