"""Networks with the adapter of da Silva et al. 2025: cut, pruned, clustered, rounded, exported."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from shrinkproof import compress
from shrinkproof.compressors.layers import is_depthwise
from shrinkproof.models.upsampled_source import Upsampled

LAYERS = "full-conv+linear"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return Upsampled().build("mobilenet_v2", 10, {}).eval()


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 32, 32, generator=generator), torch.arange(4)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_channels_are_removed_up_to_the_adapter(network, images):
    small = compress(network, [{"prune.channels": {"ratio": 0.3}}], example=images[0][:1])
    assert parameters(small.module) < 0.7 * parameters(network)
    assert small.module.hidden.out_features < 1024
    assert small.module.fc.out_features == 10
    with torch.inference_mode():
        assert small.module(images[0][:2]).shape == (2, 10)


def depthwise_and_others(network: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return (
        [m.weight for m in layers if is_depthwise(m)],
        [m.weight for m in layers if not is_depthwise(m)],
    )


def test_pruning_leaves_depthwise_kernels_alone(network, images):
    step = {"prune.weights": {"ratio": 0.5, "scope": "layer", "layers": LAYERS}}
    small = compress(network, [step], example=images[0][:1])
    depthwise, others = depthwise_and_others(small.module)
    assert len(depthwise) == 17
    assert all(bool(w.all()) for w in depthwise)
    assert all(float((w == 0).float().mean()) == pytest.approx(0.5, abs=1e-3) for w in others)


@pytest.mark.slow
def test_clustering_leaves_depthwise_kernels_alone(network, images):
    step = {"cluster": {"levels": 16, "layers": LAYERS}}
    small = compress(network, ["fold", step], example=images[0][:1])
    depthwise, others = depthwise_and_others(small.module)
    assert all(len(w.unique()) > 16 for w in depthwise)
    assert all(len(w.unique()) <= 16 for w in others)


@pytest.mark.slow
@pytest.mark.long
def test_a_small_one_with_integers_answers_as_its_file(network, images, tmp_path: Path):
    steps = [
        {"prune.channels": {"ratio": 0.5}},
        "fold",
        {"quantize.qat": {"finetune": {"epochs": 1, "learning_rate": 0.001, "batch": 2}}},
    ]
    small = compress(network, steps, example=images[0][:1], calibration=images, training=images)
    small.save(tmp_path / "small")
    file = tmp_path / "small" / "model.onnx"
    assert file.stat().st_size < 0.3 * 4 * parameters(network)
    session = onnxruntime.InferenceSession(file)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images[0].numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(logits), small.module(images[0]), rtol=1e-3, atol=1e-6
        )
