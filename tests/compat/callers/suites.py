"""Numeric suite, equalization and bias correction."""

import copy

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = torch.quantization.QuantStub(), torch.quantization.DeQuantStub()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(8 * 36, 5)

    def forward(self, x):
        return self.dequant(self.fc(self.relu(self.conv(self.quant(x))).flatten(1)))


def _pair():
    model = Net().eval()
    model.qconfig = torch.quantization.default_qconfig
    x = torch.randn(4, 3, 8, 8)
    prepared = torch.quantization.prepare(model)
    prepared(x)
    return model, torch.quantization.convert(prepared), x


def weights():
    """Weights of both models, by key, and how far they are apart."""
    import torch.ao.ns._numeric_suite as ns
    from torch.ao.ns.fx.utils import compute_cosine_similarity, compute_normalized_l2_error, compute_sqnr

    model, quantized, _ = _pair()
    found = ns.compare_weights(model.state_dict(), quantized.state_dict())
    results = {f"{key} {side}": torch.dequantize(value) for key, pair in found.items() for side, value in pair.items()}
    a, b = results["conv.weight float"], results["conv.weight quantized"]
    errors = [
        float(measure(a, b)) for measure in (compute_sqnr, compute_normalized_l2_error, compute_cosine_similarity)
    ]
    return {**results, "keys": sorted(found), "close:errors": torch.tensor(errors)}


def outputs():
    """Outputs of both models, layer by layer."""
    import torch.quantization._numeric_suite as ns

    model, quantized, x = _pair()
    found = ns.compare_model_outputs(model, quantized, x)
    found.pop("dequant.stats", None)  # torch observes nothing there
    results = {"keys": sorted(found)}
    for key, pair in found.items():
        for side, values in pair.items():
            results[f"{key} {side}"] = torch.dequantize(values[0])
    return results


def shadows():
    """Quantized layers beside float ones on the same inputs."""
    import torch.ao.ns._numeric_suite as ns

    model, quantized, x = _pair()
    found = ns.compare_model_stub(model, quantized, [nn.Linear, nn.Conv2d], x)
    results = {"keys": sorted(found)}
    for key, pair in found.items():
        for side, values in pair.items():
            # torch's logger keeps only the first sample of a batch
            results[f"close:{key} {side}"] = torch.dequantize(values[0]).flatten()[:5]
    return results


def equalize():
    """Ranges of channels balanced between two layers; the function computed stays."""
    from torch.ao.quantization._equalize import equalize as balance

    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        model[0].weight[2] *= 40
    x = torch.randn(5, 4)
    before = model(x)
    balanced = balance(copy.deepcopy(model), [["0", "2"]], 1e-4)
    ranges = (
        balanced[0].weight.amax(1) - balanced[0].weight.amin(1),
        balanced[2].weight.amax(0) - balanced[2].weight.amin(0),
    )
    torch.testing.assert_close(ranges[0], ranges[1])
    torch.testing.assert_close(balanced(x), before, rtol=1e-4, atol=1e-5)
    return {"close:weight": balanced[0].weight.detach(), "close:second": balanced[2].weight.detach()}


def correct_bias():
    """Biases take the mean error that the weights cause."""
    from torch.ao.quantization._correct_bias import bias_correction

    model, quantized, x = _pair()
    bias_correction(model, quantized, [(x, 0), (x.flip(0), 0)], {torch.nn.quantized.Linear, torch.nn.quantized.Conv2d})
    layers = [getattr(layer, "orig_module", layer) for layer in (quantized.fc, quantized.conv)]  # torch leaves shadows
    return {"close:fc": layers[0].bias().detach(), "close:conv": layers[1].bias().detach()}
