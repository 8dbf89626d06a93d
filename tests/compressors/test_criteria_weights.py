"""Taylor scores of single weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.compressors.constraint import Codebook, Mask, constrain, weight_of
from shrinkproof.compressors.criteria import CRITERIA
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError

LAYERS = ("stem", "depthwise", "mix", "head")


def taylor(model, context, layers=LAYERS, **settings):
    return CRITERIA.create("taylor", settings).scores(model, layers, context)


def by_hand(model, context, layers=LAYERS):
    """Gradient of the mean loss over all images in one batch, times weight."""
    inputs, target = next(context.calibration.batches(context.calibration.count))
    loss = context.task.loss(model(inputs), target)
    weights = [model.get_submodule(layer).weight for layer in layers]
    gradients = torch.autograd.grad(loss, weights)
    return {n: (g * w).abs().detach() for n, g, w in zip(layers, gradients, weights, strict=True)}


@pytest.mark.parametrize("batch", [7, 60])
def test_gradient_of_the_mean_loss_times_weight(small_net, toy_context, batch):
    found = taylor(small_net, toy_context, batch=batch)
    for layer, expected in by_hand(small_net, toy_context).items():
        torch.testing.assert_close(found[layer].float(), expected, rtol=1e-4, atol=1e-8)


def test_finite_differences_agree(small_net, toy_context):
    found = taylor(small_net, toy_context)["mix"]
    inputs, target = next(toy_context.calibration.batches(60))
    net = small_net.double()
    position = (3, 5, 0, 0)
    value = net.mix.weight[position].item()
    losses = []
    for factor in (1 - 1e-4, 1 + 1e-4):
        with torch.no_grad():
            net.mix.weight[position] = value * factor
            losses.append(toy_context.task.loss(net(inputs.double()), target).item())
    slope = abs(losses[1] - losses[0]) / 2e-4
    assert float(found[position]) == pytest.approx(slope, rel=1e-3, abs=1e-9)


def test_frozen_weights_have_scores_and_stay_frozen(small_net, toy_context):
    expected = taylor(small_net, toy_context)
    for parameter in small_net.parameters():
        parameter.requires_grad_(False)
    found = taylor(small_net, toy_context)
    assert all(found[layer].equal(expected[layer]) for layer in LAYERS)
    assert not any(p.requires_grad for p in small_net.parameters())


def test_a_masked_weight_has_score_zero_and_the_others_their_own(small_net, toy_context):
    kept = torch.rand(16, 8, 1, 1, generator=torch.Generator().manual_seed(2)) < 0.5
    constrain(small_net.mix, "weight", Mask(kept))
    found = taylor(small_net, toy_context)
    assert not found["mix"][~kept].any()
    assert (found["mix"][kept] > 0).any()
    nn.utils.parametrize.remove_parametrizations(small_net.mix, "weight")
    for layer, expected in by_hand(small_net, toy_context).items():
        torch.testing.assert_close(found[layer].float(), expected, rtol=1e-4, atol=1e-8)


def test_each_weight_of_a_level_has_its_own_score(small_net, toy_context):
    levels = torch.tensor([-0.2, 0.0, 0.3])
    index = torch.randint(0, 3, (16, 8, 1, 1), generator=torch.Generator().manual_seed(1))
    constrain(small_net.mix, "weight", Codebook(levels, index))
    found = taylor(small_net, toy_context)["mix"]
    value = weight_of(small_net.mix)
    nn.utils.parametrize.remove_parametrizations(small_net.mix, "weight")
    small_net.mix.weight.requires_grad_()
    assert small_net.mix.weight.equal(value)
    expected = by_hand(small_net, toy_context)["mix"]
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("is_masked", [False, True])
def test_a_shared_weight_has_the_sum_of_its_gradients(toy_context, is_masked):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.tanh(self.first(x))).mean((2, 3))

    model = Twice().eval()
    expected = by_hand(model, toy_context, ["first"])["first"]
    if is_masked:
        for layer in (model.first, model.second):
            constrain(layer, "weight", Mask(torch.ones(3, 3, 1, 1, dtype=torch.bool)))
    found = taylor(model, toy_context, ["first"])["first"]
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-8)


def test_a_weight_that_the_loss_does_not_depend_on_has_score_zero(small_net, toy_context):
    small_net.unused = nn.Conv2d(3, 3, 1)
    assert not taylor(small_net, toy_context, ("stem", "unused"))["unused"].any()


def test_works_where_gradients_are_switched_off(small_net, toy_context):
    with torch.no_grad():
        assert taylor(small_net, toy_context)["stem"].any()


def test_a_model_without_gradients_is_refused(small_net, toy_context):
    forward = small_net.forward
    small_net.forward = torch.no_grad()(forward)
    with pytest.raises(CompressionError, match="the loss must depend on the weights"):
        taylor(small_net, toy_context)
    assert all(p.requires_grad for p in small_net.parameters())


def test_a_gradient_that_is_not_finite_is_refused(small_net, toy_context):
    with torch.no_grad():
        small_net.head.bias.fill_(torch.nan)
    with pytest.raises(CompressionError, match=r"gradient of stem\.weight must be finite"):
        taylor(small_net, toy_context)


def test_no_calibration_images_is_refused(small_net, toy_context):
    with pytest.raises(CompressionError, match="needs images of the split 'calibrate', got none"):
        taylor(small_net, replace(toy_context, calibration=None))


def test_pruning_by_taylor_takes_the_lowest_products(small_net, toy_context):
    step = WeightPruning(ratio=0.5, scope="layer", criterion="taylor")
    expected = by_hand(small_net, toy_context)["mix"].flatten().numpy()
    pruned, _ = Recipe((step,)).apply(small_net, toy_context)
    gone = (pruned.mix.weight == 0).flatten().numpy()
    assert gone.sum() == 64
    assert np.sort(expected[gone]).max() <= np.sort(expected[~gone]).min() * 1.001
