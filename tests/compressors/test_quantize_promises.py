"""Promises of number formats: what is measured after later steps, and what breaks them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shrinkproof.compressors.constraint import (
    Codebook,
    FakeQuantWeight,
    Mask,
    ShortFloat,
    bake,
    constrain,
)
from shrinkproof.compressors.promises import Promises
from shrinkproof.errors import CompressionError


def layer_with(*rules):
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [4.0, 0.0, 3.0]]))
    model = nn.Sequential(layer)
    for rule in rules:
        constrain(layer, "weight", rule)
    return model


def promised(model):
    promises = Promises()
    promises.collect(model)
    return promises


def grid(bits=8):
    return FakeQuantWeight(torch.tensor([0.5, 1.0]), bits=bits)


def levels():
    index = torch.tensor([[0, 1, 2], [2, 1, 0]], dtype=torch.uint8)
    return Codebook(torch.tensor([-1.0, 0.0, 2.0]), index, pinned_zero=True)


def test_nothing_promised_nothing_kept():
    model = nn.Sequential(nn.Linear(3, 2))
    assert promised(model).check(model, "step", zeros=True) == {}


def test_each_property_is_counted():
    mask = Mask(torch.tensor([[True, False, True], [True, True, True]]))
    model = layer_with(mask, levels(), grid())
    promises = promised(model)
    assert promises.check(model, "step", zeros=True) == {"zeros": 1, "levels": 1, "grid": 1}
    assert promises.check(model, "step", zeros=False) == {"levels": 1, "grid": 1}
    short = layer_with(ShortFloat(torch.float16))
    assert promised(short).check(short, "step", zeros=True) == {"format": 1}


@pytest.mark.parametrize("rule", [grid(), ShortFloat(torch.float16)], ids=["grid", "format"])
def test_baking_keeps_the_format(rule):
    model = layer_with(rule)
    promises = promised(model)
    bake(model)
    assert sum(promises.check(model, "baking", zeros=True).values()) == 1


def test_weight_that_left_its_grid_is_named():
    model = layer_with(grid())
    promises = promised(model)
    bake(model)
    with torch.no_grad():
        model[0].weight[0, 0] += 0.1
    message = (
        r"step 2 \(x\): 0\.weight must be whole multiples of its scale, up to 127 of them, got 1 "
    )
    with pytest.raises(CompressionError, match=message):
        promises.check(model, "step 2 (x)", zeros=True)


def test_too_many_multiples_are_off_the_grid():
    model = layer_with(grid(bits=4))
    promises = promised(model)
    bake(model)
    with torch.no_grad():
        model[0].weight[0, 0] = 8 * 0.5
    with pytest.raises(CompressionError, match="up to 7 of them, got 1 of 6"):
        promises.check(model, "step", zeros=True)


def test_lost_scale_is_named():
    model = layer_with(grid())
    promises = promised(model)
    with pytest.raises(CompressionError, match="got a weight without a scale"):
        promises.check(layer_with(), "step", zeros=True)


def test_weight_that_left_its_format_is_named():
    model = layer_with(ShortFloat(torch.float16))
    promises = promised(model)
    bake(model)
    with torch.no_grad():
        model[0].weight[0, 0] = 0.1
    with pytest.raises(CompressionError, match="must be exact in float16, got 1 of 6"):
        promises.check(model, "step", zeros=True)


def test_channels_may_go_with_their_scales():
    model = layer_with(grid())
    promises = promised(model)
    bake(model)
    layer = model[0]
    layer.weight = nn.Parameter(layer.weight[:1].detach())
    layer.weight_scale = layer.weight_scale[:1]
    assert promises.check(model, "step", zeros=True) == {"grid": 1}


def test_removed_layer_is_named():
    promises = promised(layer_with(grid()))
    with pytest.raises(CompressionError, match="pruned, clustered or quantized, got a model"):
        promises.check(nn.Sequential(), "step", zeros=True)
