"""What the graph of a file may call, by name: a closed list, so that no file can make a model call more.

The functions and methods of torch that compute tensors from tensors, and some of Python on numbers. None of them gives
memory that was not written to, goes past the elements of its input, runs a function that it is given, or changes what
a tensor stands on.
"""

from __future__ import annotations

import builtins
import math
import operator as python
import re
from collections import OrderedDict
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import get_overridable_functions

from qcore.fx.values import IN_PLACE

_OPERATORS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pos", "pow", "matmul", "getitem", "eq", "ne", "lt", "le",
    "gt", "ge", "and_", "or_", "xor", "not_", "invert", "abs", "lshift", "rshift",
    *(function.__name__ for function in IN_PLACE),
)  # fmt: skip
_MATH = (
    "sqrt", "exp", "log", "log2", "log10", "pow", "floor", "ceil", "trunc", "fabs", "sin", "cos", "tan", "tanh", "erf",
)  # fmt: skip
_BUILTINS = ("getattr", "len", "int", "float", "bool", "abs", "max", "min", "sum", "round")
_MAKERS = ("zeros", "ones", "full", "arange", "eye", "linspace", "tril_indices", "triu_indices")
"""Functions that make tensors of numbers; their sizes are checked like those of other calls."""

ATTRIBUTES = (
    "shape", "ndim", "dtype", "device", "T", "mT", "H", "mH", "real", "imag", "itemsize", "nbytes", "is_quantized",
    "layout", "data",
)  # fmt: skip
"""What a graph may read of a tensor with getattr."""

FIELDS = frozenset(
    field
    for kind in vars(torch.return_types).values()
    if hasattr(kind, "n_fields") and not kind.__name__.startswith("_")
    for field in kind.__match_args__
)
"""What it may read of several results of torch, such as the values of a maximum; of a tensor these may be methods."""

_LEFT_OUT = re.compile(
    r"_.*|.*(empty|resize|as_strided|storage|data_ptr|numpy|pin_memory|share_memory|register|sparse|mkldnn|cudnn)_?.*"
    r"|(quantize_|quantized_|q_|qscheme|..gemm_|miopen_|fake_quantize|fused_moving|choose_qparams|batch_norm_).*"
    r"|(set_|apply_|map_|map2_|backward|requires_grad_|retain_grad|record_stream|module_load|autocast|coalesce)"
    r"|(cuda|ipu|xpu|mtia|lobpcg|hash_tensor|is_set_to|is_shared|is_pinned|slice_inverse|get_device|values|indices)"
    r"|(triplet_margin_with_distance_loss|unsafe_.*|sym_.*|native_batch_norm|norm_except_dim|col_indices|row_indices)"
    r"|(crow_indices|ccol_indices|.*_indices_copy|values_copy|dsmm|hsmm|hspmm|saddmm|smm|spmm|sspaddmm|gru|lstm)"
    r"|(rnn_tanh|rnn_relu|gru_cell|lstm_cell|rnn_tanh_cell|rnn_relu_cell|histogramdd|renorm_?)"
    r"|(.*_loss|native_.*|grid_sampler.*|segment_reduce|fractional_.*|lu.*|ldl_.*|ormqr|orgqr|householder_product)"
    r"|(multinomial|embedding_bag)"
)
"""Names in torch's own list that are none of the above, that no model in a file needs, or that trust their arguments:
ctc_loss reads wherever its targets say, embedding_bag where its offsets do."""

_SPACES: dict[Any, str] = {
    torch: "torch", F: "torch.nn.functional", torch.fft: "torch.fft", torch.linalg: "torch.linalg",
    torch.special: "torch.special",
}  # fmt: skip


@cache
def functions() -> dict[str, Any]:
    """The functions by name."""
    found: dict[str, Any] = {f"operator.{name}": getattr(python, name) for name in _OPERATORS}
    found |= {f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS}
    found |= {f"math.{name}": getattr(math, name) for name in _MATH}
    found |= {f"torch.{name}": getattr(torch, name) for name in _MAKERS}
    found["collections.OrderedDict"] = OrderedDict
    from qcore.fx.attention import keep_allowed  # which is made of graphs, and they of this
    from qcore.fx.inplace import put

    found |= {"qcore.keep_allowed": keep_allowed, "qcore.put": put}
    tables = get_overridable_functions()
    for space, prefix in _SPACES.items():
        for function in tables.get(space, ()):
            name = function.__name__.removeprefix(f"{prefix.rpartition('.')[2]}_")
            if not _LEFT_OUT.fullmatch(name) and getattr(space, name, None) is function:
                found[f"{prefix}.{name}"] = function
    # where torch picks one of two functions by a flag, its list has those two, and not the choice
    for space, prefix in _SPACES.items():
        for name, function in vars(space).items():
            if getattr(function, "__name__", "") == "fn" and not _LEFT_OUT.fullmatch(name):
                found.setdefault(f"{prefix}.{name}", function)
    for name in ("relu_", "hardtanh_", "leaky_relu_", "elu_", "selu_", "celu_", "threshold_", "rrelu_", "sigmoid",
                 "tanh", "hardsigmoid", "hardswish", "logsigmoid", "threshold"):  # fmt: skip
        if hasattr(F, name):
            found.setdefault(f"torch.nn.functional.{name}", getattr(F, name))
    return found


@cache
def methods() -> frozenset[str]:
    """Names of the methods, those of tensors."""
    named = {function.__name__ for function in get_overridable_functions()[torch.Tensor]}
    kept = frozenset(name for name in named if not _LEFT_OUT.fullmatch(name))
    return kept | {
        "dequantize", "int_repr", "size", "dim", "stride", "unflatten", "new_zeros", "new_ones", "new_full",
        "new_tensor",
    }  # fmt: skip


@cache
def _names() -> dict[Any, str]:
    return {function: name for name, function in reversed(functions().items())}


def name_of(function: Any) -> str | None:
    """The name of a function; None for one that is not on the list."""
    return _names().get(function)


_SIZES = re.compile(
    r"(reshape|view|expand|repeat|tile|unflatten|broadcast_to|pad|interpolate|one_hot|repeat_interleave|arange|eye"
    r"|zeros|ones|full|linspace|new_\w+|tri[lu]_indices|fold|constant_pad_nd|nonzero_static|bincount|histc|view_copy"
    r"|adaptive_\w+|i?[rh]?fft[2n]?|vander|multigammaln|matrix_power|diag_embed|diag|diagflat|upsample\w*"
    r"|max_unpool\dd|channel_shuffle|expand_copy)"
)
MOST_ELEMENTS = 2**40
"""A call that names sizes of more elements than this makes no sense, and its strides would overflow."""


def names_sizes(target: str) -> bool:
    """Whether the numbers that a call is given, by name, are sizes of its result."""
    return _SIZES.fullmatch(target.rpartition(".")[2]) is not None
