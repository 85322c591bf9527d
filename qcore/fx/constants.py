"""constants: functions whose weights are constants of the model become modules, and so quantize as those do."""

from __future__ import annotations

from typing import Any

from torch import fx, nn
from torch.nn import functional as F

from qcore.fx.graph_module import QuantizedGraphModule, finished, free_name, set_submodule

_NAMES: dict[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    F.embedding: ("input", "weight", "padding_idx", "max_norm"),
    F.layer_norm: ("input", "normalized_shape", "weight", "bias", "eps"),
    F.group_norm: ("input", "num_groups", "weight", "bias", "eps"),
    F.prelu: ("input", "weight"),
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d), ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    ),
    **dict.fromkeys(
        (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
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


def functions_to_modules(model: QuantizedGraphModule) -> None:
    """In place: F.linear, F.conv2d and their kin with constant weights become modules that share these weights."""
    changed = False
    for node in list(model.graph.nodes):
        if node.op != "call_function" or node.target not in _NAMES:
            continue
        given = {**dict(zip(_NAMES[node.target], node.args, strict=False)), **node.kwargs}
        constants = {name: _constant(model, value) for name, value in given.items() if name != "input"}
        if not isinstance(given.get("input"), fx.Node) or any(isinstance(each, fx.Node) for each in constants.values()):
            continue
        module = _module(node.target, constants)
        if module is None:
            continue
        path = free_name(model, node.name)
        set_submodule(model, path, module.train(model.training))
        node.meta["origin"] = node.target
        node.op, node.target, node.args, node.kwargs = "call_module", path, (given["input"],), {}
        changed = True
    if changed:
        _drop_unread(model)
        finished(model)


def _drop_unread(model: QuantizedGraphModule) -> None:
    """Take away get_attr nodes without users, and the tensors that none reads any more."""
    reads = [node for node in model.graph.nodes if node.op == "get_attr"]
    for node in reads:
        if not node.users:
            model.graph.erase_node(node)
    for path in {str(node.target) for node in reads} - {str(node.target) for node in reads if node.users}:
        owner, _, name = path.rpartition(".")
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


def _constant(model: nn.Module, value: Any) -> Any:
    """The tensor that a get_attr node reads; anything else as it is."""
    if not (isinstance(value, fx.Node) and value.op == "get_attr"):
        return value
    found: Any = model
    for part in str(value.target).split("."):
        found = getattr(found, part)
    return found


def _module(function: Any, given: dict[str, Any]) -> nn.Module | None:
    weight: Any = given.get("weight")
    bias: Any = given.get("bias")
    module: Any
    if function is F.linear:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    elif function is F.embedding:
        if given.get("max_norm") is not None:
            return None
        module = nn.Embedding(weight.shape[0], weight.shape[1], padding_idx=given.get("padding_idx"), device="meta")
    elif function is F.layer_norm:
        shape, eps = given["normalized_shape"], given.get("eps", 1e-5)
        module = nn.LayerNorm(shape, eps, weight is not None, bias is not None, device="meta")
    elif function is F.group_norm:
        if weight is None:
            return None
        module = nn.GroupNorm(given["num_groups"], weight.shape[0], given.get("eps", 1e-5), device="meta")
    elif function is F.prelu:
        module = nn.PReLU(weight.numel(), device="meta")
    else:
        module = _conv(_CONVS[function], given, weight)
    for name, value in (("weight", weight), ("bias", bias)):
        if name in module._parameters:
            module._parameters[name] = value if isinstance(value, nn.Parameter) or value is None else _frozen(value)
    return module  # type: ignore[no-any-return]


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
