"""Every kind of compression on one-stage detectors: pyramids, shared heads, joined outputs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.layers import NOT_SELECTED
from shrinkproof.compressors.quantize import QUANTIZERS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError
from shrinkproof.models.torchvision_detectors import build
from shrinkproof.records import Change

from ..one_stage_builder import DETECTORS, awake, context_of, images

TUNE = {"epochs": 1, "learning_rate": 1e-3, "batch": 8}
PREDICTIONS = {
    "fcos": ("cls_logits", "bbox_reg", "bbox_ctrness"),
    "retina": ("cls_logits", "bbox_reg"),
    "retina groups": ("cls_logits", "bbox_reg"),
    "ssd": ("module_list.0", "module_list.1"),
}


@pytest.fixture(scope="module", params=DETECTORS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def detector(name):
    return DETECTORS[name]()


@pytest.fixture(scope="module")
def retina():
    return DETECTORS["retina"]()


def apply(module, *steps):
    recipe = Recipe(steps=tuple(COMPRESSORS.create(step, fields) for step, fields in steps))
    return recipe.apply(module, context_of(module))


def run(module):
    with torch.no_grad():
        return module(images().inputs[:2])


def assert_restored(module, changes, compressed):
    """Build it again without data, from what is stored, and compare."""
    stored = tuple(Change.from_json(change.as_json()) for change in changes)
    fresh = Recipe().restore(module, stored)
    fresh.load_state_dict(compressed.state_dict(), strict=True)
    assert torch.equal(run(fresh), run(compressed))


def predicts(layer, name):
    return layer.startswith("head.") and layer.endswith(PREDICTIONS[name])


def test_channels_leave_the_pyramid_and_the_outputs_stay(name, detector):
    compressed, (change,) = apply(detector, ("prune.channels", {"ratio": 0.3, "round_to": 2}))
    # The step has compared the cut network with the one whose channels are only silent.
    assert change.achieved["difference"] < 1e-5
    assert change.achieved["params"] < sum(p.numel() for p in detector.parameters())
    assert run(compressed).shape == run(detector).shape
    for layer, module in detector.named_modules():
        if isinstance(module, nn.Conv2d) and predicts(layer, name):
            assert compressed.get_submodule(layer).out_channels == module.out_channels
    narrower = {
        n for n, entry in change.layers.items() if entry["channels"][1] < entry["channels"][0]
    }
    assert any("backbone" in layer for layer in narrower)
    found = detector.decode(run(compressed).numpy())
    assert all(len(one.score) for one in found)
    assert_restored(detector, [change], compressed)


def test_channels_that_a_pyramid_adds_go_together(retina):
    settings = {"ratio": 0.25, "include": ["backbone.fpn.*", "head.*.conv.*"], "round_to": 1}
    compressed, _ = apply(retina, ("prune.channels", settings))
    fpn = compressed.get_submodule("backbone.fpn")
    # Both lateral layers meet in the addition; both maps go into one head, used twice.
    assert fpn.inner_blocks[0][0].out_channels == fpn.inner_blocks[1][0].out_channels < 32
    widths = {block[0].out_channels for block in fpn.layer_blocks}
    first = {
        compressed.get_submodule(f"head.{branch}_head.conv.0.0").in_channels
        for branch in ("classification", "regression")
    }
    assert widths == first
    assert max(widths) < 32


@pytest.mark.parametrize("grouped", ["fcos", "retina groups"])
def test_channels_before_group_normalization_stay_and_the_change_says_why(grouped):
    detector = DETECTORS[grouped]()
    _, (change,) = apply(detector, ("prune.channels", {"ratio": 0.3, "round_to": 2}))
    towers = [n for n in change.untouched if ".conv." in n]
    assert towers
    for layer in towers:
        assert "native_group_norm" in change.untouched[layer]
        assert "makes every channel depend on all others" in change.untouched[layer]
    with pytest.raises(CompressionError, match="group_norm"):
        apply(detector, ("prune.channels", {"ratio": 0.3, "include": [towers[0]]}))


@pytest.mark.slow
def test_rank_criterion_and_training_with_the_detectors_own_loss(retina):
    steps = (
        ("prune.channels", {"ratio": 0.25, "round_to": 2, "criterion": "hrank"}),
        ("finetune", {**TUNE, "epochs": 3}),
    )
    compressed, changes = apply(retina, *steps)
    feed = images()
    with torch.no_grad():
        cut, _ = apply(retina, steps[0])
        losses = [retina.loss(m(feed.inputs), feed.target) for m in (cut, compressed)]
    assert losses[1] < losses[0]
    assert changes[1].achieved["loss"] > 0
    assert_restored(retina, changes, compressed)


def test_zeros_levels_and_folding(retina):
    steps = (
        ("prune.weights", {"ratio": 0.5}),
        ("recalibrate", {"batch": 8}),
        ("fold", {}),
        ("cluster", {"levels": 16}),
    )
    compressed, changes = apply(retina, *steps)
    weight = compressed.get_submodule("backbone.stem.0").weight
    assert len(weight.unique()) <= 17
    assert (weight == 0).any()
    assert changes[2].achieved["folded"] == 3
    assert_restored(retina, changes, compressed)


def test_integers_everywhere_but_in_the_outputs(name, detector):
    compressed, (change,) = apply(detector, ("quantize.static", {}))
    convs = [n for n, m in detector.named_modules() if isinstance(m, nn.Conv2d)]
    assert {f"{layer}.weight" for layer in convs} <= set(change.layers)
    places = [n.removeprefix(f"{QUANTIZERS}.") for n in change.layers if n.startswith(QUANTIZERS)]
    ends = [f"{n.replace('.', '_')}" for n in convs if predicts(n, name)]
    assert ends
    assert not [place for place in places for end in ends if place.startswith(end)]
    assert not [place for place in places if place.startswith("cat")]
    ours, exact = run(compressed), run(detector)
    assert (ours - exact).abs().max() < 0.2 * exact[..., :4].abs().max() + 2
    assert_restored(detector, [change], compressed)


def test_heads_left_out_of_the_integers(detector):
    _, (change,) = apply(detector, ("quantize.static", {"exclude": ["head.*"]}))
    heads = [
        n for n, m in detector.named_modules() if isinstance(m, nn.Conv2d) and n.startswith("head.")
    ]
    assert all(change.untouched[layer] == NOT_SELECTED for layer in heads)
    assert not [layer for layer in change.layers if layer.startswith("head.")]
    with pytest.raises(CompressionError, match=r"must match a layer, got 'neck\.\*'"):
        apply(detector, ("quantize.static", {"exclude": ["neck.*"]}))


@pytest.mark.slow
def test_training_with_integers_learns_from_boxes(retina):
    compressed, changes = apply(retina, ("quantize.qat", {"finetune": TUNE}))
    assert changes[0].achieved["loss"] > 0
    assert_restored(retina, changes, compressed)


def test_the_given_detector_is_not_edited(retina):
    before = copy.deepcopy(retina.state_dict())
    apply(retina, ("prune.channels", {"ratio": 0.3, "round_to": 2}), ("quantize.static", {}))
    after = retina.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[n], after[n]) for n in before)


@pytest.mark.slow
def test_published_network_loses_channels_and_becomes_integers():
    module = awake(build("retinanet_resnet50_fpn", 3, (3, 64, 64)))
    steps = (("prune.channels", {"ratio": 0.3}), ("quantize.static", {}))
    compressed, (cut, grid) = apply(module, *steps)
    assert cut.achieved["difference"] < 1e-4
    assert cut.achieved["params"] < 0.85 * sum(p.numel() for p in module.parameters())
    assert grid.achieved["quantized_layers"] == sum(
        isinstance(m, nn.Conv2d) for m in module.modules()
    )
    assert run(compressed).shape == run(module).shape
    assert_restored(module, [cut, grid], compressed)
