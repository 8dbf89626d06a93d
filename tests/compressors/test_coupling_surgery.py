"""Attributes, masks, graphs, accounts: everything around the tensors follows a cut."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.compressors.constraint import Codebook, FakeQuantWeight, Mask, bake, constrain
from shrinkproof.compressors.coupling import Axis, couple, cut, cut_again, silence
from shrinkproof.compressors.fold import fold_batch_norm
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.models.cifar import resnet

from .coupling_nets import (
    NETS,
    Depthwise,
    Grouped,
    LambdaPad,
    Residual,
    Shared,
    Transposed,
    assert_cut_equals_mask,
    awake,
    choose,
    outputs,
)

SHAPE = (1, 3, 8, 8)
EXAMPLE = torch.zeros(SHAPE)


def removal(coupling, *positions):
    """Return the flags of single positions, ``(tensor, dim, position)``."""
    removed = np.zeros(coupling.classes, dtype=bool)
    for tensor, dim, position in positions:
        removed[coupling.axes[tensor, dim][position]] = True
    return removed


def test_hand_computed_sizes_of_a_residual_network():
    coupling = couple(Residual(), EXAMPLE)
    stem, inner, outer, head = 3 * 9, 8 * 9, 6 * 9, 8
    assert coupling.macs() == 64 * (8 * stem + 6 * inner + 8 * outer) + 3 * head
    assert coupling.parameters() == 8 * stem + 6 * inner + 8 * outer + 3 * head + 3 + 2 * (
        8 + 6 + 8
    )
    removed = removal(coupling, ("stem.0.weight", 0, 2), ("inner.0.weight", 0, 5))
    assert coupling.macs(removed) == 64 * (7 * stem + 5 * 7 * 9 + 7 * 5 * 9) + 3 * 7
    assert coupling.macs_of(removed)["inner.0"] == 64 * 5 * 7 * 9
    assert coupling.kept(removed)[Axis("outer.0.weight", 0)] == 7
    groups = [(g.layers, g.classes.size) for g in coupling.groups()]
    assert groups == [(("stem.0", "outer.0"), 8), (("inner.0",), 6), (("head.2",), 3)]


def test_account_is_plain_json_and_names_what_changed_only():
    coupling = couple(Residual(), EXAMPLE)
    account = cut(Residual(), coupling, removal(coupling, ("inner.0.weight", 0, 5)))
    assert json.loads(json.dumps(account)) == account
    tensors = ["weight", "bias", "running_mean", "running_var"]
    axes = ["inner.0.weight:0", *(f"inner.1.{t}:0" for t in tensors), "outer.0.weight:1"]
    assert account["pads"] == []
    (entry,) = account["cuts"]
    assert (entry["size"], entry["kept"]) == (6, [0, 1, 2, 3, 4])
    assert sorted(entry["axes"]) == sorted(axes)


def test_nothing_removed_changes_nothing():
    model = awake(LambdaPad())
    coupling = couple(model, EXAMPLE)
    account = cut(model, coupling, np.zeros(coupling.classes, dtype=bool))
    assert account == {"cuts": [], "pads": []}
    assert type(model.shortcut).__name__ == "LambdaLayer"


def test_attributes_state_the_new_sizes():
    model = Depthwise(2)
    coupling = couple(model, EXAMPLE)
    cut(model, coupling, removal(coupling, ("0.0.weight", 0, 1)))
    spread = model[1]
    assert (spread.in_channels, spread.out_channels, spread.groups) == (5, 10, 5)
    assert (model[0][0].out_channels, model[2].num_features, model[4].in_channels) == (5, 10, 10)

    model = Grouped()
    coupling = couple(model, EXAMPLE)
    cut(model, coupling, removal(coupling, ("0.0.weight", 0, 0), ("1.weight", 0, 0)))
    grouped = model[1]
    assert (grouped.in_channels, grouped.out_channels, grouped.groups) == (4, 8, 4)
    assert model[2].num_parameters == 8

    model = Transposed()
    coupling = couple(model, EXAMPLE)
    cut(model, coupling, removal(coupling, ("0.0.weight", 0, 0), ("1.weight", 1, 3)))
    assert (model[1].in_channels, model[1].out_channels) == (7, 11)
    assert (model[3].in_channels, model[3].out_channels) == (11, 5)


def test_padded_shortcut_gets_the_kept_numbers():
    model = resnet(8, 8).eval()
    coupling = couple(model, EXAMPLE)
    axis = ("layer2.0.conv2.weight", 0)
    # Of 16 channels the shortcut adds 4 before and 4 after the 8 that it passes on.
    removed = removal(coupling, (*axis, 0), (*axis, 3), (*axis, 7), (*axis, 15))
    account = cut(model, coupling, removed)
    changes = {s["module"]: (s["before"], s["after"]) for s in account["pads"]}
    assert changes["layer2.0.downsample"] == ([4, 4], [2, 3])
    # The first stage lost channel 3 of its 8; the second stage has 4 + 7 + ... of 16 left.
    assert model.conv1.out_channels == 7
    assert model.layer2[0].conv2.out_channels == 12
    assert model.layer3[0].downsample(torch.zeros(1, 12, 4, 4)).shape == (1, 28, 2, 2)


def test_shared_weight_stays_shared():
    model = awake(Shared())
    _, _, small = assert_cut_equals_mask(model, SHAPE)
    assert small.second.weight is small.first.weight


def test_frozen_parameters_stay_frozen_and_modes_stay():
    model = Residual().train()
    model.stem[0].weight.requires_grad_(requires_grad=False)
    coupling = couple(model, EXAMPLE)
    assert model.training
    cut(model, coupling, choose(coupling))
    assert model.training
    assert not model.stem[0].weight.requires_grad
    assert model.stem[1].weight.requires_grad


def test_cut_network_trains():
    model = resnet(8, 8)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    coupling = couple(model, EXAMPLE)
    cut(model, coupling, choose(coupling))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def masked(model, seed=0):
    draws = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            mask = torch.rand(module.weight.shape, generator=draws) > 0.5
            constrain(module, "weight", Mask(mask), layer=name)
    return model


@pytest.mark.parametrize("name", ["residual", "shared", "cifar_resnet"])
def test_masks_are_cut_with_their_weights(name):
    model = masked(awake(NETS[name]())).double()
    example = EXAMPLE.double()
    coupling = couple(model, example)
    removed = choose(coupling)
    silent, small = copy.deepcopy(model), copy.deepcopy(model)
    silence(silent, coupling, removed)
    account = cut(small, coupling, removed)
    x = torch.randn(SHAPE, dtype=torch.float64)
    for a, b in zip(outputs(silent, x), outputs(small, x), strict=True):
        torch.testing.assert_close(a, b)
    weights = torch.cat([m.weight.flatten() for m in small.modules() if is_conv(m)])
    assert 0.3 < (weights == 0).double().mean() < 0.7
    again = masked(awake(NETS[name]())).double()
    cut_again(again, account)
    again.load_state_dict(small.state_dict())
    bake(small)
    fresh = NETS[name]().double()
    cut_again(fresh, account)
    fresh.load_state_dict(small.state_dict())


def is_conv(module):
    return isinstance(module, nn.Conv2d)


def test_mask_of_an_affected_layer_still_holds_after_training():
    model = masked(awake(Residual()))
    coupling = couple(model, EXAMPLE)
    cut(model, coupling, choose(coupling))
    before = model.outer[0].weight == 0
    model(torch.randn(SHAPE)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert torch.equal(model.outer[0].weight == 0, before)


def test_clustered_or_quantized_layers_are_refused_where_they_are_affected():
    model = awake(Residual())
    coupling = couple(model, EXAMPLE)
    index = torch.zeros(model.inner[0].weight.shape, dtype=torch.uint8)
    constrain(model.inner[0], "weight", Codebook(torch.tensor([0.5]), index))
    removed = removal(coupling, ("inner.0.weight", 0, 0))
    with pytest.raises(CompressionError, match=r"got a codebook; put prune.channels before the cl"):
        cut(model, coupling, removed)
    assert model.inner[1].num_features == 6
    model = awake(Residual())
    constrain(model.inner[0], "weight", FakeQuantWeight(torch.ones(1)))
    with pytest.raises(CompressionError, match="before the quantization step"):
        silence(model, coupling, removed)


def test_layers_that_are_not_affected_may_be_clustered():
    model = awake(Residual())
    index = torch.zeros(model.head[2].weight.shape, dtype=torch.uint8)
    constrain(model.head[2], "weight", Codebook(torch.tensor([0.5]), index))
    coupling = couple(model, EXAMPLE)
    cut(model, coupling, removal(coupling, ("inner.0.weight", 0, 0)))
    assert model.inner[0].out_channels == 5


@pytest.mark.parametrize("name", ["residual", "lambda_pad", "cifar_resnet", "depthwise", "concat"])
def test_folded_graph_can_be_cut(name):
    graph = fold_batch_norm(awake(NETS[name]()))
    coupling, _, small = assert_cut_equals_mask(graph, SHAPE)
    assert all(site.module == "" for site in coupling.pads)
    assert isinstance(small, torch.fx.GraphModule)


def test_locked_classes_are_refused_with_their_reason():
    coupling = couple(Residual(), EXAMPLE)
    with pytest.raises(CompressionError, match=r"head.2.bias, head.2.weight: reaches the model's"):
        cut(Residual(), coupling, removal(coupling, ("head.2.weight", 0, 0)))


def test_empty_layers_are_refused():
    coupling = couple(Residual(), EXAMPLE)
    removed = removal(coupling, *(("inner.0.weight", 0, i) for i in range(6)))
    assert Axis("inner.0.weight", 0) in coupling.emptied(removed)
    with pytest.raises(CompressionError, match=r"must stay, got none for inner.0.weight"):
        silence(Residual(), coupling, removed)


def test_flags_of_another_network_are_refused():
    coupling = couple(Residual(), EXAMPLE)
    with pytest.raises(CompressionError, match=r"must be bool of shape \(20,\)"):
        cut(Residual(), coupling, np.zeros(3, dtype=bool))


def test_account_of_another_architecture_is_refused_and_changes_nothing():
    coupling = couple(resnet(8, 8), EXAMPLE)
    account = cut(resnet(8, 8), coupling, choose(coupling))
    with pytest.raises(ModelError, match="give the architecture that was cut"):
        cut_again(resnet(8, 16), account)
    with pytest.raises(ModelError, match="got no such tensor"):
        cut_again(Residual(), account)
    other = resnet(8, 8)
    other.layer2[0].downsample = nn.Identity()
    with pytest.raises(ModelError, match="not made of constant numbers"):
        cut_again(other, account)
    assert other.conv1.weight.shape[0] == 8
    del other.layer2[0].downsample
    with pytest.raises(ModelError, match=r"layer2.0.downsample: must be a module that adds"):
        cut_again(other, account)
