"""torch.ao.nn.quantized.reference: one class serves every kind of layer."""

from __future__ import annotations

from qcore.fx.modules import ReferenceModule as ReferenceQuantizedModule

__all__ = ["ReferenceQuantizedModule"]
