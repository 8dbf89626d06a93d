"""Folding: equal outputs, exact zeros, refusals that name the layer, the same structure again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.constraint import Codebook, Mask, bake, constrain, constraints_of
from shrinkproof.compressors.fold import Fold, fold_batch_norm
from shrinkproof.errors import CompressionError, UnsupportedLayerError


def shaken(model):
    """Give batch norms statistics that are not neutral."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.2, 3.0, generator=generator)
            layer.weight.data.normal_(generator=generator)
            layer.bias.data.normal_(generator=generator)
    return model.eval()


def images(count=6, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def test_one_channel_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=True), nn.BatchNorm2d(1, eps=0.0)).eval()
    with torch.no_grad():
        model[0].weight.fill_(3.0)
        model[0].bias.fill_(1.0)
        model[1].running_mean.fill_(2.0)
        model[1].running_var.fill_(4.0)
        model[1].weight.fill_(10.0)
        model[1].bias.fill_(0.5)
    folded = fold_batch_norm(model)
    # (3 x + 1 - 2) / 2 * 10 + 0.5
    assert folded.get_submodule("0").weight.item() == 15.0
    assert folded.get_submodule("0").bias.item() == -4.5


def test_outputs_stay_and_batch_norms_go(small_net, toy_context):
    shaken(small_net)
    expected = small_net(images())
    folded, change = Fold().apply(copy.deepcopy(small_net), toy_context)
    torch.testing.assert_close(folded(images()), expected, atol=1e-5, rtol=1e-5)
    assert change.layers == {"stem": {"batch_norm": "norm"}}
    assert change.achieved["folded"] == 1
    assert set(folded.state_dict()) == {
        *("stem.weight", "stem.bias", "depthwise.weight", "depthwise.bias"),
        *("mix.weight", "mix.bias", "head.weight", "head.bias"),
    }
    assert not any(layer.training for layer in folded.modules())


def test_linear_layers_are_folded(toy_context):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=False), nn.BatchNorm1d(5))
    shaken(model)
    expected = model(images())
    folded, change = Fold().apply(model, toy_context)
    torch.testing.assert_close(folded(images()), expected, atol=1e-5, rtol=1e-5)
    assert list(change.layers) == ["1"]


def test_masked_zeros_stay_exactly_zero_and_masked(small_net):
    shaken(small_net)
    mask = torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(3)) > 0.5
    constrain(small_net.stem, "weight", Mask(mask))
    expected = small_net(images())
    folded = fold_batch_norm(copy.deepcopy(small_net))
    layer = folded.get_submodule("stem")
    torch.testing.assert_close(folded(images()), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(layer.weight == 0, ~mask)
    assert [type(rule) for rule in constraints_of(layer, "weight")] == [Mask]
    assert torch.equal(small_net(images()), expected)
    bake(folded)
    assert torch.equal(layer.weight == 0, ~mask)


def test_codebook_before_folding_is_refused(small_net):
    levels = torch.linspace(-1, 1, 16)
    index = torch.randint(0, 16, small_net.stem.weight.shape)
    constrain(small_net.stem, "weight", Codebook(levels, index))
    with pytest.raises(
        CompressionError, match=r"'stem' holds a 16-level codebook .* put `fold` before `cluster`"
    ):
        fold_batch_norm(small_net)


def test_batch_norm_that_cannot_be_folded_is_reported(toy_context):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.BatchNorm2d(3)
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.after = nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(self.first(x))
            return (self.after(y) + y).mean((2, 3))

    model = shaken(Odd())
    expected = model(images())
    folded, change = Fold().apply(model, toy_context)
    torch.testing.assert_close(folded(images()), expected)
    assert change.layers == {}
    assert "does not follow" in change.untouched["first"]
    assert "also used elsewhere" in change.untouched["after"]


def test_model_that_cannot_be_traced_is_refused_by_name():
    class Inner(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(UnsupportedLayerError, match=r"Outer: module 'inner' cannot be traced"):
        fold_batch_norm(Outer())


def test_restored_structure_takes_the_weights(small_net, toy_context):
    shaken(small_net)
    folded, change = Fold().apply(copy.deepcopy(small_net), toy_context)
    fresh = COMPRESSORS.create(change.step, change.fields).restore(type(small_net)(), change)
    fresh.load_state_dict(folded.state_dict(), strict=True)
    assert torch.equal(fresh(images()), folded(images()))


def test_folding_twice_changes_nothing(small_net, toy_context):
    once, _ = Fold().apply(copy.deepcopy(small_net), toy_context)
    twice, change = Fold().apply(copy.deepcopy(once), toy_context)
    assert change.layers == {}
    assert torch.equal(once(images()), twice(images()))


def test_frozen_weights_stay_frozen(small_net):
    small_net.stem.weight.requires_grad_(requires_grad=False)
    folded = fold_batch_norm(small_net)
    assert not folded.get_submodule("stem").weight.requires_grad
    assert not folded.get_submodule("stem").bias.requires_grad
    assert folded.get_submodule("mix").weight.requires_grad
