"""torchvision.models.quantization: nets quantized by torchvision's own code, at a low resolution."""

import torch

from tests.vision_models import torchvision_models


def _models():
    torchvision_models()
    import torchvision.models.quantization as models

    return models


def _outputs(name, size=96, scripted=False):
    model = getattr(_models(), name)(weights=None, quantize=True, num_classes=10)
    torch.manual_seed(1)  # as many numbers were drawn as torch's own quantized layers draw for weights
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        found = {"logits": model(images), "keys": sorted(model.state_dict())}
        if scripted:
            found["scripted"] = torch.jit.script(model)(images)
    return found


def mobilenet_v2():
    return _outputs("mobilenet_v2", scripted=True)


def mobilenet_v3():
    """It is converted before calibration, for a state dict that would be loaded then."""
    return _outputs("mobilenet_v3_large")


def shufflenet_v2():
    return _outputs("shufflenet_v2_x0_5")


def resnet18():
    return _outputs("resnet18", scripted=True)


def resnet50():
    return _outputs("resnet50")


def googlenet():
    return _outputs("googlenet")


def inception_v3():
    return _outputs("inception_v3", 128)


def trained():
    """torchvision's reference training of quantized models, in short: fuse, prepare, steps, freeze, convert."""
    import torch.ao.quantization as quantization

    model = _models().resnet18(weights=None, quantize=False, num_classes=10)
    model.fuse_model(is_qat=True)
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(model.train(), inplace=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    torch.manual_seed(1)
    losses = []
    for step in range(3):
        if step == 2:
            model.apply(quantization.disable_observer)
            model.apply(torch.ao.nn.intrinsic.qat.freeze_bn_stats)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.rand(4, 3, 64, 64)), torch.arange(4))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    converted = quantization.convert(model.eval(), inplace=False)
    torch.manual_seed(2)  # torch's own quantized layers draw numbers for weights
    logits = converted(torch.rand(2, 3, 64, 64))
    return {"losses": torch.stack(losses), "logits": logits, "keys": sorted(converted.state_dict())}
