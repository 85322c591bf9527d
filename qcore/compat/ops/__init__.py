"""torch.ops.quantized: torch's operators called directly, on QTensors, as plain functions over qcore's kernels.

Arguments are those of torch's schemas; so are results, of the dtype of the first tensor. Each raises ArgumentTypeError
for a float tensor where a quantized one belongs, else what the operator itself raises. Arithmetic: docs/numerics.md.
"""
