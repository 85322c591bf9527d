"""torchvision.models.quantization: nets quantized by torchvision's own code, at a low resolution."""

import torch

from tests.vision_models import torchvision_models


def _models():
    torchvision_models()
    import torchvision.models.quantization as models

    return models


def _outputs(model, size=64):
    torch.manual_seed(1)  # as many numbers were drawn as torch's own quantized layers draw for weights
    result = model(torch.rand(2, 3, size, size))
    return {"logits": result, "keys": sorted(model.state_dict())}


def mobilenet_v2():
    return _outputs(_models().mobilenet_v2(weights=None, quantize=True, num_classes=10))


def shufflenet_v2():
    return _outputs(_models().shufflenet_v2_x0_5(weights=None, quantize=True, num_classes=10))


def resnet18():
    return _outputs(_models().resnet18(weights=None, quantize=True, num_classes=10))
