"""Quantized tensors: dtypes, schemes, scale/zero-point arithmetic, and the tensor class."""
