"""Clustering, fine-tuning and recalibration on a small network."""

import pydantic
import pytest
import torch
from torch import nn

from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.recalibrate import Recalibration
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError
from shrinkproof.registry import fields_of


@pytest.mark.parametrize("start", ["density", "linear", "kmeans++"])
def test_clustering_keeps_at_most_k_values(small_net, toy_context, start):
    step = Clustering(levels=4, initialization=start)
    model, (change,) = Recipe((step,)).apply(small_net, toy_context)
    for name, entry in change.layers.items():
        weight = model.get_parameter(name)
        assert len(torch.unique(weight)) == entry["levels"] == 4
        gap = (weight - small_net.get_parameter(name)).detach()
        assert entry["mse"] == pytest.approx(float((gap**2).mean()), rel=1e-5)
        assert not entry["zero_pinned"]
    assert "fewer than the minimum_size of 64" in change.untouched["head"]
    assert change.achieved["levels"] == 4


def test_zeros_without_a_mask_are_kept_too(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.weight[::2] = 0
    model, (change,) = Recipe((Clustering(levels=4),)).apply(small_net, toy_context)
    assert (model.mix.weight[::2] == 0).all()
    assert change.layers["mix.weight"]["zero_pinned"]


def test_few_values_are_kept_exactly(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.weight.sign_()
    model, (change,) = Recipe((Clustering(levels=16),)).apply(small_net, toy_context)
    assert torch.equal(model.mix.weight, small_net.mix.weight)
    assert change.layers["mix.weight"]["levels"] == 2
    assert change.layers["mix.weight"]["mse"] == 0


def test_zeros_may_be_given_up_on_purpose_only(small_net, toy_context):
    steps = (WeightPruning(ratio=0.5), Clustering(levels=3, keep_zeros=False))
    model, (_, change) = Recipe(steps).apply(small_net, toy_context)
    assert not change.layers["mix.weight"]["zero_pinned"]
    assert (model.mix.weight != 0).any()


def test_second_clustering_is_refused(small_net, toy_context):
    with pytest.raises(CompressionError, match="stem must not be clustered"):
        Recipe((Clustering(levels=4), Clustering(levels=8))).apply(small_net, toy_context)


def test_levels_are_trained(small_net, toy_context):
    tune = FineTuning(epochs=2, batch=16, learning_rate=0.05)
    before, _ = Recipe((Clustering(levels=4),)).apply(small_net, toy_context)
    after, _ = Recipe((Clustering(levels=4), tune)).apply(small_net, toy_context)
    one, two = before.mix.weight.flatten(), after.mix.weight.flatten()
    assert not torch.equal(one, two)
    # The same weights still share a value.
    for value in torch.unique(one):
        assert len(torch.unique(two[one == value])) == 1


def test_finetuning_learns_notes_and_repeats_itself(small_net, toy_context):
    from dataclasses import replace

    notes = []
    context = replace(toy_context, note=notes.append)
    step = FineTuning(epochs=8, batch=15, learning_rate=0.05, augment=("crop", "flip"))
    model, (change,) = Recipe((step,)).apply(small_net, context)
    again, (other,) = Recipe((step,)).apply(small_net, toy_context)
    assert change == other
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    assert [n["epoch"] for n in notes] == list(range(1, 9))
    assert set(notes[0]) == {"epoch", "epochs", "loss", "accuracy"}
    assert notes[-1]["loss"] < notes[0]["loss"]
    assert change.achieved["epochs"] == 8
    assert change.achieved["loss"] == notes[-1]["loss"]


def test_frozen_parameters_stay_as_they_are(small_net, toy_context):
    small_net.stem.weight.requires_grad_(False)
    steps = (Clustering(levels=4), FineTuning(epochs=1, batch=16))
    clustered, _ = Recipe(steps[:1]).apply(small_net, toy_context)
    model, _ = Recipe(steps).apply(small_net, toy_context)
    assert torch.equal(model.stem.weight, clustered.stem.weight)
    assert not torch.equal(model.mix.weight, clustered.mix.weight)


def test_finetuning_settings():
    step = FineTuning(epochs=1, augment=["flip"])
    assert step.augment == ("flip",)
    assert FineTuning(**fields_of(step)) == step
    for wrong in ({"epochs": 1.5}, {"epochs": 0}, {"epochs": 1, "augment": ["rotate"]}):
        with pytest.raises(pydantic.ValidationError):
            FineTuning(**wrong)


def test_recalibration_is_the_average_over_batches(small_net, toy_context, toy_feed):
    model, (change,) = Recipe((Recalibration(batch=30),)).apply(small_net, toy_context)
    maps = [small_net.stem(x).transpose(0, 1).flatten(1) for x, _ in toy_feed.batches(30)]
    mean = torch.stack([m.mean(1) for m in maps]).mean(0)
    variance = torch.stack([m.var(1) for m in maps]).mean(0)
    assert torch.allclose(model.norm.running_mean, mean, atol=1e-6)
    assert torch.allclose(model.norm.running_var, variance, atol=1e-6)
    assert change.achieved == {"layers": 1, "images": 60}
    assert model.norm.momentum == small_net.norm.momentum
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), small_net.parameters(), strict=True)
    )


def test_recalibration_without_batch_norm_is_said(toy_context):
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    _, (change,) = Recipe((Recalibration(),)).apply(model, toy_context)
    assert "no batch normalization" in change.untouched["model"]
    assert change.achieved == {"layers": 0, "images": 0}


def test_recalibration_of_a_broken_model_is_an_error(small_net, toy_context):
    with torch.no_grad():
        small_net.stem.weight[0] = float("inf")
    with pytest.raises(CompressionError, match="NaN or infinity in norm"):
        Recipe((Recalibration(),)).apply(small_net, toy_context)


def test_importing_the_steps_does_not_import_torch():
    import subprocess
    import sys

    code = (
        "import sys; from shrinkproof.compressors import COMPRESSORS; "
        "from shrinkproof.compressors.criteria import CRITERIA; "
        "import shrinkproof.compressors.recipe; "
        "[COMPRESSORS.get(n) for n in "
        "('cluster', 'finetune', 'prune.weights', 'recalibrate')]; "
        "[CRITERIA.get(n) for n in CRITERIA.names()]; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
