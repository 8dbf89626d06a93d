"""Clustering, fine-tuning and recalibration on a small network."""

from dataclasses import replace

import pydantic
import pytest
import torch
from torch import nn

from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.recalibrate import Recalibration
from shrinkproof.compressors.recipe import Recipe, recovery_of
from shrinkproof.compressors.reinitialize import Reinitialization
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.protocols import Needs
from shrinkproof.registry import fields_of
from shrinkproof.training.settings import Distillation, Training


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
    with pytest.raises(CompressionError, match="weights must be clustered once"):
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
    assert set(notes[0]) == {"epoch", "epochs", "loss", "accuracy", "seconds", "seconds_left"}
    assert notes[-1]["loss"] < notes[0]["loss"]
    assert change.achieved["epochs"] == 8
    assert change.achieved["loss"] == notes[-1]["loss"]


def test_finetuning_tells_which_epoch_was_kept(small_net, toy_context, toy_feed):
    step = FineTuning(epochs=40, batch=16, learning_rate=0.5, schedule="constant", patience=2)
    assert step.needs == Needs.TRAINING | Needs.VALIDATION
    context = replace(toy_context, validation=toy_feed)
    _, (change,) = Recipe((step,)).apply(small_net, context)
    assert change.requested == {"epochs": 40}
    assert change.achieved["stopped_early"] == (change.achieved["epochs"] < 40)
    assert change.achieved["kept_epoch"] <= change.achieved["epochs"]
    with pytest.raises(CompressionError, match=r"'select', got none; add data\.select"):
        Recipe((step,)).apply(small_net, toy_context)


def test_recipe_gives_the_uncompressed_model_as_teacher(small_net, toy_context):
    tune = FineTuning(epochs=10, batch=16, learning_rate=0.05)
    original, _ = Recipe((tune,)).apply(small_net, toy_context)
    inputs, _ = next(toy_context.training.batches(60))
    expected = torch.softmax(original(inputs), 1).detach()

    def distance(*steps):
        model, _ = Recipe((WeightPruning(ratio=0.7), *steps)).apply(original, toy_context)
        return (torch.softmax(model(inputs), 1) - expected).abs().mean()

    alone = Distillation(weight=1.0, temperature=1.0)
    assert distance(replace(tune, distill=alone)) < 0.5 * distance()


def test_recipe_with_two_trainings_goes_on_after_a_kill(small_net, toy_context, tmp_path):
    tune = FineTuning(epochs=2, batch=16)
    recipe = Recipe((WeightPruning(ratio=0.5), tune, Clustering(levels=4), tune))
    whole, changes = recipe.apply(small_net, toy_context)
    notes = []

    class KilledError(Exception):
        pass

    def dying(values):
        notes.append(values)
        if len(notes) == 3:
            raise KilledError

    context = replace(toy_context, scratch=tmp_path, note=dying)
    with pytest.raises(KilledError):
        recipe.apply(small_net, context)
    assert [p.name for p in tmp_path.iterdir()] == ["2-finetune"]
    notes.clear()
    again, same = recipe.apply(small_net, replace(context, note=notes.append))
    assert [("seconds_left" in n) for n in notes] == [False, False, True, True]
    assert same == changes
    expected = whole.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in again.state_dict().items())


def test_reinitialization_draws_everything_anew(small_net, toy_context):
    with torch.no_grad():
        small_net.norm.running_mean.fill_(7.0)
    state = torch.random.get_rng_state()
    model, (change,) = Recipe((Reinitialization(),)).apply(small_net, toy_context)
    assert torch.equal(state, torch.random.get_rng_state())
    for name in ("stem.weight", "mix.weight", "mix.bias", "head.weight", "head.bias"):
        assert (model.get_parameter(name) != small_net.get_parameter(name)).all(), name
    assert (model.norm.weight == 1).all()
    assert (model.norm.running_mean == 0).all()
    # The default of torch: uniform, within 1 / sqrt(inputs of a unit).
    assert float(model.head.weight.detach().abs().max()) <= 16**-0.5
    total = sum(p.numel() for p in small_net.parameters())
    assert change.achieved == {"layers": 5, "parameters": total}


def test_reinitialization_repeats_itself_by_layer(small_net, toy_context):
    import copy

    one, _ = Recipe((Reinitialization(),)).apply(small_net, toy_context)
    wider = copy.deepcopy(small_net)
    wider.mix = nn.Conv2d(8, 32, 1)
    wider.head = nn.Linear(32, 3)
    two, _ = Recipe((Reinitialization(),)).apply(wider, toy_context)
    assert torch.equal(one.stem.weight, two.stem.weight)


def test_reinitialization_keeps_masks(small_net, toy_context):
    steps = (WeightPruning(ratio=0.6), Reinitialization(), FineTuning(epochs=1, batch=16))
    pruned, _ = Recipe(steps[:1]).apply(small_net, toy_context)
    for recipe in (Recipe(steps[:2]), Recipe(steps)):
        model, _ = recipe.apply(small_net, toy_context)
        assert torch.equal(model.mix.weight == 0, pruned.mix.weight == 0)
        assert not torch.equal(model.mix.weight, pruned.mix.weight)


def test_reinitialization_of_shared_and_frozen_weights(toy_context):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    drawn, changes = Recipe((WeightPruning(ratio=0.5), Reinitialization())).apply(
        model, toy_context
    )
    assert drawn[1].weight is drawn[0].weight
    assert int((drawn[1].weight == 0).sum()) == int((drawn[0].weight == 0).sum())
    kept = drawn[2].weight != 0
    assert torch.equal(drawn[2].weight[kept], model[2].weight[kept])
    assert not torch.equal(drawn[2].bias, model[2].bias)
    assert changes[1].untouched == {"2.weight": "frozen"}


def test_reinitialization_works_on_a_folded_graph(small_net, toy_context):
    from shrinkproof.compressors.fold import Fold

    folded, _ = Recipe((Fold(),)).apply(small_net, toy_context)
    model, _ = Recipe((Fold(), Reinitialization())).apply(small_net, toy_context)
    assert model.state_dict().keys() == folded.state_dict().keys()
    assert not torch.equal(model.get_parameter("stem.bias"), folded.get_parameter("stem.bias"))


def test_reinitialization_names_what_it_cannot_draw(small_net, toy_context):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small_net
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.inner(x) * self.scale

    with pytest.raises(ModelError, match=r"got none for scale \(Scaled\)"):
        Recipe((Reinitialization(),)).apply(Scaled(), toy_context)
    with pytest.raises(CompressionError, match="put `reinitialize` before `cluster`"):
        Recipe((Clustering(levels=4), Reinitialization())).apply(small_net, toy_context)
    small_net.requires_grad_(False)
    with pytest.raises(CompressionError, match="at least one parameter must not be frozen"):
        Recipe((Reinitialization(),)).apply(small_net, toy_context)


def test_training_from_scratch_is_its_own_control():
    assert recovery_of(Reinitialization()) == (Reinitialization(),)


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
    assert FineTuning.of(Training(epochs=1, augment=["flip"])) == step
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
        "('cluster', 'finetune', 'prune.weights', 'recalibrate', 'reinitialize')]; "
        "[CRITERIA.get(n) for n in CRITERIA.names()]; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
