"""What all quantized modules share: the backend, the kernel as a cache, and a state dict of canonical values."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from qcore.backend import Kernel
from qcore.binding import Binding, bind
from qcore.custom_ops.schema import record
from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError, QuantizationError
from qcore.nn.intrinsic.folding import core_layer, first_layer
from qcore.nn.quantized.scripted import Calls, check_scripting, on_floats
from qcore.operators import Operator
from qcore.selection import AUTO
from qcore.tensor.arguments import name_arguments_of
from qcore.tensor.compiled import outside_of_graphs
from qcore.tensor.dtypes import QDType, quint8
from qcore.tensor.entering import entered, on_the_cpu
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor
from qcore.tensor.recording import is_recording, quiet

Self = TypeVar("Self", bound="QuantizedModule")
_Constant: TypeAlias = tuple[dict[str, Tensor | None], str, Tensor, int | None]
"""Where a buffer lies, its name, and the tensor and its version when the kernel was built; None where it has none."""
_Built: TypeAlias = tuple[Kernel, QDType, list[_Constant]]
"""A kernel, the dtype of the inputs that it is for, and its constants: one value, so that threads see all or none."""


class _Changes:
    """Another number whenever an attribute of any quantized module was set, by any thread: plans that were compiled
    from modules look at it."""

    count = 0

    def __init__(self) -> None:
        self.next = itertools.count(1).__next__


changes = _Changes()
FLOATS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Dtypes of the floats that a layer may take and give, by name."""
CACHED = ("_kernel", "_seen", "_calls")
"""Attributes that are made by running a module, and are never saved or copied."""


TAKES = ("__init__", "from_reference", "around", "set_weight", "set_quantized_weight", "set_weight_bias", "set_cell")
"""What is given sizes, layers and weights."""


class QuantizedModule(nn.Module):
    """Base of quantized modules: `operator` says what it computes; its kernel is bound on first use and never saved.

    `backend`: name of the backend that runs it (None: the automatic choice); `qcore_path`: its path in the model, for
    messages.
    """

    observes_output: ClassVar[bool] = False
    """Whether the float module needs an observer of its output before it can become this one."""

    compiles: ClassVar[bool] = False
    """Whether torch.compile goes into it: where floats go in and come out, and so nothing but tensors is between."""

    computes: ClassVar[str] = ""
    """The names of its operators, as in docs/numerics.md."""

    qcore_path: str = ""

    float_dtype: torch.dtype = torch.float32
    """Of the floats that it gives, where it gives floats: that of the float layer. It computes in float32."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in vars(cls) and not cls.compiles:
            cls.forward = outside_of_graphs(cls.forward)
        name_arguments_of(cls, TAKES)
        name_arguments_of(cls, ("from_float",), (AttributeError,))  # all else may be of the user's own observers

    def __init__(self) -> None:
        super().__init__()
        self._backend: str | None = None
        self._kernel: _Built | None = None
        self._seen: QParams | None = None
        self._calls: Calls | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name not in CACHED:
            changes.count = changes.next()

    @property
    def backend(self) -> str | None:
        """Name of the backend that runs this module; None for the automatic choice."""
        return self._backend

    @backend.setter
    def backend(self, name: str | None) -> None:
        self._backend = name
        self._forget_kernel()

    def operator(self) -> Operator:
        """What this module computes, with its constants."""
        raise NotImplementedError

    @classmethod
    def from_float(cls: type[Self], mod: nn.Module, use_precomputed_fake_quant: bool = False) -> Self:
        """The quantized module for a float one, fused or not, that has a `qconfig` (and was calibrated, if static).

        Raises QuantizationError, naming the module, for missing calibration, or NaN or infinity in statistics or
        weights.
        """
        layer = core_layer(mod)
        quantized = cls._like(layer)
        quantized.qcore_path = getattr(mod, "qcore_path", "")
        quantized._backend = getattr(mod, "qcore_backend", None)
        quantized.float_dtype = float_dtype_of(layer)
        quantized._take_activation(mod)
        quantized._take_constants(layer, mod)
        return quantized.train(mod.training)

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """Why a float module with this qconfig stays float; empty if nothing stands against it."""
        return ""

    @classmethod
    def reason_against_layer(cls, layer: Any) -> str:
        """Why a float layer with these settings stays float; empty if nothing stands against it."""
        own = "forward" in vars(layer)
        return "its forward was replaced by another, which a quantized form would not run" if own else ""

    @classmethod
    def planned(cls: type[Self], mod: nn.Module, qconfig: Any, backend: str) -> Self:
        """What `from_float` will make, but with zero weights: enough to ask backends whether they run it."""
        layer = first_layer(mod)
        if cls.observes_output and float_dtype_of(layer) is not torch.float32:
            raise QuantizationError(
                f"its parameters are {float_dtype_of(layer)}, and a layer quantized statically stands between float32 "
                "ones: call .float() on the model first, set its qconfig to None, or use quantize_dynamic, whose "
                "layers give what the float ones give"
            )
        quantized = cls._like(layer)
        quantized.qcore_path = getattr(mod, "qcore_path", "")
        quantized._backend = backend
        quantized._plan(mod, qconfig)
        return quantized

    @classmethod
    def _like(cls: type[Self], layer: Any) -> Self:
        """An empty module with the sizes and settings of a float layer."""
        return cls()

    def _take_activation(self, mod: nn.Module) -> None:
        """Take what the float module's observer or qconfig says of activations."""

    def _take_constants(self, layer: Any, mod: nn.Module) -> None:
        """Take weights of the float layer."""

    def _plan(self, mod: nn.Module, qconfig: Any) -> None:
        """Take dtypes and schemes, as far as they are known from the qconfig."""

    def activation_dtypes(self, input: QDType) -> tuple[QDType, ...]:
        """Dtypes of the integer activations, for an input of this one."""
        return (input,)

    def binding(self, input: QDType = quint8) -> Binding:
        """Which backend runs this module for inputs of a dtype; UnsupportedError, with all reasons, if none does."""
        return bind(self._backend, self.operator(), self.activation_dtypes(input))

    def _ready(self, input: QDType = quint8) -> Kernel:
        """The kernel for inputs of a dtype; a new one where a buffer was written to or replaced since."""
        own = self.__dict__  # a module's attributes are slow to read one by one
        built: _Built | None = own["_kernel"]
        if built is not None and input is built[1]:
            for buffers, name, tensor, version in built[2]:
                if buffers.get(name) is not tensor or (version is not None and tensor._version != version):
                    break
            else:
                return built[0]
        if is_recording():
            return self.binding(input).recorder()
        # the buffers as they are before the kernel is built: what another thread writes meanwhile makes a new one
        constants = [
            (module._buffers, name, tensor, _version(tensor))
            for module in self.modules()
            for name, tensor in module._buffers.items()
            if tensor is not None
        ]
        with on_the_cpu():
            kernel = self.binding(input).build(hidden=False)
        self._kernel = kernel, input, constants
        return kernel

    def _compute(self, *args: Any) -> Any:
        """What the kernel gives for floats; in a graph that is compiled, its custom op."""
        if torch.compiler.is_compiling():
            return self._as_given(record(self.operator(), self._backend or AUTO, args))
        kernel = self._ready()
        try:
            result = kernel(*args)
        except Exception as error:
            raise self._explained(error, args) from None
        return result if self.float_dtype is torch.float32 else self._as_given(result)

    def _as_given(self, result: Any) -> Any:
        """Floats of a kernel in the dtype that the float layer gave them."""
        if self.float_dtype is torch.float32:
            return result
        if isinstance(result, Tensor):
            return result.to(self.float_dtype)
        return tuple(each.to(self.float_dtype) for each in result)

    def _explained(self, error: Exception, args: tuple[Any, ...]) -> Exception:
        """The error of a kernel with this module's name, or that of an argument which no kernel can read."""
        for x in args:
            if isinstance(x, Tensor):
                self._entered(x, "numbers", floats=False)
        if isinstance(error, ArgumentError | ArgumentTypeError):
            return type(error)(f"{self._label()}: {error}")
        return error

    def _forget_kernel(self) -> None:
        changes.count = changes.next()
        self._kernel = None
        self._seen = None
        self._calls = None

    def _note(self, method: str, *inputs: QTensor, setting: int | None = None) -> None:
        """Keep what a method is called with, for torch.jit.script."""
        calls = self._calls
        if calls is None:
            calls = self._calls = Calls()
        calls.note(method, inputs, setting)
        self._seen = inputs[0].qparams

    def _refuse_input(self, given: object) -> NoReturn:
        """The error for an input that is not quantized."""
        kind = (
            f"a {str(given.dtype).rpartition('.')[2]} tensor"
            if isinstance(given, Tensor)
            else f"a {type(given).__name__}"
        )
        raise QuantizationError(
            f"{self._label()} takes a quantized tensor and got {kind}. Before prepare, put a QuantStub where floats "
            "enter the quantized part of the model (or wrap that part in QuantWrapper), or leave this module float by "
            "setting its qconfig to None"
        )

    def _entered(self, given: object, kind: str, argument: str = "input", floats: bool = True) -> Tensor:
        """A tensor that is not quantized, as kernels read it: float32 with `floats`.

        Raises QuantizationError for anything else, ArgumentTypeError for tensors that no kernel can read.
        """
        if type(given) is Tensor and given.dtype is torch.float32 and torch.compiler.is_compiling():
            return given
        if isinstance(given, QTensor):
            raise QuantizationError(
                f"{self._label()} takes a tensor of {kind} and got a quantized one; put a DeQuantStub before it"
            )
        if not isinstance(given, Tensor):
            raise QuantizationError(f"{self._label()} takes a tensor of {kind} and got a {type(given).__name__}")
        if torch.compiler.is_compiling():
            return given.float() if floats else given
        try:
            return entered(given, argument, floats)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"{self._label()}: {error}") from None

    def _label(self) -> str:
        where = f"module {self.qcore_path!r}" if self.qcore_path else "this module"
        return f"{where} (quantized {type(self).__name__})"

    # --- torch.jit ----------------------------------------------------------------------------------------------

    def _slow_forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """What torch.jit.trace calls in the place of forward."""
        with quiet():
            return super()._slow_forward(*inputs, **kwargs)  # type: ignore[no-untyped-call]

    def _example(self) -> tuple[Any, ...] | None:
        """What to call it with for a trace that holds for all inputs; None where quantized tensors go in and out: then
        what it was called with tells."""
        return None

    def __prepare_scriptable__(self) -> Any:
        """What torch.jit.script puts in its place: a trace of it, with plain tensors at both ends."""
        check_scripting()
        example = self._example()
        if example is None:
            return on_floats(self, self._calls or Calls())
        with torch.no_grad():
            return torch.jit.trace(self, example, check_trace=False)  # type: ignore[no-untyped-call]

    # --- state --------------------------------------------------------------------------------------------------

    def _values(self) -> dict[str, Any]:
        """What the state dict holds besides parameters and buffers, by key."""
        return {}

    def _set_values(self, values: dict[str, Any]) -> None:
        """Take what `_values` gave; must check it."""

    def _options(self) -> dict[str, Any]:
        """Settings that torch's key layout has no place for; kept in the state dict's metadata."""
        own = {} if self.float_dtype is torch.float32 else {"float_dtype": str(self.float_dtype).removeprefix("torch.")}
        return {"backend": self._backend, **own}

    def _set_options(self, options: dict[str, Any]) -> None:
        if self._backend is None:
            self._backend = options.get("backend")
        self.float_dtype = FLOATS.get(options.get("float_dtype", "float32"), torch.float32)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for key, value in self._values().items():
            destination[prefix + key] = value
        metadata = getattr(destination, "_metadata", None)
        if metadata is not None:
            metadata[prefix[:-1]]["qcore"] = self._options()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        keys = list(self._values())
        missing = [prefix + key for key in keys if prefix + key not in state_dict]
        found = {key: state_dict.pop(prefix + key) for key in keys if prefix + key in state_dict}
        if strict:
            missing_keys.extend(missing)
        if not missing:
            try:
                self._set_options(local_metadata.get("qcore", {}))
                self._set_values(found)
            except QcoreError as error:
                error_msgs.append(f"{self._label()}, under {prefix!r}: {error}")
        self._forget_kernel()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **dict.fromkeys(CACHED)}

    def _apply(self: Self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Moves, and casts of the floats that it gives; its own numbers stay as exact as they are."""

        def kept(x: Tensor) -> Tensor:
            found: Tensor = fn(x)
            return found if found.dtype is x.dtype else x.to(found.device)

        dtype = fn(torch.zeros((), dtype=self.float_dtype)).dtype
        if dtype is not self.float_dtype and dtype in FLOATS.values():
            self.float_dtype = dtype
        for child in self.children() if recurse else ():
            child._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(kept, False)  # type: ignore[no-untyped-call]
        self._forget_kernel()
        return self

    def _get_name(self) -> str:
        return "Quantized" + type(self).__name__


name_arguments_of(QuantizedModule, ("from_float",), (AttributeError,))


def float_dtype_of(layer: nn.Module) -> torch.dtype:
    """The dtype of a float layer's parameters, in which it gives its results; float32 where it has none."""
    dtypes = (parameter.dtype for parameter in layer.parameters() if parameter.is_floating_point())
    return next(dtypes, torch.float32)


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; tensors made in inference mode do not count."""
    return None if tensor.is_inference() else tensor._version
