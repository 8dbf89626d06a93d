"""Weight-only quantization: formats by hand, what is preserved, what is refused, restoring."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.constraint import (
    FakeQuantWeight,
    ShortFloat,
    bake,
    constrain,
    weight_of,
    weight_scale,
)
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weight_only import BITS, WeightQuantization
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.protocols import Needs
from shrinkproof.records import Change

FORMATS = tuple(BITS)
INTEGERS = {"int8": 127, "int4": 7}


def step(name, **fields):
    return COMPRESSORS.create(name, fields)


def apply(model, context, *steps):
    return Recipe(steps=steps).apply(model, context)


def images(count=6, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def rounded(values, kind):
    layer = nn.Linear(values.shape[1], values.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(values)
    if kind in INTEGERS:
        scale = weight_scale(layer.weight.detach(), bits=BITS[kind], per_tensor=False)
        constrain(layer, "weight", FakeQuantWeight(scale, bits=BITS[kind]))
    else:
        constrain(layer, "weight", ShortFloat(getattr(torch, kind)))
    return layer


def test_formats_by_hand():
    values = torch.tensor([[7.0, -1.4, 2.5, 0.0], [1 / 3, 1e-9, -0.0, 1 + 2**-9]])
    four = weight_of(rounded(values, "int4"))
    assert four[0].tolist() == [7.0, -1.0, 2.0, 0.0]
    assert weight_of(rounded(values, "float16"))[1].tolist() == [0.333251953125, 0, 0, 1 + 2**-9]
    bf16 = weight_of(rounded(values, "bfloat16"))[1]
    assert bf16[0] == 0.333984375
    assert bf16[1] == pytest.approx(1e-9, rel=2**-8)
    assert bf16[3] == 1.0
    assert not torch.signbit(bf16[2])


@given(st.integers(0, 10**6), st.sampled_from(FORMATS), st.floats(-12, 3))
@settings(max_examples=80, deadline=None)
def test_error_is_at_most_half_a_step_and_zeros_stay(seed, kind, size):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10**size, (3, 5)).astype(np.float32)
    values[rng.random((3, 5)) < 0.3] = 0
    values = torch.from_numpy(values)
    got = weight_of(rounded(values, kind))
    if kind in INTEGERS:
        half = weight_scale(values, bits=BITS[kind], per_tensor=False).view(-1, 1) / 2
    else:
        finfo = torch.finfo(getattr(torch, kind))
        half = values.abs() * finfo.eps / 2 + finfo.smallest_normal * finfo.eps / 2
    assert bool(((got - values).abs() <= half * (1 + 1e-5)).all())
    assert bool((got[values == 0] == 0).all())


@given(st.integers(0, 10**6), st.sampled_from(FORMATS))
@settings(max_examples=40, deadline=None)
def test_rounding_twice_changes_nothing_more(seed, kind):
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    once = weight_of(rounded(values, kind))
    torch.testing.assert_close(weight_of(rounded(once, kind)), once, rtol=1e-6, atol=0)
    if kind in INTEGERS:
        layer = rounded(values, kind)
        with torch.no_grad():
            layer.parametrizations["weight"].original.copy_(once)
        assert torch.equal(weight_of(layer), once)


@pytest.mark.parametrize("kind", FORMATS)
def test_gradient_passes_unchanged(kind):
    layer = rounded(torch.tensor([[1.0, 0.3], [-0.2, 0.5]]), kind)
    gradient = torch.tensor([[1e-9, 2.0], [3.0, 1 / 3]])
    (layer.weight * gradient).sum().backward()
    assert torch.equal(layer.parametrizations["weight"].original.grad, gradient)


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_are_exact_in_the_format_and_the_rest_is_untouched(small_net, toy_context, kind):
    module, (change,) = apply(small_net, toy_context, step("quantize.weights", format=kind))
    state, before = module.state_dict(), small_net.state_dict()
    treated = ["stem.weight", "depthwise.weight", "mix.weight", "head.weight"]
    assert list(change.layers) == treated
    for name in treated:
        weight = state[name]
        assert weight.dtype == torch.float32
        if kind in INTEGERS:
            scale = state[f"{name}_scale"].view(-1, *[1] * (weight.ndim - 1))
            integers = (weight / scale).round()
            assert torch.equal(integers * scale, weight)
            assert int(integers.abs().max()) == INTEGERS[kind]
        else:
            assert torch.equal(weight.to(getattr(torch, kind)).float(), weight)
        mse = float((weight - before[name]).square().mean())
        assert change.layers[name]["mse"] == pytest.approx(mse, rel=1e-4)
    others = [n for n in before if n not in treated]
    assert all(torch.equal(state[n], before[n]) for n in others)
    assert change.achieved["arithmetic"] == "float32"
    assert change.achieved["weight_bits"] == BITS[kind]
    expected, got = small_net(images()), module(images())
    limit = {"int4": 0.5, "int8": 0.03, "float16": 2e-3, "bfloat16": 2e-2}[kind]
    assert 0 < (got - expected).abs().max() < limit * expected.abs().max()


def test_scope_and_patterns(small_net, toy_context):
    recipe = step("quantize.weights", layers="conv", exclude=["stem"])
    _, (change,) = apply(small_net, toy_context, recipe)
    assert list(change.layers) == ["depthwise.weight", "mix.weight"]
    assert "fully connected" in change.untouched["head"]
    assert "not selected" in change.untouched["stem"]
    with pytest.raises(CompressionError, match="'nothing', which matches none"):
        apply(small_net, toy_context, step("quantize.weights", include=["nothing"]))


@pytest.mark.parametrize("kind", FORMATS)
def test_pruned_zeros_survive(small_net, toy_context, kind):
    prune = step("prune.weights", ratio=0.5)
    masked, _ = apply(small_net, toy_context, prune)
    module, _ = apply(small_net, toy_context, prune, step("quantize.weights", format=kind))
    for name in ("stem", "depthwise", "mix"):
        zeros = masked.get_submodule(name).weight == 0
        assert bool(zeros.any())
        assert bool((module.get_submodule(name).weight[zeros] == 0).all())


@pytest.mark.parametrize("kind", FORMATS)
def test_levels_stay_as_few_as_they_were(small_net, toy_context, kind):
    recipe = (step("cluster", levels=6), step("quantize.weights", format=kind))
    module, (clustered, change) = apply(small_net, toy_context, *recipe)
    for name in clustered.layers:
        assert module.state_dict()[name].unique().numel() <= 6
        if kind in INTEGERS:
            assert change.layers[name]["scales"] == 1


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("before", [[], ["prune"], ["prune", "cluster"], ["fold"]], ids="+".join)
def test_restored_model_is_bit_equal(small_net, toy_context, kind, before):
    known = {
        "prune": step("prune.weights", ratio=0.5),
        "fold": step("fold"),
        "cluster": step("cluster", levels=8),
    }
    steps = [*(known[name] for name in before), step("quantize.weights", format=kind)]
    module, changes = apply(small_net, toy_context, *steps)
    stored = tuple(Change.from_json(change.as_json()) for change in changes)
    fresh = Recipe().restore(type(small_net)(), stored)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(fresh(images()), module(images()))


@pytest.mark.parametrize("kind", FORMATS)
def test_training_keeps_the_format(small_net, toy_context, kind):
    recipe = (
        step("quantize.weights", format=kind),
        step("finetune", epochs=1, learning_rate=0.05, batch=20),
    )
    start, _ = apply(small_net, toy_context, recipe[0])
    module, _ = apply(small_net, toy_context, *recipe)
    state = module.state_dict()
    assert not torch.equal(state["mix.weight"], start.state_dict()["mix.weight"])
    weight = state["mix.weight"]
    if kind in INTEGERS:
        scale = state["mix.weight_scale"].view(-1, 1, 1, 1)
        assert torch.equal((weight / scale).round() * scale, weight)
    else:
        assert torch.equal(weight.to(getattr(torch, kind)).float(), weight)


def test_shared_weight_is_rounded_once(toy_context):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.one = nn.Conv2d(4, 4, 3, padding=1)
            self.two = nn.Conv2d(4, 4, 3, padding=1)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(torch.relu(self.one(torch.relu(self.conv(x))))).mean((2, 3))

    torch.manual_seed(0)
    module, changes = apply(Tied().eval(), toy_context, step("quantize.weights", format="int4"))
    assert list(changes[0].layers) == ["conv.weight", "one.weight"]
    assert module.two.weight is module.one.weight
    fresh = Recipe().restore(Tied(), changes)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(fresh(images()), module(images()))


def test_transposed_convolution_has_one_scale(toy_context):
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.Flatten(), nn.LazyLinear(3))
    model(images())
    _, (change,) = apply(model.eval(), toy_context, step("quantize.weights"))
    assert change.layers["0.weight"]["scales"] == 1
    assert change.layers["2.weight"]["scales"] == 3


def in_turn(model, context, *steps):
    """Apply steps without the checks of a recipe."""
    model = copy.deepcopy(model)
    for one in steps:
        model, _ = one.apply(model, context)
    return model


@pytest.mark.parametrize("first", ["int8", "float16"])
def test_second_quantization_is_refused(small_net, toy_context, first):
    weights, static = step("quantize.weights", format=first), step("quantize.static")
    with pytest.raises(CompressionError, match=r"quantize\.weights: weight of .*quantized once"):
        in_turn(small_net, toy_context, weights, step("quantize.weights", format="int4"))
    with pytest.raises(CompressionError, match=r"quantize\.static: weight of .*quantized once"):
        in_turn(small_net, toy_context, step("fold"), weights, static)
    with pytest.raises(CompressionError, match=r"quantize\.weights: weight of .*quantized once"):
        in_turn(small_net, toy_context, static, weights)


def test_baked_integers_are_not_quantized_again(small_net, toy_context):
    module, _ = WeightQuantization().apply(copy.deepcopy(small_net), toy_context)
    bake(module)
    with pytest.raises(CompressionError, match="has a scale already"):
        WeightQuantization().apply(module, toy_context)


def test_folding_afterwards_is_refused(small_net, toy_context):
    with pytest.raises(CompressionError, match="put `fold` first"):
        in_turn(small_net, toy_context, step("quantize.weights", format="float16"), step("fold"))


def test_numbers_that_do_not_fit_are_named(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.weight[0] = 1e5
    with pytest.raises(CompressionError, match=r"'mix' must be at most 65504 .* use bfloat16"):
        apply(small_net, toy_context, step("quantize.weights", format="float16"))
    apply(small_net, toy_context, step("quantize.weights", format="bfloat16"))
    with torch.no_grad():
        small_net.mix.weight[0] = float("nan")
    with pytest.raises(CompressionError, match="weight of 'mix' must be finite"):
        apply(small_net, toy_context, step("quantize.weights"))


def test_other_network_cannot_be_restored(small_net, toy_context):
    _, changes = apply(small_net, toy_context, step("quantize.weights"))
    with pytest.raises(ModelError, match="without the layer 'stem'"):
        Recipe().restore(nn.Sequential(nn.Conv2d(3, 4, 3)), changes)


def test_nothing_but_the_model_is_needed():
    assert WeightQuantization().needs is Needs.NOTHING
