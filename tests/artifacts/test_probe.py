"""The probe measures the real file of a model and leaves the model as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.probe import FileProbe
from shrinkproof.compressors.constraint import Mask, constrain
from shrinkproof.protocols import Probe


def network(width):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 4),
    ).eval()


EXAMPLE = torch.zeros(2, 3, 32, 32)


def test_bytes_are_those_of_the_exported_file(tmp_path):
    model = network(16)
    probe: Probe = FileProbe(network(64), EXAMPLE)
    assert probe.bytes(model, ()) == export_onnx(model, EXAMPLE, tmp_path / "model.onnx").bytes


@pytest.mark.slow
def test_a_smaller_network_is_faster_than_its_original():
    probe = FileProbe(network(96), EXAMPLE)
    assert probe.latency(network(8), ()) < 0.6
    assert 0.4 < probe.latency(network(96), ()) < 2.5


@pytest.mark.slow
def test_the_original_is_exported_once(monkeypatch):
    probe = FileProbe(network(8), EXAMPLE)
    probe.latency(network(4), ())
    monkeypatch.setattr(probe, "_original", None)
    assert probe.latency(network(4), ()) > 0


@pytest.mark.parametrize("is_training", [False, True])
def test_a_model_keeps_its_constraints_and_its_mode(is_training):
    model = network(8).train(is_training)
    constrain(model[0], "weight", Mask(torch.ones_like(model[0].weight, dtype=torch.bool)))
    before = copy.deepcopy(model.state_dict())
    FileProbe(network(8), EXAMPLE).bytes(model, ())
    assert parametrize.is_parametrized(model[0], "weight")
    assert model.training is is_training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
