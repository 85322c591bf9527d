"""What graph mode is told besides QConfigs: what not to trace, custom modules, quantized inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from qcore.api._layers import check_keys
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.tensor.arguments import check_key, takes_dict_form

__all__ = ["ConvertCustomConfig", "FuseCustomConfig", "PrepareCustomConfig"]

ModuleType = type[nn.Module]
ConfigT = TypeVar("ConfigT", bound="_Preserving")


class _Preserving:
    """Shared: attributes of the model that the graph module keeps."""

    def __init__(self) -> None:
        self.preserved_attributes: list[str] = []

    def set_preserved_attributes(self: ConfigT, attributes: list[str]) -> ConfigT:
        """Names of attributes to carry over from the model to the graph module."""
        self.preserved_attributes = _listed(attributes, "preserved_attributes")
        return self

    def to_dict(self) -> dict[str, Any]:
        """As a dict with only what was set; `from_dict` takes it."""
        return {"preserved_attributes": self.preserved_attributes} if self.preserved_attributes else {}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"


class PrepareCustomConfig(_Preserving):
    """Options of prepare_fx. Each setter returns the object, so that calls chain."""

    def __init__(self) -> None:
        super().__init__()
        self.standalone_module_names: dict[str, tuple[Any, ...]] = {}
        self.standalone_module_classes: dict[ModuleType, tuple[Any, ...]] = {}
        self.float_to_observed_mapping: dict[str, dict[ModuleType, ModuleType]] = {}
        self.non_traceable_module_names: list[str] = []
        self.non_traceable_module_classes: list[ModuleType] = []
        self.input_quantized_indexes: list[int] = []
        self.output_quantized_indexes: list[int] = []

    def set_standalone_module_name(
        self,
        module_name: str,
        qconfig_mapping: Any = None,
        example_inputs: tuple[Any, ...] = (),
        prepare_custom_config: Any = None,
        backend_config: Any = None,
    ) -> PrepareCustomConfig:
        """Give the module at a path a graph of its own, float outside; with a mapping of its own, or the model's."""
        check_key("set_standalone_module_name", module_name=module_name)
        self.standalone_module_names[module_name] = (
            qconfig_mapping, example_inputs, prepare_custom_config, backend_config,
        )  # fmt: skip
        return self

    def set_standalone_module_class(
        self,
        module_class: ModuleType,
        qconfig_mapping: Any = None,
        example_inputs: tuple[Any, ...] = (),
        prepare_custom_config: Any = None,
        backend_config: Any = None,
    ) -> PrepareCustomConfig:
        """Give each module of a class a graph of its own, as `set_standalone_module_name`."""
        check_key("set_standalone_module_class", module_class=module_class)
        self.standalone_module_classes[module_class] = (
            qconfig_mapping, example_inputs, prepare_custom_config, backend_config,
        )  # fmt: skip
        return self

    def set_float_to_observed_mapping(
        self, float_class: ModuleType, observed_class: ModuleType, quant_type: Any = "static"
    ) -> PrepareCustomConfig:
        """Custom modules: prepare calls observed_class.from_float on each module of float_class.

        `quant_type`: "static", "dynamic" or "weight_only" (or an enumeration whose value's name is one of these).
        """
        check_key("set_float_to_observed_mapping", float_class=float_class)
        self.float_to_observed_mapping.setdefault(_quant_type(quant_type), {})[float_class] = observed_class
        return self

    def set_non_traceable_module_names(self, module_names: list[str]) -> PrepareCustomConfig:
        """Paths of modules not to trace into."""
        self.non_traceable_module_names = _listed(module_names, "non_traceable_module_names")
        return self

    def set_non_traceable_module_classes(self, module_classes: list[ModuleType]) -> PrepareCustomConfig:
        """Classes of modules not to trace into."""
        self.non_traceable_module_classes = _listed(module_classes, "non_traceable_module_classes")
        return self

    def set_input_quantized_indexes(self, indexes: list[int]) -> PrepareCustomConfig:
        """Positions of inputs that callers will give as quantized tensors."""
        self.input_quantized_indexes = _listed(indexes, "input_quantized_indexes")
        return self

    def set_output_quantized_indexes(self, indexes: list[int]) -> PrepareCustomConfig:
        """Positions of outputs that callers will take as quantized tensors."""
        self.output_quantized_indexes = _listed(indexes, "output_quantized_indexes")
        return self

    @classmethod
    @takes_dict_form
    def from_dict(cls, prepare_custom_config_dict: Mapping[str, Any]) -> PrepareCustomConfig:
        """From torch's dict form. Raises ArgumentError for an unknown key."""
        config = cls()
        given = dict(prepare_custom_config_dict)
        for name, *rest in given.pop("standalone_module_name", []):
            config.set_standalone_module_name(name, *rest)
        for kind, *rest in given.pop("standalone_module_class", []):
            config.set_standalone_module_class(kind, *rest)
        for quant_type, mapping in given.pop("float_to_observed_custom_module_class", {}).items():
            for float_class, observed_class in mapping.items():
                config.set_float_to_observed_mapping(float_class, observed_class, quant_type)
        config.set_non_traceable_module_names(given.pop("non_traceable_module_name", []))
        config.set_non_traceable_module_classes(given.pop("non_traceable_module_class", []))
        config.set_input_quantized_indexes(given.pop("input_quantized_idxs", []))
        config.set_output_quantized_indexes(given.pop("output_quantized_idxs", []))
        config.set_preserved_attributes(given.pop("preserved_attributes", []))
        return _finished(config, given, _PREPARE_KEYS)

    def to_dict(self) -> dict[str, Any]:
        """As a dict with only what was set; `from_dict` takes it."""
        found = {
            "standalone_module_name": [(name, *rest) for name, rest in self.standalone_module_names.items()],
            "standalone_module_class": [(kind, *rest) for kind, rest in self.standalone_module_classes.items()],
            "float_to_observed_custom_module_class": self.float_to_observed_mapping,
            "non_traceable_module_name": self.non_traceable_module_names,
            "non_traceable_module_class": self.non_traceable_module_classes,
            "input_quantized_idxs": self.input_quantized_indexes,
            "output_quantized_idxs": self.output_quantized_indexes,
        }
        return {**{key: value for key, value in found.items() if value}, **super().to_dict()}


_PREPARE_KEYS = (
    "standalone_module_name",
    "standalone_module_class",
    "float_to_observed_custom_module_class",
    "non_traceable_module_name",
    "non_traceable_module_class",
    "input_quantized_idxs",
    "output_quantized_idxs",
)


class ConvertCustomConfig(_Preserving):
    """Options of convert_fx."""

    def __init__(self) -> None:
        super().__init__()
        self.observed_to_quantized_mapping: dict[str, dict[ModuleType, ModuleType]] = {}

    def set_observed_to_quantized_mapping(
        self, observed_class: ModuleType, quantized_class: ModuleType, quant_type: Any = "static"
    ) -> ConvertCustomConfig:
        """Custom modules: convert calls quantized_class.from_observed on each module of observed_class."""
        check_key("set_observed_to_quantized_mapping", observed_class=observed_class)
        self.observed_to_quantized_mapping.setdefault(_quant_type(quant_type), {})[observed_class] = quantized_class
        return self

    @classmethod
    @takes_dict_form
    def from_dict(cls, convert_custom_config_dict: Mapping[str, Any]) -> ConvertCustomConfig:
        """From torch's dict form. Raises ArgumentError for an unknown key."""
        config = cls()
        given = dict(convert_custom_config_dict)
        for quant_type, mapping in given.pop("observed_to_quantized_custom_module_class", {}).items():
            for observed_class, quantized_class in mapping.items():
                config.set_observed_to_quantized_mapping(observed_class, quantized_class, quant_type)
        config.set_preserved_attributes(given.pop("preserved_attributes", []))
        return _finished(config, given, ("observed_to_quantized_custom_module_class",))

    def to_dict(self) -> dict[str, Any]:
        """As a dict with only what was set; `from_dict` takes it."""
        mapping = self.observed_to_quantized_mapping
        return {**({"observed_to_quantized_custom_module_class": mapping} if mapping else {}), **super().to_dict()}


class FuseCustomConfig(_Preserving):
    """Options of fuse_fx."""

    @classmethod
    @takes_dict_form
    def from_dict(cls, fuse_custom_config_dict: Mapping[str, Any]) -> FuseCustomConfig:
        """From torch's dict form. Raises ArgumentError for an unknown key."""
        given = dict(fuse_custom_config_dict)
        return _finished(cls().set_preserved_attributes(given.pop("preserved_attributes", [])), given, ())


def as_config(value: Any, kind: type[ConfigT], argument: str) -> ConfigT:
    """The object form of a custom config given as object, dict or None; ArgumentTypeError for anything else."""
    if value is None:
        return kind()
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping):
        maker: Any = kind
        return maker.from_dict(value)  # type: ignore[no-any-return]
    raise ArgumentTypeError(f"{argument} must be a {kind.__name__}, its dict form, or None; got {type(value).__name__}")


def check_makes(kind: Any, method: str, setter: str) -> None:
    """ArgumentTypeError for a class of a custom module that lacks the method which makes it."""
    if not callable(getattr(kind, method, None)):
        name = getattr(kind, "__name__", repr(kind))
        raise ArgumentTypeError(f"{setter}: {name} needs a class method {method}(module), which makes it of the module")


def _listed(values: Any, what: str) -> list[Any]:
    try:
        if not isinstance(values, str):
            return list(values)
    except TypeError:  # what has __iter__ and still cannot be gone through, as a tensor without dimensions
        pass
    raise ArgumentTypeError(f"{what} must be a list; got {values!r}")


def _quant_type(value: Any) -> str:
    name = str(getattr(value, "name", value)).lower()
    if name not in ("static", "dynamic", "weight_only"):
        raise ArgumentError(f"quant_type={value!r} must be 'static', 'dynamic' or 'weight_only'")
    return name


def _finished(config: ConfigT, rest: dict[str, Any], known: tuple[str, ...]) -> ConfigT:
    check_keys(rest, (*known, "preserved_attributes"), f"{type(config).__name__}.from_dict")
    return config
