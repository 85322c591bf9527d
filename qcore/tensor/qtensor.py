"""The quantized tensor: integers with their scale and zero point, as a torch.Tensor subclass of our own.

At torch's C++ level it is a float32 wrapper without storage; everything it does is decided in Python (`dispatch`), on
the plain integer tensor `raw`. So it needs none of torch's quantized dtypes, and operators without a meaning raise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, SupportsIndex

import torch
from torch import Tensor

from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError, UnsupportedError
from qcore.tensor import qparams as _qparams
from qcore.tensor.compiled import outside_of_graphs
from qcore.tensor.dtypes import QDType, QScheme, as_qdtype
from qcore.tensor.qparams import QParams
from qcore.tensor.recording import RESHAPING, is_recording, noted, quiet, recorded, unseen

_is_tracing = torch._C._is_tracing
_make_wrapper, _set_throw = Tensor._make_wrapper_subclass, torch._C._set_throw_on_mutable_data_ptr
_counting, _WRITES_COUNT = torch._C._SetExcludeDispatchKeyGuard, torch._C.DispatchKey.ADInplaceOrView
_F32, _STRIDED = torch.float32, torch.strided
_TYPE_NAMES = {"quint8": "QUInt8Tensor", "qint8": "QInt8Tensor", "qint32": "QInt32Tensor", "quint4x2": "QUInt4x2Tensor"}


class QTensor(Tensor):
    """A quantized tensor over the integers `raw`, without a copy or a check: `quantize_per_tensor` and its kin check.

    `raw`: a tensor of `qparams.dtype.storage`, shared with every view; `backend`: the name of the backend whose kernels
    run the operators on it (None: the automatic choice), which results carry on.
    """

    raw: Tensor
    backend: str | None
    is_window: bool = False
    """Whether this shows a part of another tensor, whose parameters it cannot change."""

    @staticmethod
    @outside_of_graphs
    def __new__(cls, raw: Tensor, qparams: QParams, backend: str | None = None) -> QTensor:
        if not isinstance(raw, Tensor) or not isinstance(qparams, QParams):
            given = f"{type(raw).__name__} and {type(qparams).__name__}"
            raise ArgumentTypeError(f"QTensor takes a tensor of integers and their QParams; got {given}")
        return wrapped(raw, qparams, backend)

    def __init__(self, raw: Tensor, qparams: QParams, backend: str | None = None) -> None:
        # torch.Tensor.__init__ takes no arguments
        super().__init__()

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def qparams(self) -> QParams:
        """Scale, zero point, dtype and axis."""
        return self._held[0]

    @property
    def dtype(self) -> QDType:  # type: ignore[override]
        """The quantized dtype: qcore.quint8 and so on, which equals torch's object of that name."""
        return self.qparams.dtype

    @property
    def is_quantized(self) -> bool:  # type: ignore[override]
        """True; by this, torch.compile leaves the code around such tensors uncompiled."""
        return True

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """Sizes of all dimensions."""
        return self.raw.shape

    @property
    def ndim(self) -> int:  # type: ignore[override]
        """Number of dimensions."""
        return self.raw.ndim

    @property
    def itemsize(self) -> int:  # type: ignore[override]
        """Bytes per element."""
        return self.raw.itemsize

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        """Bytes of all elements, scales and zero points not counted."""
        return self.raw.nbytes

    @property
    def data(self) -> QTensor:
        """The same integers; assigning takes the integers and parameters of another quantized tensor."""
        detached: Any = self.detach()
        return detached  # type: ignore[no-any-return]

    @data.setter
    def data(self, other: Tensor) -> None:
        if not isinstance(other, QTensor):
            raise ArgumentTypeError(f"the data of a QTensor is set from a QTensor, not {type(other).__name__}")
        self._adopt(other.raw, other._held)

    def size(self, dim: int | None = None) -> Any:
        """All sizes, or that of one dimension."""
        return self.raw.shape if dim is None else self.raw.size(dim)

    def dim(self) -> int:
        """Number of dimensions."""
        return self.raw.ndim

    def numel(self) -> int:
        """Number of elements."""
        return self.raw.numel()

    def stride(self, dim: int | None = None) -> Any:
        """Steps of all dimensions in `raw`'s storage, in elements, or of one dimension."""
        return self.raw.stride() if dim is None else self.raw.stride(dim)

    def element_size(self) -> int:
        """Bytes per element."""
        return self.raw.element_size()

    def is_floating_point(self) -> bool:
        """False: `module.to(dtype)` and `.float()` leave quantized tensors alone."""
        return False

    def is_complex(self) -> bool:
        """False."""
        return False

    def is_signed(self) -> bool:
        """Whether the dtype stores values below zero."""
        return self.qparams.dtype.is_signed

    def type(self, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        """The name of the tensor's type, as torch names it; conversion raises UnsupportedError."""
        if dtype is None:
            return f"torch.quantized.{_TYPE_NAMES[self.qparams.dtype.name]}"
        return self._cannot(f"type({dtype!r})", "dequantize() first, then convert")

    # --- quantization -----------------------------------------------------------------------------------------------

    def qscheme(self) -> QScheme:  # type: ignore[override]
        """The quantization scheme, which equals torch's object of that name."""
        return self.qparams.scheme

    def q_scale(self) -> float:
        """The scale of a tensor quantized per tensor; UnsupportedError otherwise."""
        self._need(per_channel=False, method="q_scale", instead="q_per_channel_scales")
        assert isinstance(self.qparams.scale, float)
        return self.qparams.scale

    def q_zero_point(self) -> int:
        """The zero point of a tensor quantized per tensor; UnsupportedError otherwise."""
        self._need(per_channel=False, method="q_zero_point", instead="q_per_channel_zero_points")
        assert isinstance(self.qparams.zero_point, int)
        return self.qparams.zero_point

    def q_per_channel_scales(self) -> Tensor:
        """Scales (channels,), float64, or float32 beside float zero points; UnsupportedError if per tensor."""
        self._need(per_channel=True, method="q_per_channel_scales", instead="q_scale")
        assert isinstance(self.qparams.scale, Tensor)
        floating = isinstance(self.qparams.zero_point, Tensor) and self.qparams.zero_point.is_floating_point()
        return self.qparams.scale.to(torch.float32 if floating else torch.float64, copy=True)

    def q_per_channel_zero_points(self) -> Tensor:
        """Zero points (channels,), int64 or float32; UnsupportedError if per tensor."""
        self._need(per_channel=True, method="q_per_channel_zero_points", instead="q_zero_point")
        assert isinstance(self.qparams.zero_point, Tensor)
        return self.qparams.zero_point.clone()

    def q_per_channel_axis(self) -> int:
        """The dimension that the channels lie on; UnsupportedError if per tensor."""
        self._need(per_channel=True, method="q_per_channel_axis", instead="q_scale")
        assert self.qparams.axis is not None
        return self.qparams.axis

    def int_repr(self) -> Tensor:
        """A copy of the integers, a plain tensor of the dtype's storage type."""
        return self.raw.clone()

    def dequantize(self) -> Tensor:
        """The real numbers, float32, shaped as this."""
        return _dispatch.dequantize(self)

    # --- storage ----------------------------------------------------------------------------------------------------

    def data_ptr(self) -> int:
        """Address of the first integer."""
        return self.raw.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """The bytes of the integers."""
        return self.raw.untyped_storage()

    def storage_offset(self) -> int:
        """Position of the first element in the storage, in elements."""
        return int(self.raw.storage_offset())

    def share_memory_(self) -> QTensor:
        """Move the integers to shared memory, in place."""
        self.raw.share_memory_()  # type: ignore[no-untyped-call]
        return self

    def is_shared(self) -> bool:
        """Whether the integers lie in shared memory."""
        return bool(self.raw.is_shared())  # type: ignore[no-untyped-call]

    def requires_grad_(self, requires_grad: bool = True) -> QTensor:
        """Integers have no gradient: UnsupportedError, a RuntimeError, for True."""
        if requires_grad:
            raise UnsupportedError(
                "only tensors of floating point dtype can require gradients, and this one is quantized"
            )
        return self

    def numpy(self, *, force: bool = False) -> NoReturn:
        """Raises: NumPy has no quantized dtype."""
        self._cannot("numpy()", "dequantize().numpy() for real numbers, or int_repr().numpy() for integers")

    def __dlpack__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises: DLPack has no quantized dtype."""
        self._cannot("__dlpack__()", "dequantize() or int_repr()")

    def storage(self) -> NoReturn:
        """Raises: torch's typed storages of quantized dtypes are going away."""
        self._cannot("storage()", "untyped_storage(), or int_repr().storage()")

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 and spec else str(self), spec)

    def tolist(self) -> NoReturn:
        """Raises, as the numbers meant are not clear."""
        self._cannot("tolist()", "dequantize().tolist() for real numbers, or int_repr().tolist() for integers")

    def _adopt(self, raw: Tensor, held: list[QParams]) -> None:
        """Become a tensor over other integers; `held`: the parameters, in a list that all who show them share."""
        fresh = QTensor(raw, held[0], self.backend)
        with torch._C.DisableTorchFunctionSubclass():
            # torch's own setter, so that the sizes at the C++ level follow
            _set_data(self, fresh)
        self.raw = raw
        self._held = held

    # --- copies, files, printing ------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> QTensor:
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        copied = QTensor(copy.deepcopy(self.raw, memo), self.qparams, self.backend)
        if hasattr(self, "_is_param"):
            copied._is_param = True
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        q = self.qparams
        return rebuild_qtensor, (self.raw, q.dtype.name, q.scale, q.zero_point, q.axis, self.backend)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        q = self.qparams
        suffixes = [f"size={tuple(self.shape)}", f"dtype={q.dtype!r}", f"quantization_scheme={q.scheme!r}"]
        if q.axis is None:
            suffixes += [f"scale={q.scale}", f"zero_point={q.zero_point}"]
        else:
            suffixes += [f"scale={q.scale}", f"zero_point={q.zero_point}", f"axis={q.axis}"]
        if self.raw.device.type == "meta":
            return _with_suffixes("tensor(...)", suffixes)
        return _with_suffixes(repr(self.cpu().dequantize()), suffixes)

    # --- torch's protocols ------------------------------------------------------------------------------------------

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if _is_tracing():
            with quiet():
                return cls._call(func, args, kwargs or {})
        return cls._call(func, args, kwargs or {})

    @classmethod
    def _call(cls, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        handler = _dispatch.FUNCTIONS.get(func)
        try:
            if handler is not None:
                return handler(*args, **kwargs)
            if is_recording():
                x = args[0] if args else None
                if getattr(func, "__name__", "") in RESHAPING and isinstance(x, QTensor) and x.qparams.axis is None:
                    return QTensor(func(x.raw, *args[1:], **kwargs), x.qparams, x.backend)
                return recorded(_dispatch.run, func, args, kwargs)
            result = _direct.direct(func, args, kwargs)
            if result is not NotImplemented:
                return result
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        except _dispatch.Refused as refused:
            raise _dispatch.explained(func, refused) from None
        except QcoreError:
            raise
        except _mistakes.RAISED as error:
            mistake = _mistakes.told(func, args, kwargs, error)
            if mistake is error:
                raise
            raise mistake from error

    @property
    def _version(self) -> int:  # type: ignore[override]
        """How often the integers were written to, through whatever view."""
        return self.raw._version

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # torch leaves this key out here, and with it the count of writes by which kernels know that a weight is another
        with _counting(_WRITES_COUNT, False):
            return noted(_dispatch.run, func, args, kwargs or {})

    # --- errors -----------------------------------------------------------------------------------------------------

    def _need(self, *, per_channel: bool, method: str, instead: str) -> None:
        if (self.qparams.axis is not None) != per_channel:
            raise UnsupportedError(
                f"{method}() is for tensors quantized per {'channel' if per_channel else 'tensor'}; this one is "
                f"{self.qparams.scheme!r}: use {instead}()"
            )

    def _cannot(self, what: str, instead: str) -> NoReturn:
        raise UnsupportedError(f"{what} of a quantized tensor ({self.dtype!r}) is not defined; use {instead}")


_set_data = vars(torch._C.TensorBase)["data"].__set__


def wrapped(raw: Tensor, qparams: QParams, backend: str | None) -> QTensor:
    """A QTensor, for callers that torch.compile does not look into: two thirds of the time of calling the class."""
    if _is_tracing():
        with unseen():
            return wrapped(raw, qparams, backend)
    offset = raw.storage_offset() or None  # torch's parser takes None, and positions, faster
    made: QTensor = _make_wrapper(
        QTensor,
        raw.shape,
        raw.stride(),
        offset,
        None,
        _F32,
        _STRIDED,
        raw.device,
        False,
        False,
        None,
        False,
        False,
        None,
        0,
    )
    # without bytes, and with an error on access, C++ code that reads the wrapper as a float tensor cannot crash
    _set_throw(made)
    made.raw = raw
    made._held = [qparams]
    made.backend = backend
    return made


def rebuild_qtensor(raw: Any, dtype: Any, scale: Any, zero_point: Any, axis: Any, backend: Any = None) -> QTensor:
    """A QTensor from what a file holds; ArgumentError or ArgumentTypeError for parts that don't fit together."""
    if not isinstance(raw, Tensor) or isinstance(raw, QTensor):
        raise ArgumentTypeError(f"the integers of a stored QTensor must be a plain tensor, not {type(raw).__name__}")
    qdtype = as_qdtype(dtype)
    if raw.dtype != qdtype.storage:
        raise ArgumentTypeError(f"a stored {qdtype!r} tensor needs integers of {qdtype.storage}, not {raw.dtype}")
    if not isinstance(backend, str | None):
        raise ArgumentTypeError(f"the backend of a stored QTensor must be a name or None, not {backend!r}")
    if axis is None:
        if not (isinstance(scale, float) and isinstance(zero_point, int)):
            raise ArgumentTypeError("a stored tensor quantized per tensor needs a float scale and an int zero point")
        return QTensor(raw, _qparams.per_tensor(scale, zero_point, qdtype), backend)
    if not (isinstance(scale, Tensor) and isinstance(zero_point, Tensor) and isinstance(axis, int)):
        raise ArgumentTypeError(
            "a stored tensor quantized per channel needs tensors of scales and zero points, and an axis"
        )
    if not 0 <= axis < raw.ndim or scale.shape != (raw.shape[axis],):
        raise ArgumentError(
            f"axis {axis} with {scale.numel()} scales does not fit a stored tensor of shape {tuple(raw.shape)}"
        )
    return QTensor(raw, _qparams.per_channel(scale, zero_point, axis, qdtype), backend)


def _with_suffixes(text: str, suffixes: list[str]) -> str:
    """torch's print of the real numbers, with what is known of the integers added in torch's manner (80 columns)."""
    body = text.removesuffix(")").removesuffix(" dtype=torch.float32").rstrip().removesuffix(",")
    if ", size=(" in body:
        suffixes = suffixes[1:]
    column = len(body) - body.rfind("\n")
    for suffix in suffixes:
        if column + len(suffix) + 2 > torch._tensor_str.PRINT_OPTS.linewidth:
            body, column = f"{body},\n       {suffix}", 7 + len(suffix)
        else:
            body, column = f"{body}, {suffix}", column + len(suffix) + 2
    return body + ")"


from qcore.tensor import direct as _direct  # noqa: E402
from qcore.tensor import dispatch as _dispatch  # noqa: E402  (the modules need each other)
from qcore.tensor import mistakes as _mistakes  # noqa: E402

torch.serialization.add_safe_globals([rebuild_qtensor])
