"""What the graph of a file may call, by name: a closed list, so that no file can make a model call more.

The functions and methods of torch that models compute tensors from tensors with, and some of Python on numbers. None
of them gives memory that was not written to, goes past the elements of its input, runs a function that it is given, or
changes what a tensor stands on: `python -m tests.fuzz.listed` calls each with what a file can give it. What else a
model calls, its owner allows (`allow` of qcore.save and qcore.load).
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
from torch import Tensor
from torch.nn import functional as F

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

_ELEMENTWISE = (
    "abs", "absolute", "acos", "acosh", "add", "addcdiv", "addcmul", "angle", "arccos", "arccosh", "arcsin", "arcsinh",
    "arctan", "arctan2", "arctanh", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_left_shift",
    "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clamp", "clamp_max", "clamp_min",
    "clip", "conj", "conj_physical", "copysign", "cos", "cosh", "deg2rad", "digamma", "div", "divide", "eq", "erf",
    "erfc", "erfinv", "exp", "exp2", "expm1", "fix", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod",
    "frac", "ge", "greater", "greater_equal", "gt", "heaviside", "hypot", "isclose", "isfinite", "isinf", "isnan",
    "isneginf", "isposinf", "le", "lerp", "less", "less_equal", "lgamma", "log", "log10", "log1p", "log2", "logaddexp",
    "logaddexp2", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "lt", "masked_fill", "maximum",
    "minimum", "mul", "multiply", "nan_to_num", "ne", "neg", "negative", "not_equal", "positive", "pow", "rad2deg",
    "reciprocal", "relu", "remainder", "round", "rsqrt", "rsub", "sgn", "sigmoid", "sign", "signbit", "sin", "sinc",
    "sinh", "sqrt", "square", "sub", "subtract", "tan", "tanh", "true_divide", "trunc", "where", "xlogy",
)  # fmt: skip
"""Calls that compute each element of their result from elements at its place; most of them have a form in place."""

_REDUCTIONS = (
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "argsort", "count_nonzero", "cummax", "cummin",
    "cumprod", "cumsum", "diff", "dist", "equal", "kthvalue", "log_softmax", "logcumsumexp", "logsumexp", "max", "mean",
    "median", "min", "mode", "msort", "nanmean", "nanmedian", "nansum", "norm", "prod", "quantile", "softmax", "sort",
    "std", "sum", "topk", "trace", "var",
)  # fmt: skip
_SHAPES = (
    "adjoint", "broadcast_to", "chunk", "clone", "detach", "diag", "diag_embed", "diagflat", "diagonal", "dsplit",
    "flatten", "flip", "fliplr", "flipud", "hsplit", "moveaxis", "movedim", "narrow", "permute", "ravel",
    "repeat_interleave", "reshape", "resolve_conj", "resolve_neg", "roll", "rot90", "select", "split",
    "split_with_sizes", "squeeze", "swapaxes", "swapdims", "t", "tensor_split", "tile", "transpose", "tril", "triu",
    "unbind", "unflatten", "unsqueeze", "vsplit",
)  # fmt: skip
_INDEXING = (
    "argwhere", "bincount", "diagonal_scatter", "gather", "index_add", "index_copy", "index_fill", "index_put",
    "index_select", "masked_scatter", "masked_select", "nonzero", "scatter", "scatter_add", "scatter_reduce",
    "select_scatter", "slice_scatter", "take", "take_along_dim", "unique_consecutive",
)  # fmt: skip
_PRODUCTS = (
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "cross", "dot", "ger", "inner", "kron", "matmul", "mm", "mv",
    "outer", "vdot",
)  # fmt: skip
_QUESTIONS = ("dequantize", "int_repr", "is_complex", "is_floating_point", "is_nonzero", "numel")
_BOTH = (*_ELEMENTWISE, *_REDUCTIONS, *_SHAPES, *_INDEXING, *_PRODUCTS, *_QUESTIONS)
"""Functions of torch that are methods of tensors too, most of them."""

_MAKERS = ("zeros", "ones", "full", "arange", "eye", "linspace", "tril_indices", "triu_indices")
"""Functions that make tensors of numbers; their sizes are checked like those of other calls."""

_FUNCTIONS: dict[Any, tuple[str, tuple[str, ...]]] = {
    torch: ("torch", (
        *_BOTH, *_MAKERS, "adaptive_avg_pool1d", "atleast_1d", "atleast_2d", "atleast_3d", "avg_pool1d", "batch_norm",
        "bilinear", "block_diag", "broadcast_tensors", "bucketize", "cat", "cdist", "celu", "celu_", "channel_shuffle",
        "column_stack", "complex", "concat", "concatenate", "constant_pad_nd", "conv1d", "conv2d", "conv3d",
        "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_similarity", "dropout", "dstack", "einsum",
        "embedding", "full_like", "group_norm", "hardshrink", "hstack", "imag", "instance_norm", "isin", "isreal",
        "layer_norm", "max_pool1d", "max_pool2d", "max_pool3d", "meshgrid", "ones_like", "pairwise_distance",
        "pixel_shuffle", "pixel_unshuffle", "polar", "prelu", "real", "relu_", "rms_norm", "row_stack", "searchsorted",
        "selu", "selu_", "sigmoid_", "stack", "std_mean", "tanh_", "tensordot", "threshold", "threshold_", "var_mean",
        "view_as_complex", "view_as_real", "vstack", "zeros_like",
    )),
    F: ("torch.nn.functional", (
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
        "adaptive_max_pool2d", "adaptive_max_pool3d", "alpha_dropout", "avg_pool1d", "avg_pool2d", "avg_pool3d",
        "batch_norm", "bilinear", "celu", "celu_", "channel_shuffle", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
        "conv_transpose2d", "conv_transpose3d", "cosine_similarity", "dropout", "dropout1d", "dropout2d", "dropout3d",
        "elu", "elu_", "embedding", "feature_alpha_dropout", "fold", "gelu", "glu", "group_norm", "hardshrink",
        "hardsigmoid", "hardswish", "hardtanh", "hardtanh_", "instance_norm", "interpolate", "layer_norm", "leaky_relu",
        "leaky_relu_", "linear", "local_response_norm", "log_softmax", "logsigmoid", "lp_pool1d", "lp_pool2d",
        "lp_pool3d", "max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d",
        "max_pool3d_with_indices", "mish", "normalize", "one_hot", "pad",
        "pairwise_distance", "pixel_shuffle", "pixel_unshuffle", "prelu", "relu", "relu6", "relu_", "rms_norm", "rrelu",
        "scaled_dot_product_attention", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus",
        "softshrink", "softsign", "tanh", "tanhshrink", "threshold", "threshold_", "unfold",
    )),
    torch.fft: ("torch.fft", (
        "fft", "fft2", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft", "irfft", "irfft2",
        "irfftn", "rfft", "rfft2", "rfftn",
    )),
    torch.linalg: ("torch.linalg", (
        "cross", "diagonal", "matmul", "matrix_norm", "multi_dot", "norm", "vecdot", "vector_norm",
    )),
    torch.special: ("torch.special", (
        "digamma", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "i0", "i0e", "i1", "i1e", "log1p",
        "log_ndtr", "log_softmax", "logit", "logsumexp", "ndtr", "ndtri", "psi", "round", "sinc", "softmax", "xlog1py",
        "xlogy",
    )),
}  # fmt: skip

_METHODS = (
    *_BOTH, "bfloat16", "bool", "byte", "cdouble", "cfloat", "char", "contiguous", "copy_", "cpu", "dim", "double",
    "element_size", "expand", "expand_as", "fill_", "fill_diagonal_", "float", "half", "hardshrink", "index_add_",
    "index_copy_", "index_fill_", "index_put_", "int", "is_contiguous", "item", "long", "masked_fill_",
    "masked_scatter_", "ndimension", "nelement", "new_full", "new_ones", "new_tensor", "new_zeros", "prelu", "repeat",
    "reshape_as", "scatter_", "scatter_add_", "scatter_reduce_", "short", "size", "squeeze_", "stride", "sum_to_size",
    "swapaxes_", "swapdims_", "t_", "to", "tolist", "transpose_", "tril_", "triu_", "type", "type_as", "unfold",
    "unique", "unsqueeze_", "view", "view_as", "zero_", *(f"{name}_" for name in _ELEMENTWISE if name != "where"),
)  # fmt: skip

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


@cache
def functions() -> dict[str, Any]:
    """The functions by name."""
    found: dict[str, Any] = {f"operator.{name}": getattr(python, name) for name in _OPERATORS}
    found |= {f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS}
    found |= {f"math.{name}": getattr(math, name) for name in _MATH}
    found["collections.OrderedDict"] = OrderedDict
    from qcore.fx.attention import keep_allowed  # which is made of graphs, and they of this
    from qcore.fx.inplace import put

    found |= {"qcore.keep_allowed": keep_allowed, "qcore.put": put}
    for space, (prefix, names) in _FUNCTIONS.items():  # of which other versions of torch may lack some
        found |= {f"{prefix}.{name}": getattr(space, name) for name in names if hasattr(space, name)}
    return found


@cache
def methods() -> frozenset[str]:
    """Names of the methods, those of tensors."""
    return frozenset(name for name in _METHODS if hasattr(Tensor, name))


@cache
def _names() -> dict[Any, str]:
    return {function: name for name, function in reversed(functions().items())}


def name_of(function: Any) -> str | None:
    """The name of a function; None for one that is not on the list."""
    return _names().get(function)


_SIZES = re.compile(
    r"(reshape|view|expand|repeat|tile|unflatten|broadcast_to|pad|interpolate|one_hot|repeat_interleave|arange|eye"
    r"|zeros|ones|full|linspace|new_\w+|tri[lu]_indices|fold|constant_pad_nd|bincount|adaptive_\w+|i?[rh]?fft[2n]?"
    r"|diag_embed|diag|diagflat|channel_shuffle)"
)
MOST_ELEMENTS = 2**40
"""A call that names sizes of more elements than this makes no sense, and its strides would overflow."""


def names_sizes(target: str) -> bool:
    """Whether the numbers that a call is given, by name, are sizes of its result."""
    return _SIZES.fullmatch(target.rpartition(".")[2]) is not None
