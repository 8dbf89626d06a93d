"""Published networks, half of their channels gone: they run, and their sizes are as computed."""

import copy

import pytest
import torch

from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.models.cifar_source import NETWORKS
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import Classification
from shrinkproof.torchvision_ops import ensure

pytestmark = pytest.mark.long

VGG16_LAYERS = ["features.conv1", *(f"features.conv{k}" for k in range(8, 14))]
"""Convolutions 1 and 8 to 13 (Li et al. 2017, arXiv:1608.08710, table 2)."""

HALVED = {
    "resnet56": 428_074,
    "resnet110": 866_554,
}
"""Parameters when all inner channels of the blocks are halved, from the table of layers."""


def cifar(name):
    import importlib

    place = NETWORKS[name]
    module, function = place.place.split(":")
    build = getattr(importlib.import_module(module), function)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(num_classes=10, **place.settings).eval()


def prune(model, side, **fields):
    """Return the pruned copy and its account, for images of ``side`` pixels."""
    context = Context(
        task=Classification(),
        example=torch.zeros(1, 3, side, side),
        device=torch.device("cpu"),
        stream=stream,
    )
    step = ChannelPruning(**{"ratio": 0.5, "scope": "layer", **fields})
    pruned, change = step.apply(copy.deepcopy(model), context)
    return pruned, change, step


def check(model, side, **fields):
    """Prune, rebuild without data, and return the account."""
    pruned, change, step = prune(model, side, **fields)
    restored = step.restore(copy.deepcopy(model), change).eval()
    restored.load_state_dict(pruned.state_dict(), strict=True)
    inputs = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, got = (_tensors(m(inputs)) for m in (pruned, restored))
    assert len(expected) == len(got) > 0
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert change.achieved["difference"] < 1e-5
    assert change.achieved["params"] == sum(p.numel() for p in pruned.parameters())
    return change


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in _tensors(part)]


@pytest.mark.parametrize("name", HALVED)
def test_inner_channels_of_the_published_resnets(name):
    fields = {"include": ["layer*.conv1"], "round_to": 1}
    assert check(cifar(name), 32, **fields).achieved["params"] == HALVED[name]


def test_filter_pruning_of_vgg16():
    change = check(cifar("vgg16_bn"), 32, include=VGG16_LAYERS)
    narrower = {n for n, e in change.layers.items() if e["channels"][1] < 512}
    assert change.layers["features.conv1"]["channels"] == [64, 32]
    assert all(change.layers[f"features.conv{k}"]["channels"] == [512, 256] for k in range(8, 14))
    assert "features.conv7" not in narrower
    # Rethinking's target widths at 50 %: about 64 % of the parameters go (computed from widths).
    assert change.achieved["params_ratio"] == pytest.approx(0.36, abs=0.01)


SMALL = ("vgg19_bn", "resnet20b", "preresnet110", "preresnet164", "densenet40_12", "mobilenetv2")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_half_of_the_channels_of_small_networks(name, scope):
    change = check(cifar(name), 32, scope=scope, round_to=2)
    assert change.achieved["ratio"] == pytest.approx(0.5, abs=0.04)
    assert change.achieved["macs_ratio"] < 0.5


@pytest.fixture
def torchvision():
    if ensure().mode == "absent":
        pytest.skip("torchvision cannot be imported here")
    return pytest.importorskip("torchvision")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("resnet50", 0.271, 0.257),
        ("vgg16_bn", 0.257, 0.251),
        ("mobilenet_v2", 0.349, 0.289),
        ("densenet121", 0.285, 0.260),
    ],
)
def test_half_of_the_channels_of_large_networks(torchvision, name, params, macs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
    change = check(model, 224)
    assert list(change.untouched.values()) == ["reaches the model's output"]
    assert change.achieved["ratio"] == pytest.approx(0.5, abs=0.001)
    assert change.achieved["params_ratio"] == pytest.approx(params, abs=0.001)
    assert change.achieved["macs_ratio"] == pytest.approx(macs, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("ssdlite320_mobilenet_v3_large", 320),
        pytest.param("ssd300_vgg16", 300, marks=pytest.mark.long),
        pytest.param("retinanet_resnet50_fpn", 224, marks=pytest.mark.long),
        pytest.param("fcos_resnet50_fpn", 224, marks=pytest.mark.long),
    ],
)
def test_detectors_lose_channels_of_backbone_and_heads(torchvision, name, side):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build = getattr(torchvision.models.detection, name)
        model = build(weights=None, weights_backbone=None).eval()
    change = check(model, side)
    assert change.achieved["params_ratio"] < 0.5
    assert any(layer.startswith("backbone") for layer in change.layers)
    assert any(layer.startswith("head") for layer in change.layers)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("convnext_tiny", 64), ("vit_b_16", 224)])
def test_hidden_units_of_networks_with_channels_on_the_last_axis(torchvision, name, side):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
    change = check(model, side)
    assert change.achieved["ratio"] == pytest.approx(0.5, abs=0.001)
