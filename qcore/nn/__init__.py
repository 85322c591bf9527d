"""Modules by stage: intrinsic (float, fused), quantized (static), quantized.dynamic; `catalog` is their index."""
