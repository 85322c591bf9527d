"""What must hold of a drawn model; each check is a function of a Case, and says in words where it does not hold."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import qcore
from qcore.api.fake_quantize import disable_observer
from tests.drawn import noise
from tests.drawn.case import Case, Failed, Skip, alike, close, is_exact, is_quantized, kept_inputs, near
from tests.drawn.noise import flat


def static(case: Case) -> None:
    model = case.static()
    near(case, case.results(model), False)
    kept_inputs(case, model)
    first, again = case.results(model), case.results(model)
    alike(case, first, again, True, False)


def levels(case: Case) -> None:
    model = case.static()
    with qcore.on_modules():
        modules = case.results(model)
    alike(case, modules, case.results(model), is_exact(model), False)


def reference(case: Case) -> None:
    model = case.static()
    other = qcore.lower_fx(qcore.convert_to_reference_fx(copy.deepcopy(case.prepared())), backend="reference")
    alike(case, case.results(other), case.results(model), is_exact(model), False)


def eager(case: Case) -> None:
    if not case.program.is_sequential or len(case.program.scopes) > 1:
        raise Skip("not a chain of modules alone: eager mode takes no functions between stubs")
    if not all(isinstance(each, Tensor) and each.is_floating_point() for each in case.calls[0]):
        raise Skip("a QuantWrapper quantizes its input, and takes no integers")

    def make() -> nn.Module:
        prepared = qcore.prepare(qcore.QuantWrapper(copy.deepcopy(case.model)).eval())
        case.results(prepared, case.calibration)
        return qcore.convert(prepared)

    model = case.kept("eager", make)
    near(case, case.results(model), False)
    compiled = qcore.compile(model, copy.deepcopy(case.calls[0]))
    alike(case, case.results(model), case.results(compiled), is_exact(model), False)


def dynamic(case: Case) -> None:
    model = case.dynamic()
    near(case, case.results(model), True)
    kept_inputs(case, model)


def compiled(case: Case) -> None:
    model = case.compiled()
    found = case.results(model)
    alike(case, case.results(case.dynamic()), found, False, True)
    near(case, found, True)
    kept_inputs(case, model)
    alike(case, found, case.results(model), True, True)


def qat(case: Case) -> None:
    torch.manual_seed(0)
    try:  # what torch cannot train (inference only, no gradient) is no fault
        training = copy.deepcopy(case.model).train()
        _step(training, case)
    except (RuntimeError, ValueError) as error:
        raise Skip("the float model cannot be trained") from error
    prepared = qcore.prepare_qat_fx(copy.deepcopy(case.model).train(), None, copy.deepcopy(case.calls[0]))
    try:
        for _ in range(2):
            _step(prepared, case)
    except ValueError as error:
        if any(each in case.program.text() for each in STEEP):
            raise Skip("fake quantization gives zeros, where the slope of a root is infinite") from error
        raise
    prepared.eval()
    case.results(prepared, case.calibration)
    prepared.apply(disable_observer)
    right = case.results(prepared)
    found = case.results(qcore.convert_fx(prepared))
    # ranges are averages over few calls, the same for all sizes; and both models round, each in its way: 3 dB
    least = [min(each) - 3 for each in zip(*case.estimate(False), strict=True)]
    close(case, right, found, [least] * len(right), "the trained model")


STEEP = ("sqrt", "** 0.5", "norm(", "normalize", "std(", "hypot", "LPPool")
"""What has no finite slope at some numbers, in programs."""


def _step(model: nn.Module, case: Case) -> None:
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3) if parameters else None
    found = [
        each for each in flat(model(*copy.deepcopy(case.calls[-1]))) if each.is_floating_point() and each.requires_grad
    ]
    if not found or optimizer is None:
        raise ValueError("nothing to train")
    torch.stack([each.float().square().mean() for each in found]).sum().backward()
    for each in parameters:
        if each.grad is not None and not torch.isfinite(each.grad).all():
            raise ValueError("gradients are not finite")
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def threads(case: Case) -> None:
    one = case.results(case.model)
    with _threads(3):
        other = case.results(case.model)
    torchs = all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))
    for name, model in _both(case):
        with _named(name):
            one = case.results(model)
            with _threads(3):
                other = case.results(model)
            # floats that torch itself computes otherwise with other threads may differ
            alike(case, one, other, torchs or (name == "static" and is_exact(model)), name != "static")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _both(case: Case) -> Iterator[tuple[str, nn.Module]]:
    """The static and the compiled dynamic model, those that there are."""
    found = []
    for name, make in (("static", case.static), ("compiled", case.compiled), ("dynamic", case.dynamic)):
        try:
            found.append((name, make()))
        except Exception:
            continue
    found = [each for each in found if is_quantized(each[1])]
    if not found:
        raise Skip("no converted model")
    yield from found


def _copies(case: Case, again: Callable[[nn.Module], nn.Module]) -> None:
    """Failed where a copy has other results."""
    for name, model in _both(case):
        with _named(name):
            right = case.results(model)
            found = case.results(again(model))
            alike(case, right, found, True, name != "static")
            _unchanged(case, model, right)


def _unchanged(case: Case, model: nn.Module, before: list[list[Tensor]]) -> None:
    """Failed where a model has other bits after it was copied, kept or written than before."""
    try:
        alike(case, before, case.results(model), True, False)
    except Failed as error:
        raise Failed(f"the model itself has changed: {error}") from error


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Which of the models an error is of."""
    try:
        yield
    except Failed as error:
        raise Failed(f"{name}: {error}") from error
    except Skip:
        raise
    except Exception as error:
        error.add_note(name)
        raise


def save(case: Case) -> None:
    allow = [case.module.Result]

    def again(model: nn.Module) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.qcore")
            qcore.save(model, path, allow=allow)
            try:
                return qcore.load(path, case.model, allow=allow)
            except qcore.QcoreError as error:
                raise Failed(f"load refuses what save wrote: {' '.join(str(error).split())[:300]}") from error

    _copies(case, again)


def pickled(case: Case) -> None:
    def again(model: nn.Module) -> nn.Module:
        stream = io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        pickle.loads(pickle.dumps(model))
        return torch.load(stream, weights_only=False)  # type: ignore[no-any-return]

    _copies(case, again)


def deepcopy(case: Case) -> None:
    _copies(case, copy.deepcopy)


def _by_float(case: Case, what: str, write: Callable[[nn.Module], Callable[..., Any]]) -> None:
    """Write one of the converted models in a way of torch's; Skip where torch cannot write the float model so."""
    models = list(_both(case))
    name, model = models[case.program.seed // 10 % len(models)]
    exact = name == "static" and is_exact(model) and "ONNX" not in what
    with _named(name):
        before = case.results(model)
        try:
            found = case.results(write(model), case.calls[:1])
        except Exception:
            _float_too(case, what, write)
            raise
        with qcore.on_modules():
            right = case.results(model, case.calls[:1])
        # ONNX rounds what lies halfway its own way: qcore promises results within a step of an operator's
        alike(case, right, found, exact, name != "static", noise.ONE_STEP if "ONNX" in what else 0.0)
        _unchanged(case, model, before)


def _float_too(case: Case, what: str, write: Callable[[nn.Module], Callable[..., Any]]) -> None:
    try:
        case.results(write(case.model), case.calls[:1])
    except Exception as error:
        raise Skip(f"the float model cannot be {what} either") from error


def trace(case: Case) -> None:
    if not all(isinstance(each, Tensor) for each in case.calls[0]):
        raise Skip("torch.jit.trace takes tensors alone")

    def write(model: nn.Module) -> Callable[..., Any]:
        return torch.jit.trace(model, copy.deepcopy(case.calls[0]), check_trace=False, strict=False)  # type: ignore[no-any-return]

    _by_float(case, "traced", write)


def export(case: Case) -> None:
    def write(model: nn.Module) -> Callable[..., Any]:
        return torch.export.export(model, copy.deepcopy(case.calls[0])).module()

    _by_float(case, "exported", write)


def dynamo(case: Case) -> None:
    def write(model: nn.Module) -> Callable[..., Any]:
        torch._dynamo.reset()
        return torch.compile(model, backend="eager")  # type: ignore[no-any-return]

    _by_float(case, "compiled by torch", write)


def onnx(case: Case) -> None:
    import onnxruntime

    def write(model: nn.Module) -> Callable[..., Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            if model is case.model:
                torch.onnx.export(model, copy.deepcopy(case.calls[0]), path, dynamo=True, verbose=False)
            else:
                qcore.export_onnx(model, path, copy.deepcopy(case.calls[0]))
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(*call: Any) -> list[Tensor]:
            given = flat(call)
            names = [each.name for each in session.get_inputs()]
            if len(names) != len(given):
                raise Skip("the file takes fewer inputs")
            feeds = {name: each.numpy() for name, each in zip(names, given, strict=True)}
            results = [torch.from_numpy(each) for each in session.run(None, feeds)]
            # a number among the results is an output of the file, and no tensor of the model's
            return [each for each in results if each.ndim or each.dtype is not torch.int64]

        return run

    _by_float(case, "written as ONNX", write)


def digest(case: Case) -> str:
    """A hash of all results of all converted models, for other instruction sets to give too."""
    found = hashlib.sha256()
    for name, model in _both(case):
        found.update(name.encode())
        for results in case.results(model):
            for each in results:
                found.update(
                    each.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if each.numel() else b""
                )
    return found.hexdigest()[:16]


CHECKS: dict[str, Callable[[Case], Any]] = {
    "static": static, "levels": levels, "reference": reference, "eager": eager, "dynamic": dynamic,
    "compiled": compiled, "isa": digest, "qat": qat, "threads": threads, "save": save, "pickle":
    pickled, "deepcopy": deepcopy, "trace": trace, "export": export, "onnx": onnx,
    "dynamo": dynamo,
}  # fmt: skip
SELDOM = {"onnx": 10, "dynamo": 2}
"""Checks that one seed of so many gets."""
QUICK = {
    "reference": 4,
    "qat": 4,
    "threads": 4,
    "save": 4,
    "pickle": 4,
    "deepcopy": 8,
    "trace": 8,
    "export": 16,
    "onnx": 10,
    "dynamo": 16,
}
"""The same where time is short."""


def wanted(seed: int, only: tuple[str, ...] = (), quick: bool = False) -> list[str]:
    """The checks that a seed gets."""
    seldom = QUICK if quick else SELDOM
    numbers = {name: number for number, name in enumerate(CHECKS)}
    found = [name for name in CHECKS if name == "onnx" or (seed + numbers[name]) % seldom.get(name, 1) == 0]
    if seed % seldom["onnx"] and "onnx" in found:
        found.remove("onnx")
    return [name for name in CHECKS if name in only] if only else found


@functools.cache
def quiet() -> None:
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
