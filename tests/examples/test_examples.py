"""Each example runs, and its quantized models are about as good as its float one."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("sklearn", reason="the examples train on scikit-learn's data sets")


@pytest.mark.parametrize("name", ["mobilenet_qat", "attention", "recommender"])
def test_accuracy_stays_near_that_of_floats(name, capsys):
    found = importlib.import_module(f"examples.{name}").main(quick=True)
    capsys.readouterr()
    assert len(found) > 1
    assert all(accuracy > found["float"] - 0.08 for accuracy in found.values()), found
    as_graphs = {label: accuracy for label, accuracy in found.items() if "as a graph" in label}
    assert bool(as_graphs) is (name == "mobilenet_qat")
    for label, accuracy in as_graphs.items():
        assert accuracy > found[label.replace(" as a graph", "")] - 0.02, found


def test_bits_for_each_character_stay_near_those_of_floats(capsys):
    found = importlib.import_module("examples.lstm_text").main(quick=True)
    capsys.readouterr()
    assert len(found) > 1
    assert all(bits < found["float"] + 0.05 for bits in found.values()), found
