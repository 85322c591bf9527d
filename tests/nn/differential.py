"""Each quantized module against torch's original, made from the same float module with the same statistics.

    python -m tests.nn.differential --cases 200

prints, for each module and preset: cases, outputs compared, mismatches. A case is a float module with weights, ranges
and input parameters of its own. Integers, and floats from integer products, must be the same bits; recurrent networks,
whose gates are float functions that torch computes by vector instructions of each CPU, agree within 1e-6.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import qcore
from qcore.api import qconfig as qconfigs
from qcore.api.observer import MinMaxObserver
from qcore.nn import intrinsic as nni
from qcore.nn.intrinsic import FusedModule
from qcore.tensor.qtensor import QTensor
from tests import oracle
from tests.nn.every_module import DYNAMIC, STATIC, swapped, tensors

WITHOUT_ORIGINAL = {nni.LinearBn1d} | {
    getattr(nni, f"{name}{rank}d") for name in ("ConvBn", "ConvBnReLU") for rank in (1, 2, 3)
}
"""torch folds these only from their trained form."""

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class Subject:
    """A float module class, the stage, and the name of the preset that quantizes it."""

    stage: str
    kind: type[nn.Module]
    preset: str

    def __str__(self) -> str:
        return f"{self.stage}-{self.kind.__name__}-{self.preset}"


@dataclass
class Tally:
    """Counts for one subject."""

    cases: int = 0
    compared: int = 0
    mismatches: int = 0


def _subjects() -> Iterator[Subject]:
    for kind in STATIC:
        if kind in WITHOUT_ORIGINAL:
            continue
        if issubclass(kind, EMBEDDINGS):
            yield Subject("static", kind, "float_qparams_weight_only_qconfig")
            if kind is not nn.Embedding:  # torch reads a 4-bit table as an 8-bit one here
                yield Subject("static", kind, "float_qparams_weight_only_qconfig_4bit")
            continue
        yield Subject("static", kind, "default_qconfig")
        parts = getattr(kind, "parts", (kind,))
        # torch refuses transposed convolutions per channel
        if issubclass(parts[0], WEIGHTED) and not issubclass(kind, nn.modules.conv._ConvTransposeNd):
            yield Subject("static", kind, "default_per_channel_qconfig")
    for kind in DYNAMIC:
        if not issubclass(kind, EMBEDDINGS):
            yield Subject("dynamic", kind, "default_dynamic_qconfig")
            yield Subject("dynamic", kind, "per_channel_dynamic_qconfig")
            if not issubclass(kind, nn.RNNCellBase):
                yield Subject("dynamic", kind, "float16_dynamic_qconfig")


SUBJECTS = tuple(_subjects())


def case(subject: Subject, seed: int, backend: str = "reference") -> Iterator[tuple[Tensor, Tensor]]:
    """Ours and theirs, for each result of one case."""
    torch.manual_seed(seed)
    make, draw = (STATIC if subject.stage == "static" else DYNAMIC)[subject.kind]
    module = make().eval()
    reach = sorted(torch.randn(2).mul(3).tolist())
    inputs = tuple(_with_other_parameters(each) for each in draw())
    observer = MinMaxObserver(dtype=qcore.quint8)
    observer(torch.tensor(reach))
    ours = swapped(copy.deepcopy(module), subject.stage, getattr(qconfigs, subject.preset), observer)
    ours.backend = backend
    with oracle.engine(), torch.no_grad():
        theirs = _original(module, subject, reach)
        expected = tensors(theirs(*map(_as_theirs, inputs)))
    yield from zip(tensors(ours(*inputs)), expected, strict=True)


def compare(subject: Subject, cases: int, seed: int = 0, backend: str = "reference") -> Tally:
    """Run drawn cases of one subject."""
    tally = Tally()
    for number in range(cases):
        tally.cases += 1
        for ours, theirs in case(subject, seed * 1_000_003 + number, backend):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), str(subject)
            tally.compared += ours.numel()
            close = (ours - theirs).abs() <= 1e-6 if issubclass(subject.kind, RECURRENT) else ours == theirs
            tally.mismatches += int((~close).sum())
    return tally


def _with_other_parameters(x: Tensor) -> Tensor:
    if not isinstance(x, QTensor):
        return x
    # convolutions pad by the zero point
    scale, zero_point = float(torch.rand(())) * 0.1 + 0.005, oracle.summable(torch.randint(0, 256, ()).byte()).item()
    quantized = qcore.quantize_per_tensor(x.dequantize(), scale, zero_point, x.dtype)
    return QTensor(oracle.summable(quantized.int_repr()), quantized.qparams)


def _as_theirs(value: Any) -> Any:
    return oracle.to_torch(value.int_repr(), value.qparams) if isinstance(value, QTensor) else value


def _original(module: nn.Module, subject: Subject, reach: list[float]) -> nn.Module:
    """torch's quantized module for a copy of the float one."""
    import torch.ao.nn.intrinsic as legacy_nni
    import torch.ao.quantization as legacy
    from torch.ao.quantization import quantization_mappings as legacy_mappings

    module, name = copy.deepcopy(module), type(module).__name__
    if isinstance(module, FusedModule):
        module = getattr(legacy_nni, name)(*module)
    elif name in ("QuantStub", "DeQuantStub"):
        module = getattr(legacy, name)()
    for each in module.modules():
        each.qconfig = getattr(legacy, subject.preset)
        if isinstance(
            each, nn.PReLU
        ):  # its slopes are quint8 there; with an observer of qint8 torch warns, and loses them
            each.qconfig = legacy.QConfig(each.qconfig.activation, legacy.MinMaxObserver)
    observer = legacy.MinMaxObserver(dtype=torch.quint8)
    observer(torch.tensor(reach))
    module.activation_post_process = observer
    mapping = getattr(legacy_mappings, f"DEFAULT_{subject.stage.upper()}_QUANT_MODULE_MAPPINGS")
    return mapping[type(module)].from_float(module).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=200, help="for each module and preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="reference")
    options = parser.parse_args()
    row = "{:<78}{:>8}{:>13}{:>12}"
    print(row.format("module and preset", "cases", "compared", "mismatches"))
    total = Tally()
    for subject in SUBJECTS:
        tally = compare(subject, options.cases, options.seed, options.backend)
        counts = (tally.cases, tally.compared, tally.mismatches)
        print(row.format(str(subject), *(f"{count:,}" for count in counts)), flush=True)
        total = Tally(*(a + b for a, b in zip((total.cases, total.compared, total.mismatches), counts, strict=True)))
    print(row.format("all", *(f"{count:,}" for count in (total.cases, total.compared, total.mismatches))))


if __name__ == "__main__":
    main()
