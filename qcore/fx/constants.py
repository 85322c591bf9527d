"""constants: functions whose weights are constants of the model become modules, and so quantize as those do; other
constants are quantized once, when the model is lowered."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from qcore.fx.graph_module import REASON, QuantizedGraphModule, attribute, finished, free_name, set_submodule
from qcore.fx.kinds import shapes_of
from qcore.fx.modules import Constant
from qcore.fx.patterns import Role, Unfit, rule_of
from qcore.nn.quantized.stubs import Quantize

_NAMES: dict[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    F.embedding: ("input", "weight", "padding_idx", "max_norm"),
    torch.embedding: ("weight", "input", "padding_idx"),
    F.embedding_bag: (
        "input",
        "weight",
        "offsets",
        "max_norm",
        "norm_type",
        "scale_grad_by_freq",
        "mode",
        "sparse",
        "per_sample_weights",
        "include_last_offset",
        "padding_idx",
    ),
    **dict.fromkeys((F.layer_norm, torch.layer_norm), ("input", "normalized_shape", "weight", "bias", "eps")),
    **dict.fromkeys((F.group_norm, torch.group_norm), ("input", "num_groups", "weight", "bias", "eps")),
    F.instance_norm: ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    F.prelu: ("input", "weight"),
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d), ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    ),
    **dict.fromkeys(
        (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
}
_ALSO_INPUTS: dict[Any, tuple[str, ...]] = {F.embedding_bag: ("offsets", "per_sample_weights")}
"""Arguments that the forward of the module takes by these names."""

_NORMS: dict[Any, dict[int, type[Any]]] = {
    F.batch_norm: {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d},
    F.instance_norm: {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d},
}
_CONVS: dict[Any, type[Any]] = {
    F.conv1d: nn.Conv1d,
    F.conv2d: nn.Conv2d,
    F.conv3d: nn.Conv3d,
    F.conv_transpose1d: nn.ConvTranspose1d,
    F.conv_transpose2d: nn.ConvTranspose2d,
    F.conv_transpose3d: nn.ConvTranspose3d,
}

WITH_WEIGHTS = tuple(_NAMES)
"""Functions that become modules where their weights are constants."""


def functions_to_modules(model: QuantizedGraphModule, example_inputs: tuple[Any, ...] = ()) -> None:
    """In place: F.linear, F.conv2d and their kin with constant weights become modules that share these weights.

    Those that cannot are noted, with why. `example_inputs`: by them the dimensions of what norms get are known.
    """
    calls = [node for node in model.graph.nodes if node.op == "call_function" and node.target in _NAMES]
    by_rank = any(node.target in _NORMS for node in calls)
    shapes = shapes_of(model, example_inputs) if by_rank else {}
    changed = False
    for node in calls:
        given = {**dict(zip(_NAMES[node.target], node.args, strict=False)), **node.kwargs}
        source = given.pop("input", None)
        if not isinstance(source, fx.Node):
            continue
        others = {name: given.pop(name) for name in _ALSO_INPUTS.get(node.target, ()) if name in given}
        try:
            module = _module(node.target, _constants(model, given), len(shapes.get(source, ())))
        except Unfit as unfit:
            node.meta[REASON] = str(unfit)
            continue
        path = free_name(model, node.name)
        set_submodule(model, path, module.train(model.training))
        node.meta["origin"] = node.target
        node.op, node.target, node.args, node.kwargs = "call_module", path, (source,), others
        changed = True
    if changed:
        _drop_unread(model)
        finished(model)


def quantize_constants(model: QuantizedGraphModule, backend: str) -> None:
    """In place: each Quantize of a tensor of the model, or of elements of one, becomes that tensor, quantized."""
    modules = dict(model.named_modules(remove_duplicate=False))
    changed = False
    for node in list(model.graph.nodes):
        quantize = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(quantize, Quantize):
            continue
        moved = _moved(node.args[0], modules)
        source = moved[-1] if moved else None
        if source is None or source.op != "get_attr":
            continue
        tensor = attribute(model, str(source.target))
        constant = Constant(quantize._out, tuple(tensor.shape))
        constant.value = quantize(tensor.detach())
        constant.backend = backend
        path = free_name(model, f"{source.name}_quantized")
        constant.qcore_path = path
        model.add_module(path, constant)
        with model.graph.inserting_before(source):
            new = model.graph.call_module(path)
        if len(moved) == 1:
            node.replace_all_uses_with(new)
        else:
            moved[-2].replace_input_with(source, new)
            node.replace_all_uses_with(moved[0])
        model.graph.erase_node(node)
        changed = True
    if changed:
        _drop_unread(model)
        finished(model)


def _moved(value: Any, modules: dict[str, nn.Module]) -> list[fx.Node]:
    """The calls that lead to a value and only move elements, its source last; none where others read between."""
    found = [value] if isinstance(value, fx.Node) else []
    while found and found[-1].op in ("call_function", "call_method"):
        node = found[-1]
        rule = rule_of(node, modules)
        if rule is None or rule.role is not Role.MOVE or len(node.users) != 1 or not isinstance(node.args[0], fx.Node):
            return []
        found.append(node.args[0])
    return found


def _drop_unread(model: QuantizedGraphModule) -> None:
    """Take away get_attr nodes without users, and the tensors that none reads any more."""
    reads = [node for node in model.graph.nodes if node.op == "get_attr"]
    for node in reads:
        if not node.users:
            model.graph.erase_node(node)
    called = {str(node.target) for node in model.graph.nodes if node.op == "call_module"}
    for path in {str(node.target) for node in reads} - {str(node.target) for node in reads if node.users}:
        owner, _, name = path.rpartition(".")
        if owner in called:
            continue  # a layer has it, too: tied weights
        delattr(model.get_submodule(owner), name)


def remove_identities(model: QuantizedGraphModule, kinds: tuple[type[nn.Module], ...]) -> None:
    """Take calls of modules that return their input out of the graph."""
    modules = dict(model.named_modules(remove_duplicate=False))
    calls = [node for node in model.graph.nodes if node.op == "call_module" and len(node.args) == 1]
    found = [node for node in calls if type(modules.get(str(node.target))) in kinds]
    for node in found:
        node.replace_all_uses_with(node.args[0])
        model.graph.erase_node(node)
    if found:
        finished(model)


def _constants(model: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call, with the tensors that get_attr nodes read; Unfit for those that are computed."""
    found = {}
    for name, value in given.items():
        if isinstance(value, fx.Node) and value.op == "get_attr":
            found[name] = attribute(model, str(value.target))
        elif any(isinstance(each, fx.Node) for each in tree_leaves(value)):
            raise Unfit(f"its {name} is computed; only constants of the model have a quantized form here")
        else:
            found[name] = value
    return found


def _module(function: Any, given: dict[str, Any], rank: int) -> nn.Module:
    """The module for a function with these constants, on inputs of `rank` dimensions (0: not known)."""
    weight: Any = given.get("weight")
    bias: Any = given.get("bias")
    module: Any
    if function is F.linear:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    elif function in (F.embedding, torch.embedding, F.embedding_bag):
        module = _table(function, given, weight)
    elif function in (F.layer_norm, torch.layer_norm):
        shape, eps = given["normalized_shape"], given.get("eps", 1e-5)
        module = nn.LayerNorm(shape, eps, weight is not None, bias is not None, device="meta")
    elif function in (F.group_norm, torch.group_norm):
        if weight is None:
            raise Unfit("a group norm without a weight has no quantized form")
        module = nn.GroupNorm(given["num_groups"], weight.shape[0], given.get("eps", 1e-5), device="meta")
    elif function in _NORMS:
        module = _norm(function, given, rank)
    elif function is F.prelu:
        module = nn.PReLU(weight.numel(), device="meta")
    else:
        module = _conv(_CONVS[function], given, weight)
    for name, value in (("weight", weight), ("bias", bias)):
        if name in module._parameters:
            module._parameters[name] = value if isinstance(value, nn.Parameter) or value is None else _frozen(value)
    return module  # type: ignore[no-any-return]


def _table(function: Any, given: dict[str, Any], weight: Any) -> Any:
    """An embedding, or an embedding bag."""
    padding = given.get("padding_idx")
    count, size = weight.shape
    if given.get("max_norm") is not None:
        raise Unfit("max_norm changes the weight at each call")
    if function is not F.embedding_bag:
        padding = None if function is torch.embedding and padding == -1 else padding
        return nn.Embedding(count, size, padding_idx=padding, device="meta")
    mode, last = given.get("mode", "mean"), given.get("include_last_offset", False)
    return nn.EmbeddingBag(count, size, mode=mode, include_last_offset=last, padding_idx=padding, device="meta")


def _norm(function: Any, given: dict[str, Any], rank: int) -> Any:
    """A batch norm by given statistics, or an instance norm by those of its input."""
    kind = _NORMS[function].get(rank)
    mean, variance, eps = given.get("running_mean"), given.get("running_var"), given.get("eps", 1e-5)
    if kind is None:
        raise Unfit("the dimensions of its input are not known from the example inputs")
    if function is F.batch_norm:
        if given.get("training", False) or mean is None:
            raise Unfit("its statistics are those of each batch; only given ones have a quantized form")
        module = kind(len(mean), eps, affine=given.get("weight") is not None, device="meta")
        module.running_mean, module.running_var = mean, variance
        module.num_batches_tracked = torch.tensor(0)
        return module
    if not given.get("use_input_stats", True) or mean is not None:
        raise Unfit("it has statistics of its own; only an instance norm by those of its input has a quantized form")
    weight = given.get("weight")
    return kind(1 if weight is None else len(weight), eps, affine=weight is not None, device="meta")


def _conv(kind: type[Any], given: dict[str, Any], weight: Any) -> Any:
    groups = given.get("groups", 1)
    transposed = "Transpose" in kind.__name__
    channels = (
        (weight.shape[0], weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, weight.shape[0])
    )
    options = {key: given[key] for key in ("stride", "padding", "output_padding", "dilation") if key in given}
    return kind(
        *channels, tuple(weight.shape[2:]), groups=groups, bias=given.get("bias") is not None, device="meta", **options
    )


def _frozen(value: Any) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)
