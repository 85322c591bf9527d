"""What holds for every quantized module: copies, pickles and state dicts compute the same, and bad inputs are named."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

import qcore
from tests.nn.every_module import SAMPLES, tensors

pytestmark = pytest.mark.parametrize("name", SAMPLES)


@pytest.fixture
def sample(name):
    torch.manual_seed(0)
    made = SAMPLES[name]
    module = made.build()
    inputs = made.inputs()
    return module, inputs, tensors(module(*inputs))


def same(module, inputs, expected):
    found = tensors(module(*inputs))
    return len(found) == len(expected) and all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_deepcopy_and_pickle_keep_results_and_backend(sample):
    module, inputs, expected = sample
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert same(twin, inputs, expected)
        assert twin.backend == "reference"
        assert twin.qcore_path == "some.path"


def test_what_inference_mode_built_takes_inputs_that_need_gradients(sample, name):
    _, inputs, expected = sample
    torch.manual_seed(0)
    with torch.inference_mode():
        module = SAMPLES[name].build()
        module(*inputs)
    inputs = [x.requires_grad_() if type(x) is torch.Tensor and x.is_floating_point() else x for x in inputs]
    assert same(module, inputs, expected)
    assert not any(result.requires_grad for result in tensors(module(*inputs)))


def test_writes_to_buffers_and_new_buffers_are_noticed(sample):
    module, inputs, _ = sample
    for replace in (False, True):
        for part in module.modules():
            for key, buffer in part._buffers.items():
                if buffer is not None and buffer.dim():
                    flipped = buffer.flip(0)
                    part._buffers[key] = flipped if replace else buffer.copy_(flipped)
        assert same(module, inputs, tensors(copy.deepcopy(module)(*inputs)))


def test_no_kernel_is_pickled(sample):
    module, _, _ = sample
    assert module.__getstate__()["_kernel"] is None


def test_state_dict_goes_through_a_safe_file_into_a_fresh_module(sample, name):
    module, inputs, expected = sample
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    torch.manual_seed(1)
    fresh = SAMPLES[name].build()
    fresh(*inputs)  # binds a kernel, which loading must forget
    fresh.backend = None
    assert str(fresh.load_state_dict(state)) == "<All keys matched successfully>"
    assert same(fresh, inputs, expected)
    assert fresh.backend == "reference"


def test_missing_and_unexpected_keys_are_reported(sample, name):
    module, _, _ = sample
    state = module.state_dict()
    if state:
        state.popitem()
        with pytest.raises(RuntimeError, match="Missing key"):
            module.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        module.load_state_dict({**module.state_dict(), "nonsense": torch.zeros(1)})


def test_float_casts_leave_it_alone(sample):
    module, inputs, expected = sample
    if not [buffer for key, buffer in module.named_buffers() if key in ("weight", "running_mean")]:
        assert same(module.half().double(), inputs, expected)


def test_repr_names_the_class(sample):
    module, _, _ = sample
    assert type(module).__name__ in repr(module)


_LINEAR = ("Linear", "LinearReLU")
_ANY = ("Quantize", "DeQuantize", "Embedding", "EmbeddingBag")


def test_wrong_kind_of_input_is_refused_with_the_path(sample, name):
    module, inputs, _ = sample
    kind, static = type(module).__name__, name.startswith("static")
    if kind in _ANY or not (static or kind in _LINEAR):
        pytest.skip("takes indices, recurrent input, or both kinds of tensors")
    other = torch.randn(2, 5) if static else qcore.quantize_per_tensor(inputs[0], 0.1, 0, qcore.quint8)
    with pytest.raises(qcore.QuantizationError, match=r"some\.path"):
        module(other)


def _with_size(dim, change):
    """Tensors with a dimension that is empty, or longer by one; numbers and None as they are."""

    def changed(x):
        if not isinstance(x, torch.Tensor) or x.ndim <= dim:
            return x
        raw = x.raw if isinstance(x, qcore.QTensor) else x
        raw = raw.narrow(dim, 0, 0) if change == "empty" else torch.cat([raw, raw.narrow(dim, 0, 1)], dim)
        return qcore.QTensor(raw.contiguous(), x.qparams) if isinstance(x, qcore.QTensor) else raw

    return changed


ODD = {f"{change} {dim}": _with_size(dim, change) for dim in (0, 1, 2) for change in ("empty", "longer")} | {
    "no dimension": lambda x: x.reshape(-1)[:1].reshape(()),
    "six dimensions": lambda x: x[(None,) * (6 - x.ndim)],
}


@pytest.mark.parametrize("backend", ["reference", None])
def test_odd_sizes_are_computed_or_refused_with_the_path(sample, backend):
    module, inputs, _ = sample
    module.backend = backend
    for change in ODD.values():
        try:
            module(*map(change, inputs))
        except qcore.QcoreError as error:
            assert "some.path" in str(error)
