"""fuse_modules: make sequences such as convolution, batch norm and ReLU one module, which is quantized as one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from qcore.api._layers import POST_HOOKS, PRE_HOOKS, check_names, unseen_hooks, without_hooks
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn import catalog
from qcore.nn.intrinsic.folding import fold_norm
from qcore.nn.weights import MAKERS, copied
from qcore.tensor.arguments import check_module, check_type

FuserMethods = dict[tuple[type[nn.Module], ...], Callable[..., nn.Module]]
Fuser = Callable[..., list[nn.Module]]


def fuse_known_modules(
    mod_list: Sequence[nn.Module], is_qat: bool, additional_fuser_method_mapping: FuserMethods | None = None
) -> list[nn.Module]:
    """The fused module, then an Identity for each other one of `mod_list`; hooks stay at the front and the end.

    `additional_fuser_method_mapping`: tuple of classes -> function(is_qat, *modules). Raises ArgumentError for a
    sequence that nothing fuses, or modules in the wrong mode.
    """
    check_type("fuse_known_modules", Sequence, mod_list=mod_list)
    for module in mod_list:
        check_module("fuse_known_modules", module)
    if not mod_list:
        raise ArgumentError("fuse_known_modules: mod_list is empty; give the modules of one sequence")
    if additional_fuser_method_mapping is not None:
        given = additional_fuser_method_mapping
        check_type("fuse_known_modules", Mapping, additional_fuser_method_mapping=given)
    kinds = tuple(type(module) for module in mod_list)
    method = (additional_fuser_method_mapping or {}).get(kinds)
    first, last = mod_list[0], mod_list[-1]
    parts = [*mod_list]
    parts[0] = without_hooks(parts[0], PRE_HOOKS)
    parts[-1] = without_hooks(parts[-1], POST_HOOKS)
    fused = _fuse(parts, is_qat) if method is None else method(is_qat, *parts)
    for module, names in ((first, PRE_HOOKS), (last, POST_HOOKS)):
        for name in names:
            found = getattr(module, name)
            taken = [key for key in found if not isinstance(module._forward_pre_hooks.get(key), MAKERS)]
            getattr(fused, name).update({key: found[key] for key in taken})
    if "qconfig" in first.__dict__:
        fused.qconfig = first.qconfig
    return [fused, *(nn.Identity().train(fused.training) for _ in mod_list[1:])]


def _fuse(parts: list[nn.Module], is_qat: bool) -> nn.Module:
    names = ", ".join(type(part).__name__ for part in parts)
    sequence = _known(parts)
    if sequence is None:
        known = "; ".join(" + ".join(kind.__name__ for kind in each) for each in _sequences())
        raise ArgumentError(f"no fusion of {names}; known are: {known}")
    if len({part.training for part in parts}) > 1:
        raise ArgumentError(f"{names}: some are in training mode and some not; call .train() or .eval() on the model")
    folding = any(kind in catalog.NORMS for kind in sequence[1:])
    if folding and is_qat and not parts[0].training:
        raise ArgumentError(f"{names}: fuse_modules_qat keeps batch norms trainable; call model.train() first")
    if folding and not is_qat:
        if parts[0].training:
            raise ArgumentError(
                f"{names}: a batch norm is folded with its running statistics; call model.eval() first, or "
                "fuse_modules_qat"
            )
        parts = [fold_norm(parts[0], parts[1]), *parts[2:]]
        sequence = (sequence[0], *sequence[2:])
        if len(parts) == 1:
            return parts[0]
    fused = catalog.fusions().get(sequence)
    if fused is None:
        raise ArgumentError(f"{names}: fused only in eval mode, for quantization after training")
    return fused(*parts).train(parts[0].training)


def _known(parts: list[nn.Module]) -> tuple[type[nn.Module], ...] | None:
    for sequence in _sequences():
        if len(sequence) == len(parts):
            tables = [{kind: kind} for kind in sequence]
            if all(catalog.match(type(part), table).target for part, table in zip(parts, tables, strict=True)):
                return sequence
    return None


def _sequences() -> list[tuple[type[nn.Module], ...]]:
    return [*catalog.fusions(), *catalog.FOLDED]


def fuse_modules(
    model: nn.Module,
    modules_to_fuse: Sequence[str] | Sequence[Sequence[str]],
    inplace: bool = False,
    fuser_func: Fuser = fuse_known_modules,
    fuse_custom_config_dict: dict[str, Any] | None = None,
) -> nn.Module:
    """Fuse the named sequences for quantization after training: the first becomes the whole, the others Identity.

    `modules_to_fuse`: a list of module paths, or a list of such lists, each in order of execution. Batch norms are
    folded, so the model must be in eval mode. `fuse_custom_config_dict`: {"additional_fuser_method_mapping":
    {(classes): function}}. On error nothing is changed. Raises QuantizationError for paths that are not there,
    ArgumentError for sequences that nothing fuses.
    """
    return _fuse_all(model, modules_to_fuse, False, inplace, fuser_func, fuse_custom_config_dict)


def fuse_modules_qat(
    model: nn.Module,
    modules_to_fuse: Sequence[str] | Sequence[Sequence[str]],
    inplace: bool = False,
    fuser_func: Fuser = fuse_known_modules,
    fuse_custom_config_dict: dict[str, Any] | None = None,
) -> nn.Module:
    """Fuse the named sequences for quantization-aware training, batch norms kept; the model must be in training mode.

    Arguments and errors as of `fuse_modules`.
    """
    return _fuse_all(model, modules_to_fuse, True, inplace, fuser_func, fuse_custom_config_dict)


def _fuse_all(
    model: nn.Module,
    modules_to_fuse: Sequence[Any],
    is_qat: bool,
    inplace: bool,
    fuser_func: Fuser,
    config: dict[str, Any] | None,
) -> nn.Module:
    check_module("fuse_modules", model)
    if not isinstance(modules_to_fuse, list | tuple) or not all(map(_is_path_or_paths, modules_to_fuse)):
        raise ArgumentTypeError(
            f"modules_to_fuse={modules_to_fuse!r} must be a list of module paths, or a list of such lists"
        )
    groups = [modules_to_fuse] if all(isinstance(name, str) for name in modules_to_fuse) else modules_to_fuse
    methods = (config or {}).get("additional_fuser_method_mapping")
    for group in groups:
        check_names(model, list(group), "modules_to_fuse")
    if not inplace:
        model = copied(model)
    replaced: dict[str, nn.Module] = {}
    for group in [list(group) for group in groups if group]:
        for n in unseen_hooks([model.get_submodule(name) for name in group]):
            warnings.warn(
                f"modules_to_fuse {group}: hooks of module {group[n]!r} are not called any more, as what they see is "
                "computed no more; take them off, register them on the first module (before it) or the last (after "
                "it), or leave this sequence out",
                stacklevel=3,
            )
        repeated = [name for name in group if name in replaced]
        if repeated:
            raise ArgumentError(f"modules_to_fuse: {repeated[0]!r} is in two sequences")
        try:
            new = fuser_func([model.get_submodule(name) for name in group], is_qat, methods)
        except ArgumentError as error:
            raise ArgumentError(f"modules_to_fuse {group}: {error}") from error
        replaced.update(zip(group, new, strict=True))
    for path, module in replaced.items():
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent)._modules[name] = module
    return model


def _is_path_or_paths(given: Any) -> bool:
    return isinstance(given, str) or (isinstance(given, list | tuple) and all(isinstance(path, str) for path in given))
