"""BackendConfig: the public form of what a backend takes, as patterns with dtypes and constraints on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from torch import nn

from qcore.api._layers import check_keys
from qcore.api.observer import FixedQParamsObserver
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.fx.patterns import ADDS, CALLS, MODULES, MULS, RSUBS, SUBS, Role
from qcore.nn import catalog
from qcore.nn.intrinsic import FusedModule
from qcore.registry import registry
from qcore.tensor.arguments import check_key, check_type, names_arguments, takes_dict_form
from qcore.tensor.dtypes import QDType, as_qdtype, is_qdtype

__all__ = [
    "BackendConfig",
    "BackendPatternConfig",
    "DTypeConfig",
    "DTypeWithConstraints",
    "ObservationType",
    "get_backend_config",
]


class ObservationType(Enum):
    """How the result of a pattern is observed."""

    OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT = 0
    OUTPUT_SHARE_OBSERVER_WITH_INPUT = 1
    INPUT_OUTPUT_NOT_OBSERVED = 2


@dataclass(frozen=True)
class DTypeWithConstraints:
    """A dtype with bounds that a QConfig's observer must keep; None: no bound.

    `quant_min_lower_bound` and `quant_max_upper_bound` bound its integers, `scale_min_lower_bound` its smallest scale
    (its eps); `scale_exact_match` and `zero_point_exact_match` are the parameters that a fixed one must have.
    """

    dtype: Any = None
    quant_min_lower_bound: float | None = None
    quant_max_upper_bound: float | None = None
    scale_min_lower_bound: float | None = None
    scale_max_upper_bound: float | None = None
    scale_exact_match: float | None = None
    zero_point_exact_match: int | None = None

    def problem(self, observer: Any, what: str, fixed: tuple[float, int] | None = None) -> str:
        """Why an observer does not keep these bounds; empty if it does. `fixed`: scale and zero point in its place."""
        dtype = getattr(observer, "dtype", None)
        if self.dtype is not None and not _same_dtype(self.dtype, dtype):
            return f"{what} are {dtype!r}, not {self.dtype!r}"
        low, high = getattr(observer, "quant_min", None), getattr(observer, "quant_max", None)
        if self.quant_min_lower_bound is not None and low is not None and low < self.quant_min_lower_bound:
            return f"{what} have quant_min={low}, below the bound {self.quant_min_lower_bound}"
        if self.quant_max_upper_bound is not None and high is not None and high > self.quant_max_upper_bound:
            return f"{what} have quant_max={high}, above the bound {self.quant_max_upper_bound}"
        eps = getattr(observer, "eps", None)
        if self.scale_min_lower_bound is not None and eps is not None and float(eps) < self.scale_min_lower_bound:
            return f"{what} have eps={float(eps)}, below the least scale {self.scale_min_lower_bound}"
        if fixed is not None or isinstance(observer, FixedQParamsObserver):
            found = fixed or (float(observer.scale), int(observer.zero_point))
            wanted = (self.scale_exact_match, self.zero_point_exact_match)
            if any(each is not None and each != given for each, given in zip(wanted, found, strict=True)):
                return f"{what} have scale and zero point {found}, not {wanted}"
        return ""


class DTypeConfig:
    """Dtypes of input, output, weight and bias that go together; plain, or a DTypeWithConstraints."""

    def __init__(
        self,
        input_dtype: Any = None,
        output_dtype: Any = None,
        weight_dtype: Any = None,
        bias_dtype: Any = None,
        is_dynamic: bool | None = None,
    ) -> None:
        self.input_dtype_with_constraints = _constrained(input_dtype)
        self.output_dtype_with_constraints = _constrained(output_dtype)
        self.weight_dtype_with_constraints = _constrained(weight_dtype)
        self.bias_dtype = bias_dtype
        self.is_dynamic = is_dynamic

    @property
    def input_dtype(self) -> Any:
        """The dtype alone."""
        return self.input_dtype_with_constraints.dtype

    @property
    def output_dtype(self) -> Any:
        """The dtype alone."""
        return self.output_dtype_with_constraints.dtype

    @property
    def weight_dtype(self) -> Any:
        """The dtype alone."""
        return self.weight_dtype_with_constraints.dtype

    @classmethod
    @takes_dict_form
    def from_dict(cls, dtype_config_dict: dict[str, Any]) -> DTypeConfig:
        """From torch's dict form. Raises ArgumentTypeError for an unknown key."""
        return cls(**dtype_config_dict)

    def to_dict(self) -> dict[str, Any]:
        """As a dict with only what was set."""
        found = {name: getattr(self, f"{name}_with_constraints") for name in _TENSORS}
        found = {name: each for name, each in found.items() if each != DTypeWithConstraints()}
        rest = {"bias_dtype": self.bias_dtype, "is_dynamic": self.is_dynamic}
        return {**found, **{name: value for name, value in rest.items() if value is not None}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypeConfig) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"DTypeConfig({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"

    def problem(self, qconfig: Any, fixed: tuple[float, int] | None = None) -> str:
        """Why a QConfig does not fit; empty if it does. `fixed`: scale and zero point of its fixed results."""
        activation = qconfig.activation()
        dynamic = bool(getattr(activation, "is_dynamic", False))
        if self.is_dynamic is not None and dynamic != self.is_dynamic:
            return "activations are dynamic" if dynamic else "activations are not dynamic"
        for constraint, observer, what, parameters in (
            (self.input_dtype_with_constraints, activation, "activations", None),
            (None if dynamic else self.output_dtype_with_constraints, activation, "activations", fixed),
            (self.weight_dtype_with_constraints, qconfig.weight(), "weights", None),
        ):
            found = "" if constraint is None else constraint.problem(observer, what, parameters)
            if found:
                return found
        return ""


_TENSORS = ("input_dtype", "output_dtype", "weight_dtype")


@dataclass
class BackendPatternConfig:
    """One pattern: a module class, a function, or a tuple of them in order of execution; setters chain."""

    pattern: Any = None
    observation_type: ObservationType = ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT
    dtype_configs: list[DTypeConfig] = field(default_factory=list)
    root_module: type[nn.Module] | None = None
    qat_module: type[nn.Module] | None = None
    reference_quantized_module: type[nn.Module] | None = None
    fused_module: type[nn.Module] | None = None
    fuser_method: Callable[..., Any] | None = None

    def set_pattern(self, pattern: Any) -> BackendPatternConfig:
        """What is matched."""
        self.pattern = pattern
        return self

    def set_observation_type(self, observation_type: ObservationType) -> BackendPatternConfig:
        """How the result is observed."""
        self.observation_type = observation_type
        return self

    def add_dtype_config(self, dtype_config: DTypeConfig) -> BackendPatternConfig:
        """One more combination of dtypes."""
        check_type("add_dtype_config", DTypeConfig, dtype_config=dtype_config)
        self.dtype_configs.append(dtype_config)
        return self

    def set_dtype_configs(self, dtype_configs: Iterable[DTypeConfig]) -> BackendPatternConfig:
        """All combinations of dtypes."""
        check_type("set_dtype_configs", (list, tuple), dtype_configs=dtype_configs)
        given = list(dtype_configs)
        for each in given:
            check_type("set_dtype_configs", DTypeConfig, dtype_config=each)
        self.dtype_configs = given
        return self

    def set_root_module(self, root_module: type[nn.Module]) -> BackendPatternConfig:
        """The module with the weights."""
        self.root_module = root_module
        return self

    def set_qat_module(self, qat_module: type[nn.Module]) -> BackendPatternConfig:
        """What it is trained as."""
        self.qat_module = qat_module
        return self

    def set_reference_quantized_module(self, reference_quantized_module: type[nn.Module]) -> BackendPatternConfig:
        """Its reference form."""
        self.reference_quantized_module = reference_quantized_module
        return self

    def set_fused_module(self, fused_module: type[nn.Module]) -> BackendPatternConfig:
        """What it is fused to."""
        self.fused_module = fused_module
        return self

    def set_fuser_method(self, fuser_method: Callable[..., Any]) -> BackendPatternConfig:
        """What fuses it: function(is_qat, *modules)."""
        self.fuser_method = fuser_method
        return self

    @classmethod
    @takes_dict_form
    def from_dict(cls, backend_pattern_config_dict: Mapping[str, Any]) -> BackendPatternConfig:
        """From torch's dict form. Raises ArgumentError for an unknown key."""
        given = dict(backend_pattern_config_dict)
        check_keys(given, tuple(_PATTERN_KEYS), "BackendPatternConfig.from_dict")
        config = cls(**{_PATTERN_KEYS[key]: value for key, value in given.items()})
        config.dtype_configs = [
            each if isinstance(each, DTypeConfig) else DTypeConfig.from_dict(each) for each in config.dtype_configs
        ]
        return config

    def to_dict(self) -> dict[str, Any]:
        """As a dict with only what was set; `from_dict` takes it."""
        found = {key: getattr(self, name) for key, name in _PATTERN_KEYS.items()}
        found["dtype_configs"] = [each.to_dict() for each in self.dtype_configs]
        return {key: value for key, value in found.items() if value is not None}


_PATTERN_KEYS = {
    **{each.name: each.name for each in fields(BackendPatternConfig) if each.name != "reference_quantized_module"},
    "reference_quantized_module_for_root": "reference_quantized_module",
}
"""Keys of torch's dict form, and the attributes that they stand for."""


class BackendConfig:
    """What a backend takes. Given to prepare_fx, only calls of its patterns fuse and quantize, each with one of the
    pattern's combinations of dtypes, and observed as it says. A pattern may bring how it fuses (`fuser_method`, or a
    `fused_module` of the parts), what it is trained as (`qat_module`), and what it becomes
    (`reference_quantized_module`, whose `from_float` gets the calibrated module and makes the quantized one); without,
    it must be one that qcore has a kernel for. Setters chain."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._patterns: dict[Any, BackendPatternConfig] = {}

    def set_name(self, name: str) -> BackendConfig:
        """The name of the target."""
        self.name = name
        return self

    def set_backend_pattern_config(self, config: BackendPatternConfig) -> BackendConfig:
        """Add a pattern, or replace the one of the same parts."""
        check_type("set_backend_pattern_config", BackendPatternConfig, config=config)
        check_key("set_backend_pattern_config", pattern=config.pattern)
        if config.pattern is None:
            raise ArgumentError("BackendPatternConfig: pattern is not given")
        self._patterns[config.pattern] = config
        return self

    @names_arguments
    def set_backend_pattern_configs(self, configs: Iterable[BackendPatternConfig]) -> BackendConfig:
        """Add patterns."""
        check_type("set_backend_pattern_configs", Iterable, configs=configs)
        for config in configs:
            self.set_backend_pattern_config(config)
        return self

    @property
    def configs(self) -> list[BackendPatternConfig]:
        """All patterns."""
        return list(self._patterns.values())

    @classmethod
    @takes_dict_form
    def from_dict(cls, backend_config_dict: Mapping[str, Any]) -> BackendConfig:
        """From torch's dict form. Raises ArgumentError for an unknown key."""
        check_keys(backend_config_dict, ("name", "configs"), "BackendConfig.from_dict")
        patterns = [
            each if isinstance(each, BackendPatternConfig) else BackendPatternConfig.from_dict(each)
            for each in backend_config_dict.get("configs", ())
        ]
        return cls(backend_config_dict.get("name", "")).set_backend_pattern_configs(patterns)

    def to_dict(self) -> dict[str, Any]:
        """As a dict; `from_dict` takes it."""
        return {"name": self.name, "configs": [each.to_dict() for each in self.configs]}

    def __repr__(self) -> str:
        return f"BackendConfig({self.name!r}, {len(self._patterns)} patterns)"


def get_backend_config(backend: str = "auto") -> BackendConfig:
    """What a backend declares of modules, in this form, and the functions that graph mode knows.

    BackendError for one that is missing or cannot run here.
    """
    chosen = registry.choose(backend).backend
    config = BackendConfig(chosen.name)
    for pattern in registry.patterns(chosen):
        spec = chosen.capability().find(pattern.operator)
        assert spec is not None
        weights: list[QDType | None] = list(dict.fromkeys(weight.dtype for weight in spec.weights))
        weights = weights or [None]
        dtypes = [DTypeConfig(each, each, weight) for each in spec.activations for weight in weights]
        parts = pattern.parts[0] if len(pattern.parts) == 1 else pattern.parts
        own = BackendPatternConfig(parts).set_dtype_configs(dtypes).set_root_module(pattern.parts[0])  # type: ignore[arg-type]
        if pattern.quantized is not None:
            own.set_reference_quantized_module(pattern.quantized)
        config.set_backend_pattern_config(own)
    for target, rule in {**CALLS, **MODULES}.items():
        config.set_backend_pattern_config(BackendPatternConfig(target).set_observation_type(_OBSERVED[rule.role]))
    named = {each.pattern for each in config.configs}
    for kind, quantized in {**catalog.mapping("dynamic"), **catalog.mapping("static")}.items():
        own = BackendPatternConfig(kind)
        if not getattr(quantized, "observes_output", False):
            own.set_observation_type(ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT)
        if kind not in named and not issubclass(kind, FusedModule):
            config.set_backend_pattern_config(own)
    sequences = [*catalog.fusions(), *catalog.FOLDED, *((call, nn.ReLU) for call in (*ADDS, *SUBS, *RSUBS, *MULS))]
    for parts in sequences:
        if parts not in named:
            config.set_backend_pattern_config(BackendPatternConfig(parts))
    return config


_OBSERVED = {
    Role.COMPUTE: ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT,
    Role.FIXED: ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT,
    Role.SHARE: ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT,
    Role.MOVE: ObservationType.INPUT_OUTPUT_NOT_OBSERVED,
    Role.SCALAR: ObservationType.INPUT_OUTPUT_NOT_OBSERVED,
}


def as_backend_config(value: Any) -> BackendConfig | None:
    """The object form of a BackendConfig given as object, dict or None; ArgumentTypeError for anything else."""
    if value is None or isinstance(value, BackendConfig):
        return value
    if isinstance(value, Mapping):
        return BackendConfig.from_dict(value)
    kind = f"{type(value).__module__}.{type(value).__name__}"
    raise ArgumentTypeError(f"backend_config must be a qcore BackendConfig, its dict form, or None; got {kind}")


def _constrained(dtype: Any) -> DTypeWithConstraints:
    return dtype if isinstance(dtype, DTypeWithConstraints) else DTypeWithConstraints(dtype)


def _same_dtype(wanted: Any, given: Any) -> bool:
    if is_qdtype(wanted) and is_qdtype(given):
        return as_qdtype(wanted) == as_qdtype(given)
    return bool(wanted == given)
