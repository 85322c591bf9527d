"""QuantStub, DeQuantStub, and the wrapper that puts them around a module."""

from __future__ import annotations

from torch import Tensor, nn

from qcore.nn.stubs import DeQuantStub, QuantStub
from qcore.tensor.arguments import check_module

__all__ = ["DeQuantStub", "QuantStub", "QuantWrapper", "add_quant_dequant"]


class QuantWrapper(nn.Module):
    """A module of one input between a QuantStub and a DeQuantStub; they take its qconfig. Shapes and errors as the
    module's.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        check_module("QuantWrapper", module)
        qconfig = getattr(module, "qconfig", None)
        self.quant = QuantStub(qconfig)
        self.dequant = DeQuantStub(qconfig)
        self.module = module
        self.train(module.training)

    def forward(self, X: Tensor) -> Tensor:
        """dequant(module(quant(X)))."""
        result: Tensor = self.dequant(self.module(self.quant(X)))
        return result


def add_quant_dequant(module: nn.Module) -> nn.Module:
    """Wrap each leaf that has a qconfig of its own into a QuantWrapper; a leaf at the root is returned wrapped.

    Changes the module itself; raises ArgumentTypeError for what is none.
    """
    check_module("add_quant_dequant", module)
    if not list(module.children()):
        return QuantWrapper(module) if getattr(module, "qconfig", None) is not None else module
    for name, child in module.named_children():
        module._modules[name] = add_quant_dequant(child)
    return module
