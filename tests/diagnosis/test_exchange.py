"""Layers exchanged between networks, against other ways to get the same network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from shrinkproof import compress, sensitivity
from shrinkproof.diagnosis.exchange import (
    cuts_of,
    effects,
    has_same_shape,
    in_same_form,
    logits_of,
    weighted,
    with_zeros_of,
)
from shrinkproof.models.cifar import resnet

from ..compress_builder import EXAMPLE, pair

CHANNELS = {"prune.channels": {"ratio": 0.5, "iterations": 1}}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = resnet(8, 4, shortcut="project", num_classes=4).eval()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.5, 0.5)
                layer.running_var.uniform_(0.5, 2.0)
                layer.bias.data.uniform_(-0.3, 0.3)
    return model


def test_all_layers_exchanged_make_the_other_network(network: nn.Module) -> None:
    compressed = compress(network, [{"cluster": {"levels": 4}}], example=EXAMPLE).module
    batches = [pair()]
    reference = logits_of(network, batches)
    parts = weighted(compressed)
    assert all(has_same_shape(layer, parts[name]) for name, layer in weighted(network).items())
    found = effects(network, {"all": parts}, reference, batches)["all"]
    whole = effects(compressed, {"": {}}, reference, batches)[""]
    assert found == whole
    assert found is not None
    assert found.divergence > 0


def test_one_layer_exchanged_is_one_layer_compressed_alone(network: nn.Module) -> None:
    step = {"cluster": {"levels": 4}}
    compressed = compress(network, [step], example=EXAMPLE).module
    batches = [pair()]
    trials = {name: {name: layer} for name, layer in weighted(compressed).items()}
    found = effects(network, trials, logits_of(network, batches), batches)
    rows = sensitivity(network, step, example=EXAMPLE, images=pair())
    measured = [row for row in rows if row.divergence is not None]
    assert len(measured) > 3
    for row in measured:
        effect = found[row.layer]
        assert effect is not None
        assert effect.divergence == pytest.approx(row.divergence, rel=1e-4, abs=1e-9)
        assert effect.agreement == row.agreement


def test_networks_that_cannot_be_traced_are_swapped_and_put_back(network: nn.Module) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = copy.deepcopy(network)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) if bool(x.abs().sum() >= 0) else x

    branching, batches = Branching().eval(), [pair(), pair()]
    reference = logits_of(network, batches)
    zeroed = copy.deepcopy(network.conv1)
    nn.init.zeros_(zeroed.weight)
    trials = {"zero": {"inner.conv1": zeroed}, "as it is": {}}
    found = effects(branching, trials, reference, batches)
    expected = effects(network, {"zero": {"conv1": zeroed}}, reference, batches)
    assert found["zero"] == expected["zero"]
    assert found["as it is"] is not None
    assert found["as it is"].agreement == 1.0


def test_a_folded_candidate_is_compared_with_a_folded_baseline(network: nn.Module) -> None:
    folded = compress(network, ["fold"], example=EXAMPLE).module
    reference = in_same_form(network, folded)
    assert all(
        has_same_shape(layer, weighted(folded)[name]) for name, layer in weighted(reference).items()
    )
    inputs, _ = pair()
    with torch.no_grad():
        torch.testing.assert_close(reference(inputs), network(inputs), rtol=1e-3, atol=1e-4)
    assert in_same_form(network, copy.deepcopy(network)) is network


def test_zeros_are_laid_over_the_weights_and_nothing_else(network: nn.Module) -> None:
    pruned = compress(network, [{"prune.weights": {"ratio": 0.5}}], example=EXAMPLE).module
    layer, other = network.conv1, copy.deepcopy(pruned.conv1)
    other.weight.data *= 3.0
    masked = with_zeros_of(layer, other)
    kept = other.weight != 0
    assert torch.equal(masked.weight[kept], layer.weight[kept])
    assert not masked.weight[~kept].any()
    assert network.conv1.weight.all(), "the network itself is not edited"


@pytest.mark.parametrize(
    "steps", [[CHANNELS], [CHANNELS, CHANNELS], ["fold", CHANNELS]], ids=["once", "twice", "folded"]
)
def test_cut_channels_as_zeros_answer_as_the_cut_network_does(
    network: nn.Module, steps: list[Any]
) -> None:
    done = compress(network, steps, example=EXAMPLE)
    cuts = list(cuts_of(network, [change.structure for change in done.changes]))
    assert ("conv1", "layer1.0.conv2") in [cut.layers for cut in cuts]
    sizes = {cut.layers[0]: (cut.kept, cut.size) for cut in cuts}
    before, after = weighted(network), weighted(done.module)
    assert sizes == {
        name: (after[name].weight.shape[0], before[name].weight.shape[0]) for name in sizes
    }
    assert all(0 < cut.kept < cut.size for cut in cuts)
    together = copy.deepcopy(network)
    for cut in cuts:
        for name, part in cut.parts.items():
            for own, zeroed in zip(
                together.get_submodule(name).parameters(), part.parameters(), strict=True
            ):
                own.data *= (zeroed == own) | (zeroed != 0)
    inputs, _ = pair()
    with torch.no_grad():
        torch.testing.assert_close(together(inputs), done.module(inputs), rtol=1e-3, atol=1e-4)
