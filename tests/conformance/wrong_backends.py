"""Backends with one fault each, over the reference's kernels; `WRONG` says which tests catch each, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from threading import get_ident
from time import sleep
from typing import Any

import torch
from torch import Tensor

import qcore
from qcore.operators import Add, Clamp, Conv, Linear, LinearDynamic, LinearFp16, Mul, Operator, Quantize

PER_TENSOR = (qcore.WeightSpec(),)
PER_CHANNEL = (qcore.WeightSpec(per_channel=True),)
LINEAR = qcore.OpSpec(Linear, weights=PER_TENSOR)
CONV = qcore.OpSpec(Conv, weights=PER_CHANNEL, spatial=(2,))


class Right(qcore.Backend):
    """Without a fault; `ops` is what it declares."""

    name = "right"
    version = "1.0"
    api_version: tuple[int, int] = (1, 0)
    ops: tuple[qcore.OpSpec, ...] = (LINEAR, qcore.OpSpec(Add, fused=("relu",)))

    def probe(self) -> qcore.Availability:
        return qcore.Availability(True)

    def capability(self) -> qcore.Capability:
        return qcore.Capability(self.ops)

    def build(self, operator: Operator) -> qcore.Kernel:
        return self.change(operator, qcore.registry.get("reference").build(operator))

    def change(self, operator: Operator, kernel: qcore.Kernel) -> qcore.Kernel:
        """Where the faults come in."""
        return kernel


class OffByOne(Right):
    ops = (LINEAR,)

    def change(self, operator, kernel):
        return lambda x, qx, out: (kernel(x, qx, out).int() + 1).clamp(max=255).to(torch.uint8)


class WithinItsBound(OffByOne):
    """Off by one, as it declares: no fault."""

    ops = (replace(LINEAR, steps=1),)


class BeyondItsBound(Right):
    """Off by two, and declares one."""

    ops = (replace(LINEAR, steps=1),)

    def change(self, operator, kernel):
        return lambda x, qx, out: (kernel(x, qx, out).int() + 2).clamp(max=255).to(torch.uint8)


class Selective(Right):
    """Refuses what its declaration has no words for, with a reason: no fault."""

    def supports(self, operator, activations=()):
        if isinstance(operator, Linear) and operator.bias is None:
            return qcore.Verdict(False, "linear: without a bias")
        return super().supports(operator, activations)

    def change(self, operator, kernel):
        if isinstance(operator, Linear) and operator.bias is None:
            raise qcore.UnsupportedError("linear: without a bias")
        return kernel


class RefusesInSilence(Selective):
    """The same without a reason."""

    def supports(self, operator, activations=()):
        verdict = super().supports(operator, activations)
        return verdict if verdict else qcore.Verdict(False)


class FutilePattern(Right):
    """A sequence that becomes no module."""

    def capability(self):
        return qcore.Capability(self.ops, (qcore.Pattern((torch.nn.Linear, torch.nn.Tanh), Linear),))


class BoundOnFloats(Right):
    """Declares steps for results that have none."""

    ops = (qcore.OpSpec(LinearFp16, activations=(), steps=1),)


class SharesScratch(Right):
    """Keeps what it works on where other threads that call it write too."""

    ops = (LINEAR,)

    def change(self, operator, kernel):
        scratch = [0]

        def linear(x, qx, out):
            mine = scratch[0] = get_ident()
            sleep(0.01 if x.numel() > 20_000 else 0)
            return kernel(x, qx, out) ^ (scratch[0] != mine)

        return linear


class SaturatingPairs(Right):
    """Adds pairs of products in 16 bits, as vpmaddubsw does."""

    ops = (LINEAR,)

    def build(self, operator):
        def linear(x, qx, out):
            columns = x.shape[-1] + x.shape[-1] % 2
            pad = (0, columns - x.shape[-1])
            left = torch.nn.functional.pad(x.long(), pad).unflatten(-1, (-1, 2))
            right = torch.nn.functional.pad(operator.weight.long(), pad).unflatten(-1, (-1, 2))
            pairs = (left.unsqueeze(-3) * right).sum(-1).clamp(-(2**15), 2**15 - 1)
            zx, zw = qx.zero_point, operator.qweight.zero_point
            acc = pairs.sum(-1) - zx * operator.weight.long().sum(1)
            acc = acc - zw * x.long().sum(-1, keepdim=True) + zx * zw * x.shape[-1]
            sxw = torch.tensor(qx.scale).float() * torch.tensor(operator.qweight.scale).float()
            total = acc.float() if operator.bias is None else acc.float() + operator.bias / sxw
            result = torch.round(total * (sxw / torch.tensor(out.scale).float())).double() + out.zero_point
            return result.clamp(0, 255).to(torch.uint8)

        return linear


class WrongAxis(Right):
    """Uses the scales of the channels in another order."""

    ops = (qcore.OpSpec(Linear, weights=PER_CHANNEL),)

    def build(self, operator):
        scales = operator.qweight.scale.roll(1)
        return super().build(replace(operator, qweight=replace(operator.qweight, scale=scales)))


class DropsBias(Right):
    ops = (LINEAR,)

    def build(self, operator):
        return super().build(replace(operator, bias=None))


class BiasInTwoSteps(Right):
    """Rounds bias / sxw before it is added, with weights per tensor, as is right with weights per channel."""

    ops = (LINEAR,)

    def build(self, operator):
        weight = operator.weight.long() - operator.qweight.zero_point

        def linear(x, qx, out):
            acc = ((x.long() - qx.zero_point) @ weight.T).float()
            sxw = torch.tensor(qx.scale).float() * torch.tensor(operator.qweight.scale).float()
            total = acc if operator.bias is None else acc + operator.bias / sxw
            result = torch.round(total * (sxw / torch.tensor(out.scale).float())).double() + out.zero_point
            return result.clamp(0, 255).to(torch.uint8)

        return linear


class LosesTheRest(Right):
    """Sums only the first half of long rows."""

    ops = (LINEAR,)

    def build(self, operator):
        half = operator.weight.shape[1] // 2
        if operator.weight.shape[1] < 1000:
            return super().build(operator)
        cut = operator.weight.clone()
        cut[:, half:] = 0
        return super().build(replace(operator, weight=cut))


class ProbeRaises(Right):
    def probe(self):
        raise OSError("no driver")


class ProbeWavers(Right):
    ops = ()
    answers = count()

    def probe(self):
        return qcore.Availability(True, detail=f"answer {next(self.answers)}")


class NoCure(Right):
    ops = ()

    def probe(self):
        return qcore.Availability(False, "no chip")


class NoVersion(Right):
    version = ""
    ops = ()


class UnstatedContract(qcore.Backend):
    """Inherits the version of the plugin contract from whatever qcore is installed."""

    version = "1.0"
    ops = ()
    probe, capability, build, change = Right.probe, Right.capability, Right.build, Right.change


class DeclaresConv3d(Right):
    """Declares three dimensions and builds two."""

    ops = (qcore.OpSpec(Conv, weights=PER_TENSOR, spatial=(2, 3)),)

    def build(self, operator):
        if operator.spatial == 3:
            raise NotImplementedError("conv3d is not there yet")
        return super().build(operator)


class RoundsHalfUp(Right):
    ops = (qcore.OpSpec(Quantize),)

    def build(self, operator):
        def quantize(x, out):
            shape = [-1 if axis == out.axis else 1 for axis in range(x.ndim)]
            scale, zero = torch.as_tensor(out.scale).float(), torch.as_tensor(out.zero_point).float()
            if out.axis is not None:
                scale, zero = scale.reshape(shape), zero.reshape(shape)
            return torch.floor(x * (1 / scale) + zero + 0.5).nan_to_num(255, 255, 0).clamp(0, 255).to(torch.uint8)

        return quantize


class PadsWithZero(Right):
    """Pads with the integer 0 instead of the zero point."""

    ops = (CONV,)

    def build(self, operator):
        kernel = super().build(replace(operator, padding=(0,) * operator.spatial))
        widths = [width for size in reversed(operator.padding) for width in (size, size)]
        return lambda x, qx, out: kernel(torch.nn.functional.pad(x, widths), qx, out)


class PlainStrides(Right):
    ops = (CONV,)

    def change(self, operator, kernel):
        return lambda x, qx, out: kernel(x, qx, out).contiguous()


class ChangesInput(Right):
    ops = (LINEAR,)

    def change(self, operator, kernel):
        def linear(x, qx, out):
            result = kernel(x, qx, out)
            x.bitwise_xor_(1)
            return result

        return linear


class EveryOtherCall(Right):
    """Gives another result on every second call."""

    ops = (LINEAR,)

    def change(self, operator, kernel):
        calls = count()
        return lambda x, qx, out: kernel(x, qx, out) ^ (next(calls) % 2)


class SharesOutput(Right):
    """Writes each result of a kernel into the same memory."""

    ops = (qcore.OpSpec(Clamp),)

    def change(self, operator, kernel):
        kept: dict[Any, Tensor] = {}

        def clamp(x, qx):
            result = kernel(x, qx).clone()
            return kept.setdefault(result.shape, result).copy_(result)

        return clamp


class ReluAtZero(Right):
    """Clamps at the integer 0 instead of the zero point."""

    ops = (qcore.OpSpec(Add, fused=("relu",)),)

    def build(self, operator):
        return super().build(Add())


class WithoutFma(Right):
    """Rounds the product and the sum where one rounding is written."""

    ops = (qcore.OpSpec(Add),)

    def build(self, operator):
        def real(x, qx):
            scale = torch.tensor(qx.scale).float()
            return x.float() * scale - scale * qx.zero_point

        def add(a, qa, b, qb, out):
            total = (real(a, qa) + real(b, qb)) * (1 / torch.tensor(out.scale).float())
            return (torch.round(total).double() + out.zero_point).clamp(0, 255).to(torch.uint8)

        return add


class IgnoresStrides(Right):
    """Reads memory in order, whatever the strides say."""

    ops = (qcore.OpSpec(Mul),)

    def change(self, operator, kernel):
        def flat(x):
            size = x.untyped_storage().nbytes() - x.storage_offset()
            packed = torch.empty(x.shape).stride()
            return x if size < x.numel() else x.as_strided(x.shape, packed, x.storage_offset())

        return lambda a, qa, b, qb, out: kernel(flat(a), qa, flat(b), qb, out)


class WrongDtype(Right):
    ops = (LINEAR,)

    def change(self, operator, kernel):
        return lambda x, qx, out: kernel(x, qx, out).int()


class CountsThreads(Right):
    """Sums in another order with more threads."""

    ops = (LINEAR,)

    def change(self, operator, kernel):
        return lambda x, qx, out: kernel(x, qx, out) ^ int(torch.get_num_threads() > 1 and x.numel() > 20_000)


class OneParameterForAllRows(Right):
    """Takes per_row and ignores it."""

    ops = (qcore.OpSpec(LinearDynamic, weights=PER_TENSOR, options=("per_row",)),)

    def build(self, operator):
        return super().build(replace(operator, per_row=False))


class SupportsAll(Right):
    ops = (replace(LINEAR, limits=(qcore.Limit("in_features", 1000, "registers"),)),)

    def supports(self, operator, activations=()):
        return qcore.Verdict(True)


class SupportsNothing(Right):
    ops = (LINEAR,)

    def supports(self, operator, activations=()):
        return qcore.Verdict(False, "not in the mood")


class StrayPattern(Right):
    ops = (LINEAR,)

    def capability(self):
        return qcore.Capability(self.ops, (qcore.Pattern((torch.nn.Conv2d,), Conv),))


class DeclaresTwice(Right):
    ops = (LINEAR, replace(LINEAR, weights=PER_CHANNEL))


class DeclaresLists(Right):
    ops = (qcore.OpSpec(Mul, activations=[qcore.quint8]),)


KERNEL = {"test_written"}
WRONG: dict[type[qcore.Backend], tuple[set[str], str]] = {
    Right: (set(), ""),
    OffByOne: (KERNEL, "elements differ; the first is"),
    WithinItsBound: (set(), ""),
    BeyondItsBound: (KERNEL, "elements differ by more than the declared 1; the first is"),
    Selective: (set(), ""),
    RefusesInSilence: (KERNEL, "says no without a reason"),
    FutilePattern: ({"test_patterns"}, "Linear > Tanh changes nothing"),
    BoundOnFloats: ({"test_capability"}, "linear_fp16: steps=1; give a whole number, 0 for float results"),
    SharesScratch: ({"test_threads"}, "other results when several threads call it at once"),
    UnstatedContract: ({"test_identity"}, "api_version is not stated"),
    SaturatingPairs: (KERNEL, "from the exact sum"),
    WrongAxis: (KERNEL, "zero points"),
    DropsBias: (KERNEL, "bias: torch.float32"),
    BiasInTwoSteps: (KERNEL, "linear-quint8-qint8_per_tensor: .* elements differ"),
    LosesTheRest: ({"test_written"}, "linear-quint8-qint8_per_tensor: .* elements differ"),
    ProbeRaises: ({"test_loads"}, "raised OSError: no driver"),
    ProbeWavers: ({"test_probe"}, "answer .* and then .*answer"),
    NoCure: ({"test_probe"}, "without a reason and a cure"),
    NoVersion: ({"test_identity"}, "version is ''"),
    DeclaresConv3d: ({*KERNEL, "test_threads"}, "conv3d.*declared, and raised NotImplementedError: conv3d"),
    RoundsHalfUp: (KERNEL, "quantize-quint8: .* elements differ"),
    PadsWithZero: (KERNEL, r"padding: \(1, 1\)"),
    PlainStrides: (KERNEL, "which are not torch.channels_last"),
    ChangesInput: ({*KERNEL, "test_threads"}, "the kernel changed its input tensor number 0"),
    EveryOtherCall: ({*KERNEL, "test_threads"}, "a second call with the same arguments gave another result"),
    SharesOutput: (KERNEL, "a second call wrote over the result of the first"),
    ReluAtZero: (KERNEL, "add-quint8-relu: .* elements differ"),
    WithoutFma: (KERNEL, "add-quint8: .* elements differ"),
    IgnoresStrides: (KERNEL, r"strides \("),
    WrongDtype: (KERNEL, "dtype torch.int32; expected .* torch.uint8"),
    CountsThreads: ({"test_threads"}, "one thread and two give different results"),
    OneParameterForAllRows: (KERNEL, "linear_dynamic-quint8-qint8_per_tensor-per_row: "),
    SupportsAll: ({"test_limit"}, "in_features=1001 is over the declared limit of 1000"),
    SupportsNothing: ({"test_supports"}, "is declared, and supports.. says no: not in the mood"),
    StrayPattern: ({"test_patterns"}, "pattern Conv2d is for conv, which is not declared"),
    DeclaresTwice: ({"test_capability", "test_supports"}, "declared more than once: linear"),
    DeclaresLists: ({"test_capability"}, "not hashable"),
}


class Plugin:
    """A plugin object around a backend."""

    def __init__(self, backend: qcore.Backend) -> None:
        self._backend = backend

    @qcore.hookimpl
    def qcore_backend(self) -> qcore.Backend:
        return self._backend


def register_all(kinds: Iterable[type[qcore.Backend]], make: Callable[[str], None]) -> None:
    """Register each under the name of its class, and tell the name."""
    for kind in kinds:
        kind.name = kind.__name__
        qcore.registry.register(Plugin(kind()), kind.name)
        make(kind.name)
