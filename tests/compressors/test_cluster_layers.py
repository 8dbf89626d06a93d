"""Which layers are clustered, and what of it survives training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.constraint import Codebook, constraints_of
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError
from shrinkproof.testing.toys import tiny_context, tiny_model


def distinct(model, name):
    return len(torch.unique(model.get_parameter(name).detach()))


@pytest.mark.parametrize(("levels", "start"), [(5, "density"), (16, "linear"), (256, "kmeans++")])
def test_levels_and_zeros_survive_training(small_net, toy_context, levels, start):
    steps = (
        WeightPruning(ratio=0.5, layers="conv+linear"),
        Clustering(levels=levels, initialization=start, minimum_size=1),
        FineTuning(epochs=3, batch=16, learning_rate=0.1),
    )
    pruned, _ = Recipe(steps[:1]).apply(small_net, toy_context)
    before, _ = Recipe(steps[:2]).apply(small_net, toy_context)
    after, changes = Recipe(steps).apply(small_net, toy_context)
    for name, entry in changes[1].layers.items():
        assert entry["zero_pinned"]
        assert distinct(after, name) <= entry["levels"] <= levels
        zeros = pruned.get_parameter(name) == 0
        assert zeros.any()
        assert (after.get_parameter(name)[zeros] == 0).all()
        assert not torch.signbit(after.get_parameter(name)[zeros]).any()
        assert not torch.equal(after.get_parameter(name), before.get_parameter(name))


def test_gradient_of_a_level_is_the_sum_over_its_weights(small_net, toy_context):
    model, _ = Clustering(levels=4).apply(small_net, toy_context)
    (codebook,) = constraints_of(model.mix)
    assert isinstance(codebook, Codebook)
    assert codebook.index.dtype == torch.uint8
    factors = torch.arange(128.0).reshape(16, 8, 1, 1)
    (model.mix.weight * factors).sum().backward()
    expected = [float(factors[codebook.index == level].sum()) for level in range(4)]
    assert codebook.levels.grad.tolist() == expected


def test_patterns_select_layers(small_net, toy_context):
    step = Clustering(levels=4, include=("stem", "m*"), exclude=("stem",))
    model, (change,) = Recipe((step,)).apply(small_net, toy_context)
    assert list(change.layers) == ["mix.weight"]
    assert change.untouched["stem"] == "not selected by include and exclude"
    assert change.untouched["depthwise"] == "not selected by include and exclude"
    assert torch.equal(model.stem.weight, small_net.stem.weight)
    assert distinct(model, "mix.weight") == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"include": ("stam",)}, "each pattern must match a layer, got 'stam'"),
        ({"layers": "conv", "exclude": ("head",)}, "each pattern must match a layer, got 'head'"),
        ({"include": ("stem",), "exclude": ("*",)}, "at least one layer must be left"),
    ],
)
def test_pattern_without_a_layer_is_refused(small_net, toy_context, fields, message):
    with pytest.raises(CompressionError, match=message):
        Recipe((Clustering(levels=4, **fields),)).apply(small_net, toy_context)


@pytest.mark.parametrize("start", ["density", "linear", "kmeans++"])
def test_same_stream_gives_the_same_levels(small_net, toy_context, start):
    step = Clustering(levels=6, initialization=start)
    one, _ = Recipe((step,)).apply(small_net, toy_context)
    two, _ = Recipe((step,)).apply(small_net, replace(toy_context))
    for (_, first), (_, second) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert torch.equal(first, second)


@settings(max_examples=25, deadline=None)
@given(levels=st.integers(2, 256), zeros=st.booleans(), seed=st.integers(0, 99))
def test_at_most_k_values_and_never_worse_than_one(levels, zeros, seed):
    model = tiny_model(seed=seed)
    if zeros:
        with torch.no_grad():
            model[4].weight[:, ::2] = 0
    before = model[4].weight.detach().clone()
    step = Clustering(levels=levels, minimum_size=1)
    clustered, (change,) = Recipe((step,)).apply(model, tiny_context())
    after = clustered[4].weight.detach()
    assert len(torch.unique(after)) <= levels
    assert (after[before == 0] == 0).all()
    assert change.layers["4.weight"]["mse"] <= float(before.var(correction=0)) * (1 + 1e-6) or zeros
