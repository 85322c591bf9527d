"""A layer without a quantized form, between quantized ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from qcore import operators as ops
from qcore.errors import QuantizationError
from qcore.nn.quantized.observed import observer_qparams
from qcore.nn.quantized.scripted import check_scripting
from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.dtypes import DTypeLike, as_qdtype, quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import QParams, per_tensor
from qcore.tensor.qtensor import QTensor


class InFloat(StaticOutput):
    """The float layer in `layer`, with a dequantize before it and a quantize after it; floats pass through it as ever.

    Shapes, errors, keys of the state dict and attributes are those of the layer. Each float tensor of its results has a
    range: `scale` and `zero_point` that of the first, `others` those of more, None for one that stays float. Without
    `quantizes`, as where calibration saw no finite results, the first stays float, too.
    """

    computes = "quantize"
    observes_output = False
    layer: nn.Module

    def __init__(
        self,
        scale: float = 1.0,
        zero_point: int = 0,
        dtype: DTypeLike = quint8,
        quantizes: bool = True,
        others: tuple[tuple[float, int] | None, ...] = (),
    ) -> None:
        super().__init__()
        self.quantizes = quantizes
        self.others = tuple(others)
        self._init_output(scale, zero_point, as_qdtype(dtype))
        self.layer = nn.Identity()

    @property
    def dtype(self) -> Any:
        """Dtype of the output."""
        return self._out.dtype

    def results(self) -> tuple[QParams | None, ...]:
        """Parameters of each float tensor of a result, in order; None for one that stays float."""
        more = (None if each is None else per_tensor(*each, self._out.dtype) for each in self.others)
        return (self._out if self.quantizes else None, *more)

    @classmethod
    def around(cls, layer: nn.Module, observed: nn.Module, observers: Iterable[nn.Module]) -> InFloat:
        """The layer, with the ranges that observers of the results of `observed` have found."""
        found: list[QParams | None] = []
        for observer in observers:
            try:
                found.append(None if isinstance(observer, nn.Identity) else observer_qparams(observer, observed))
            except QuantizationError:
                found.append(None)
        first, *others = found or [None]
        pairs = tuple(None if each is None else (float(each.scale), int(each.zero_point)) for each in others)
        made = cls(quantizes=first is not None, others=pairs)
        dtype = next((each.dtype for each in found if each is not None), quint8)
        made._out = per_tensor(1.0, 0, dtype) if first is None else first
        made.layer = layer
        made._backend = getattr(observed, "qcore_backend", None)
        made.qcore_path = getattr(observed, "qcore_path", "")
        return made.train(layer.training)

    def operator(self) -> ops.Operator:
        """What it does in integers."""
        return ops.Quantize()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As of the layer: quantized for quantized, float for float."""
        quantized = [x for x in tree_leaves((args, kwargs)) if isinstance(x, QTensor)]
        if not quantized:
            return self.layer(*args, **kwargs)
        self._note("forward", *quantized)
        given, named = tree_map(self._real, (args, kwargs))
        leaves, form = tree_flatten(self.layer(*given, **named))
        results = iter(self.results())
        return tree_unflatten([self._rounded(x, results) for x in leaves], form)

    def _real(self, x: Any) -> Any:
        if not isinstance(x, QTensor):
            return x
        return x.dequantize() if self.float_dtype is torch.float32 else x.dequantize().to(self.float_dtype)

    def _rounded(self, x: Any, results: Any) -> Any:
        if not isinstance(x, Tensor) or isinstance(x, QTensor) or not x.is_floating_point():
            return x
        out = next(results, None)
        return x if out is None else quantize(x.float(), out, self._backend)

    def __prepare_scriptable__(self) -> Any:
        """As of each quantized module; the layer itself where only floats have come."""
        check_scripting()
        return self.layer if self._calls is None else super().__prepare_scriptable__()

    # --- the layer's, under its own names ---------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            layer = self.__dict__.get("_modules", {}).get("layer")
            if layer is None or name.startswith("__"):
                raise
            return getattr(layer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        layer = self.__dict__.get("_modules", {}).get("layer")
        is_own = name in self.__dict__ or name.startswith("qcore_") or hasattr(type(self), name) or name == "layer"
        if layer is None or is_own:
            super().__setattr__(name, value)
        else:
            setattr(layer, name, value)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """That of the layer, with what this adds in the metadata."""
        found = self.layer.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        metadata = getattr(found, "_metadata", None)  # torch's own dictionary has it, and one of the user's need not
        if metadata is not None:
            metadata.setdefault(prefix[:-1], {})["qcore"] = self._options()
        return found

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        inner = f"{prefix}layer."
        for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(inner)]:
            state_dict[inner + key.removeprefix(prefix)] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _values(self) -> dict[str, Any]:
        return {}  # the keys of a model are those that it has without

    def _set_values(self, values: dict[str, Any]) -> None:
        """There are none."""

    def _options(self) -> dict[str, Any]:
        own = {"scale": self.scale, "zero_point": self.zero_point, "quantizes": self.quantizes}
        return {**super()._options(), **own, **({"others": self.others} if self.others else {})}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        if "scale" in options and "zero_point" in options:
            self._out = per_tensor(options["scale"], options["zero_point"], self._out.dtype)
        self.quantizes = bool(options.get("quantizes", self.quantizes))
        self.others = tuple(None if each is None else tuple(each) for each in options.get("others", self.others))

    def _get_name(self) -> str:
        return "InFloat"

    def extra_repr(self) -> str:
        """Scale and zero point of the first result."""
        return super().extra_repr() if not self.quantizes else f"scale={self.scale}, zero_point={self.zero_point}"
