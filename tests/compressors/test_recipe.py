from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.constraint import bake, constraints_of
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.recalibrate import Recalibration
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.protocols import Needs, Role
from shrinkproof.records import Change

FULL = Recipe(
    (
        WeightPruning(ratio=0.6, layers="conv+linear"),
        FineTuning(epochs=1, batch=16),
        Recalibration(batch=16),
        Clustering(levels=6, minimum_size=16),
        FineTuning(epochs=1, batch=16),
    )
)


class Sabotage:
    """A step that overwrites what others made."""

    name: ClassVar[str] = "sabotage"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS
    needs = Needs.NOTHING

    def __init__(self, edit):
        self.edit = edit

    def apply(self, model, context):
        return self.edit(model) or model, Change(step=self.name, version=1)

    def restore(self, model, change):
        return model


def test_everything_survives_the_full_recipe(small_net, toy_context):
    model, changes = FULL.apply(small_net, toy_context)
    pruned, _ = Recipe(FULL.steps[:1]).apply(small_net, toy_context)
    assert [c.step for c in changes] == [s.name for s in FULL.steps]
    for name in ("stem", "depthwise", "mix", "head"):
        weight = model.get_submodule(name).weight
        gone = pruned.get_submodule(name).weight == 0
        assert (weight[gone] == 0).all()
        entry = changes[3].layers[f"{name}.weight"]
        assert entry["zero_pinned"] == bool(gone.any())
        assert len(torch.unique(weight)) <= entry["levels"] <= 6
    assert not torch.equal(model.norm.weight, small_net.norm.weight)


def test_baked_keys_equal_the_original_in_order(small_net, toy_context):
    model, _ = FULL.apply(small_net, toy_context)
    assert list(model.state_dict()) == list(small_net.state_dict())
    assert not any(m.training for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert [type(m) for m in model.modules()] == [type(m) for m in small_net.modules()]


def test_caller_keeps_an_untouched_model(small_net, toy_context):
    small_net.train()
    small_net.head.eval()
    small_net.stem.weight.grad = torch.ones_like(small_net.stem.weight)
    state = {k: v.clone() for k, v in small_net.state_dict().items()}
    FULL.apply(small_net, toy_context)
    after = small_net.state_dict()
    assert all(torch.equal(state[k], after[k]) for k in state)
    assert small_net.training
    assert small_net.norm.training
    assert not small_net.head.training
    assert torch.equal(small_net.stem.weight.grad, torch.ones_like(small_net.stem.weight))
    assert not constraints_of(small_net.stem)


def test_training_flag_of_the_caller_changes_nothing(small_net, toy_context):
    one, _ = FULL.apply(small_net.eval(), toy_context)
    two, _ = FULL.apply(small_net.train(), toy_context)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_restored_model_gives_equal_outputs(small_net, toy_context, toy_feed):
    model, changes = FULL.apply(small_net, toy_context)
    stored = [Change.from_json(c.as_json()) for c in changes]
    fresh = type(small_net)()
    restored = Recipe().restore(fresh, stored)
    assert restored is not fresh
    restored.load_state_dict(model.state_dict(), strict=True)
    inputs, _ = next(toy_feed.batches(20))
    assert torch.equal(restored(inputs), model(inputs))


def test_needs_and_schedule():
    assert FULL.needs == Needs.TRAINING | Needs.CALIBRATION
    assert [s["name"] for s in FULL.schedule()] == ["finetune", "recalibrate", "finetune"]
    assert Recipe((Recipe(FULL.steps[:2]), Recalibration())).steps[:2] == FULL.steps[:2]
    assert Recipe().needs == Needs.NOTHING


def test_repeated_training_draws_new_numbers_and_control_draws_the_same(toy_context, small_net):
    seen = []

    def spy(*parts):
        seen.append(parts)
        return toy_context.stream(*parts)

    context = replace(toy_context, stream=spy)
    tune = FineTuning(epochs=1, batch=16)
    Recipe((WeightPruning(ratio=0.5), tune, tune)).apply(small_net, context)
    pruned, seen = seen, []
    Recipe((tune, tune)).apply(small_net, context)
    assert pruned == seen
    assert len(set(seen)) == len(seen)


def test_missing_data_names_step_and_split(small_net, toy_context):
    context = replace(toy_context, calibration=None)
    with pytest.raises(CompressionError, match=r"step 3 \(recalibrate\).*'calibrate'"):
        FULL.apply(small_net, context)
    context = replace(toy_context, training=None)
    with pytest.raises(CompressionError, match=r"step 2 \(finetune\).*'train'.*data\.train"):
        FULL.apply(small_net, context)


def test_model_without_layers_is_refused(toy_context):
    with pytest.raises(CompressionError, match=r"prune\.weights.*got none in Sequential"):
        Recipe((WeightPruning(ratio=0.5),)).apply(nn.Sequential(nn.ReLU()), toy_context)


def test_model_without_convolutions_is_refused(toy_context):
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(CompressionError, match=r"at least one convolution.*fully connected"):
        Recipe((WeightPruning(ratio=0.5),)).apply(model, toy_context)


def test_empty_recipe_is_the_identity(small_net, toy_context):
    model, changes = Recipe().apply(small_net, toy_context)
    assert changes == ()
    assert model is not small_net
    assert torch.equal(model.mix.weight, small_net.mix.weight)


def lose_zeros(model):
    bake(model)
    with torch.no_grad():
        model.mix.weight += 1


def lose_levels(model):
    bake(model)
    with torch.no_grad():
        model.mix.weight *= torch.linspace(1, 2, 16).view(-1, 1, 1, 1)


def lose_layer(model):
    del model.mix


@pytest.mark.parametrize(
    ("made", "edit", "message"),
    [
        (WeightPruning(ratio=0.5), lose_zeros, r"mix\.weight must keep its \d+ zeros, got 0"),
        (Clustering(levels=4), lose_levels, "mix.weight must keep at most 4 distinct values"),
        (WeightPruning(ratio=0.5), lose_layer, "must keep the layer mix"),
    ],
    ids=["zeros", "levels", "layer"],
)
def test_destroyed_property_names_step_and_layer(small_net, toy_context, made, edit, message):
    with pytest.raises(CompressionError, match=rf"step 2 \(sabotage\).*{message}"):
        Recipe((made, Sabotage(edit))).apply(small_net, toy_context)


def test_uncopyable_model_is_a_model_error(small_net, toy_context):
    small_net.cache = small_net.mix.weight * 2
    with pytest.raises(ModelError, match="SmallNet: must be copyable"):
        Recipe().apply(small_net, toy_context)


def test_change_of_another_version_is_refused(small_net):
    change = Change(step="prune.weights", version=99, fields={"ratio": 0.5})
    with pytest.raises(ModelError, match="version 99"):
        Recipe().restore(small_net, [change])


def test_damaged_change_is_refused(small_net):
    change = Change(step="prune.weights", version=1, fields={"ratio": "x"})
    with pytest.raises(ModelError, match="fields of the change"):
        Recipe().restore(small_net, [change])
