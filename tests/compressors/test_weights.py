import math

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.compressors.constraint import Codebook, constrain, weight_of
from shrinkproof.compressors.criteria import CRITERIA
from shrinkproof.compressors.lowest import lowest
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError
from shrinkproof.registry import fields_of


def zeros(model, name):
    return (model.get_submodule(name).weight == 0).flatten()


def test_lowest_is_exact_and_stable_by_position():
    scores = np.array([2.0, 1.0, 1.0, 0.5, 1.0])
    assert lowest(scores, 3).tolist() == [False, True, True, True, False]
    assert not lowest(scores, 0).any()
    assert lowest(scores, 5).all()


def test_smallest_weights_of_all_layers_go(toy_context):
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.1, -0.2]).view(2, 1, 1, 1))
        model[1].weight.copy_(torch.tensor([0.3, -4.0, 5.0, -0.05]).view(2, 2, 1, 1))
    pruned, (change,) = Recipe((WeightPruning(ratio=0.5),)).apply(model, toy_context)
    # 3 of 6 go: 0.05, 0.1, and 0.3 because one of the first layer's two weights must stay.
    assert pruned[0].weight.flatten().tolist() == pytest.approx([0.0, -0.2])
    assert pruned[1].weight.flatten().tolist() == [0.0, -4.0, 5.0, 0.0]
    assert change.achieved == {"ratio": 0.5, "sparsity": 0.5}
    assert change.layers == {"0": {"zeros": 1, "size": 2}, "1": {"zeros": 2, "size": 4}}


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("ratio", [0.1, 0.37, 0.9])
def test_count_is_exact(small_net, toy_context, scope, ratio):
    step = WeightPruning(ratio=ratio, scope=scope, layers="conv+linear")
    model, change = step.apply(small_net, toy_context)
    sizes = {n: small_net.get_submodule(n).weight.numel() for n in change.layers}
    counted = {n: int(zeros(model, n).sum()) for n in change.layers}
    assert counted == {n: entry["zeros"] for n, entry in change.layers.items()}
    if scope == "global":
        assert sum(counted.values()) == int(ratio * sum(sizes.values()) + 0.5)
    else:
        assert counted == {n: int(ratio * size + 0.5) for n, size in sizes.items()}
    everything = sum(p.numel() for p in model.parameters())
    assert change.achieved["sparsity"] >= sum(counted.values()) / everything


def test_floor_keeps_part_of_a_tiny_valued_layer(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.weight.mul_(1e-6)
    model, change = WeightPruning(ratio=0.5, floor=0.1).apply(small_net, toy_context)
    size = change.layers["mix"]["size"]
    assert size - change.layers["mix"]["zeros"] == 13  # ceil(0.1 * 128)
    assert int((model.mix.weight != 0).sum()) == 13


@settings(max_examples=25, deadline=None)
@given(
    low=st.floats(0.05, 0.9),
    more=st.floats(0.001, 0.5),
    scope=st.sampled_from(["global", "layer"]),
    criterion=st.sampled_from(["magnitude", "random"]),
    floor=st.sampled_from([0.0, 0.02, 0.3]),
)
def test_masks_nest_with_growing_ratio(low, more, scope, criterion, floor):
    from shrinkproof.protocols import Context
    from shrinkproof.randomness import stream
    from shrinkproof.tasks import Classification

    context = Context(
        task=Classification(), example=torch.zeros(1, 3, 8, 8), device="cpu", stream=stream
    )
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1), nn.Conv2d(5, 1, 1))
    for p in net.parameters():
        # Coarse values make many ties.
        p.data = torch.randint(-4, 5, p.shape, generator=generator).float()
    masks = []
    top = 1 - floor - 1e-3
    for ratio in (min(low, top), min(low + more, top)):
        step = WeightPruning(ratio=ratio, scope=scope, criterion=criterion, floor=floor)
        model, _ = Recipe((step,)).apply(net, context)
        masks.append(
            torch.cat(
                [
                    (m.weight == 0).flatten() & (n.weight != 0).flatten()
                    for m, n in zip(model, net, strict=True)
                ]
            )
        )
    assert not (masks[0] & ~masks[1]).any()


def test_iterative_pruning_never_revives_a_zero(small_net, toy_context):
    first = WeightPruning(ratio=0.6, criterion="random")
    second = WeightPruning(ratio=0.8)
    once, _ = Recipe((first,)).apply(small_net, toy_context)
    twice, changes = Recipe((first, second)).apply(small_net, toy_context)
    for name in ("stem", "depthwise", "mix"):
        assert not (zeros(once, name) & ~zeros(twice, name)).any()
    assert changes[1].achieved["ratio"] == pytest.approx(0.8, abs=0.01)


def test_count_is_exact_where_an_earlier_pruning_went_below_the_floor(small_net, toy_context):
    steps = (
        WeightPruning(ratio=0.9, floor=0.0, include=("mix",)),
        WeightPruning(ratio=0.4, floor=0.5),
    )
    _, (_, change) = Recipe(steps).apply(small_net, toy_context)
    layers = dict(change.layers)
    assert layers["mix"] == {"zeros": 115, "size": 128}  # 0.9 * 128, far below the floor
    size = sum(entry["size"] for entry in layers.values())
    zeros = sum(entry["zeros"] for entry in layers.values())
    assert zeros == max(115, math.floor(0.4 * size + 0.5)) > 115


def test_linear_is_left_alone_and_said_so(small_net, toy_context):
    model, change = WeightPruning(ratio=0.5).apply(small_net, toy_context)
    assert "fully connected" in change.untouched["head"]
    assert not zeros(model, "head").any()


def test_shared_weight_is_pruned_once_everywhere(toy_context):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    model[1].weight = model[0].weight
    pruned, (change,) = Recipe((WeightPruning(ratio=0.5),)).apply(model, toy_context)
    assert list(change.layers) == ["0"]
    assert "shares its weight with 0" in change.untouched["1"]
    assert pruned[1].weight is pruned[0].weight
    assert int((pruned[1].weight == 0).sum()) == 8


def test_frozen_weights_can_be_pruned_and_stay_frozen(small_net, toy_context):
    small_net.stem.weight.requires_grad_(False)
    model, _ = Recipe((WeightPruning(ratio=0.5),)).apply(small_net, toy_context)
    assert not model.stem.weight.requires_grad
    assert model.mix.weight.requires_grad


def test_random_depends_on_the_stream_only(small_net, toy_context):
    step = WeightPruning(ratio=0.5, criterion="random")
    one, _ = Recipe((step,)).apply(small_net, toy_context)
    two, _ = Recipe((step,)).apply(small_net, toy_context)
    assert torch.equal(one.mix.weight, two.mix.weight)


def test_old_pruning_hooks_are_named(small_net, toy_context):
    from torch.nn.utils import prune

    prune.l1_unstructured(small_net.mix, "weight", 0.5)
    _, change = WeightPruning(ratio=0.5).apply(small_net, toy_context)
    assert "computed from other tensors" in change.untouched["mix"]


def test_after_a_codebook_it_is_refused(small_net, toy_context):
    weight = weight_of(small_net.mix)
    book = Codebook(torch.tensor([1.0]), torch.zeros(weight.shape, dtype=torch.int64))
    constrain(small_net.mix, "weight", book)
    with pytest.raises(CompressionError, match=r"mix must not be clustered.*before the cluster"):
        WeightPruning(ratio=0.5).apply(small_net, toy_context)


def test_broken_weights_are_named(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.weight[0, 0] = float("nan")
    with pytest.raises(CompressionError, match=r"weights of mix must be finite.*1 times of 128"):
        WeightPruning(ratio=0.5).apply(small_net, toy_context)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ratio": 30.0}, "less than 1"),
        ({"ratio": 0.0}, "greater than 0"),
        ({"ratio": 0.99}, r"at most 0\.98"),
        ({"ratio": 0.5, "criterion": "magnitud"}, "did you mean 'magnitude'"),
        ({"ratio": 0.5, "criterium": "x"}, "[Uu]nexpected"),
    ],
    ids=["percent", "zero", "floor", "criterion", "unknown"],
)
def test_wrong_settings_are_refused(fields, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        WeightPruning(**fields)


def test_settings_round_trip():
    step = WeightPruning(ratio=0.25, criterion="random")
    assert WeightPruning(**fields_of(step)) == step


@pytest.mark.parametrize("name", CRITERIA.names())
def test_criteria_score_every_weight(name, toy_context):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    scores = CRITERIA.create(name).scores(model, ["0"], toy_context)["0"]
    assert scores.shape == (3, 3, 1, 1)
    if name == "magnitude":
        assert torch.equal(scores, model[0].weight.detach().abs())
