"""Float modules that are called one after the other and quantized as one: a class names its parts, nothing more."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from qcore.errors import ArgumentError, ArgumentTypeError


class FusedModule(nn.Sequential):
    """Base: a Sequential of exactly the classes (or their subclasses) in `parts`.

    Raises ArgumentError for another number of modules, ArgumentTypeError for modules of other classes.
    """

    parts: ClassVar[tuple[type[nn.Module], ...]] = ()

    def __init__(self, *modules: nn.Module) -> None:
        names = ", ".join(part.__name__ for part in self.parts)
        if len(modules) != len(self.parts):
            raise ArgumentError(f"{type(self).__name__} takes {len(self.parts)} modules ({names}); got {len(modules)}")
        for position, (module, part) in enumerate(zip(modules, self.parts, strict=True)):
            if not isinstance(module, part):
                given = type(module).__name__
                raise ArgumentTypeError(f"{type(self).__name__} takes {names}; argument {position} is a {given}")
        super().__init__(*modules)


class ConvReLU1d(FusedModule):
    """Conv1d, then ReLU. Shapes as Conv1d."""

    parts = (nn.Conv1d, nn.ReLU)


class ConvReLU2d(FusedModule):
    """Conv2d, then ReLU. Shapes as Conv2d."""

    parts = (nn.Conv2d, nn.ReLU)


class ConvReLU3d(FusedModule):
    """Conv3d, then ReLU. Shapes as Conv3d."""

    parts = (nn.Conv3d, nn.ReLU)


class LinearReLU(FusedModule):
    """Linear, then ReLU. Shapes as Linear."""

    parts = (nn.Linear, nn.ReLU)


class ConvBn1d(FusedModule):
    """Conv1d, then BatchNorm1d; folded into one convolution when it is quantized. Shapes as Conv1d."""

    parts = (nn.Conv1d, nn.BatchNorm1d)


class ConvBn2d(FusedModule):
    """Conv2d, then BatchNorm2d; folded into one convolution when it is quantized. Shapes as Conv2d."""

    parts = (nn.Conv2d, nn.BatchNorm2d)


class ConvBn3d(FusedModule):
    """Conv3d, then BatchNorm3d; folded into one convolution when it is quantized. Shapes as Conv3d."""

    parts = (nn.Conv3d, nn.BatchNorm3d)


class ConvBnReLU1d(FusedModule):
    """Conv1d, BatchNorm1d, ReLU; the first two fold into one convolution when it is quantized. Shapes as Conv1d."""

    parts = (nn.Conv1d, nn.BatchNorm1d, nn.ReLU)


class ConvBnReLU2d(FusedModule):
    """Conv2d, BatchNorm2d, ReLU; the first two fold into one convolution when it is quantized. Shapes as Conv2d."""

    parts = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)


class ConvBnReLU3d(FusedModule):
    """Conv3d, BatchNorm3d, ReLU; the first two fold into one convolution when it is quantized. Shapes as Conv3d."""

    parts = (nn.Conv3d, nn.BatchNorm3d, nn.ReLU)


class LinearBn1d(FusedModule):
    """Linear, then BatchNorm1d; folded into one Linear when it is quantized. Shapes as Linear."""

    parts = (nn.Linear, nn.BatchNorm1d)


class BNReLU2d(FusedModule):
    """BatchNorm2d, then ReLU. Shapes as BatchNorm2d."""

    parts = (nn.BatchNorm2d, nn.ReLU)


class BNReLU3d(FusedModule):
    """BatchNorm3d, then ReLU. Shapes as BatchNorm3d."""

    parts = (nn.BatchNorm3d, nn.ReLU)
