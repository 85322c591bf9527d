"""torchvision.models.quantization: every family, quantized by torchvision's own code, at a low resolution."""

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


def resnet50():
    return _outputs(_models().resnet50(weights=None, quantize=True, num_classes=10))


def resnext():
    """The class behind resnext101_32x8d and resnext101_64x4d, with fewer blocks."""
    resnet = _models().resnet
    model = resnet.QuantizableResNet(resnet.QuantizableBottleneck, [1, 1, 1, 1], groups=32, width_per_group=4)
    resnet.quantize_model(model.eval(), "fbgemm")
    return _outputs(model)


def googlenet():
    model = _models().googlenet(weights=None, quantize=True, num_classes=10, aux_logits=False, init_weights=False)
    return _outputs(model)


def inception_v3():
    model = _models().inception_v3(weights=None, quantize=True, num_classes=10, aux_logits=False, init_weights=False)
    return _outputs(model, 96)


def _trained(model, size=32):
    model.train()
    model.fuse_model(is_qat=True)
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    torch.ao.quantization.prepare_qat(model, inplace=True)
    keys = sorted(model.state_dict())
    x = torch.rand(2, 3, size, size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    quantized = torch.ao.quantization.convert(model.eval())
    return {
        "loss": float(loss.detach()),
        "logits": quantized(x),
        "prepared": keys,
        "keys": sorted(quantized.state_dict()),
    }


def mobilenet_v3_training():
    """mobilenet_v3_large has no post-training form of its own: torchvision trains it."""
    return _trained(_models().mobilenet_v3_large(weights=None, quantize=False, num_classes=10))


def resnet18_training():
    return _trained(_models().resnet18(weights=None, quantize=False, num_classes=10))
