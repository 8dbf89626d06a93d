"""The step on networks that are written in unusual ways, and over several iterations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shrinkproof.artifacts.sizes import macs
from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError

from .coupling_nets import awake


class Net(nn.Module):
    """A stem, something in between, a wide layer and a head."""

    def __init__(self, between, after: int = 8, **parts: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        for name, part in parts.items():
            self.add_module(name, part)
        self.between = between
        self.last = nn.Conv2d(after, 32, 1)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        x = torch.relu(self.between(self, torch.relu(self.stem(x))))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


def prune(model, context, **fields):
    """Prune without rounding and floor; check the account, and that it can be repeated."""
    recipe = Recipe((ChannelPruning(**{"ratio": 0.5, "round_to": 1, "floor": 0.0, **fields}),))
    small, (change,) = recipe.apply(model, context)
    assert change.achieved["macs_before"] == macs(model, context.example)
    assert change.achieved["macs"] == macs(small, context.example)
    assert change.achieved["params"] == sum(p.numel() for p in small.parameters())
    again = recipe.restore(model, (change,))
    again.load_state_dict(small.state_dict(), strict=True)
    return small, change


def widths(change):
    return {name: entry["channels"][1] for name, entry in change.layers.items()}


@pytest.mark.parametrize(("groups", "scores"), [(2, 8), (8, 8)])
@pytest.mark.parametrize("criterion", ["l1", "taylor", "hrank"])
def test_transposed_convolutions_with_groups(toy_context, groups, scores, criterion):
    layer = nn.ConvTranspose2d(8, 16, 2, stride=2, groups=groups)
    model = awake(Net(lambda net, x: net.up(x), after=16, up=layer))
    _, change = prune(model, toy_context, scope="layer", criterion=criterion)
    assert widths(change)["stem"] == 4
    assert change.layers["up"]["channels"] == [16, scores]


class ChannelsLast(nn.Module):
    """Two linear layers over the channels of each position."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(8, 16)
        self.narrow = nn.Linear(16, 8)

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        return self.narrow(F.gelu(self.wide(x))).permute(0, 3, 1, 2)


def test_linear_layers_over_the_channels_of_an_image(toy_context):
    model = awake(Net(lambda net, x: x + net.mlp(x), mlp=ChannelsLast()))
    _, change = prune(model, toy_context, scope="layer")
    assert widths(change) == {"stem": 4, "mlp.wide": 8, "mlp.narrow": 4, "last": 16, "head": 3}


def test_rank_is_not_defined_for_linear_layers_over_an_image(toy_context):
    model = awake(Net(lambda net, x: x + net.mlp(x), mlp=ChannelsLast()))
    _, change = prune(model, toy_context, criterion="hrank")
    assert change.layers["mlp.wide"]["channels"] == [16, 16]
    assert change.untouched["mlp.wide"] == "criterion 'hrank' is not defined for it"


class Kernel(nn.Module):
    """A weight in a module that is none of torch's layers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 8, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1)


def with_parameter():
    model = Net(lambda net, x: F.conv2d(x, net.kernel))
    model.kernel = nn.Parameter(torch.zeros(8, 8, 1, 1))
    return model


@pytest.mark.parametrize(
    ("make", "name"),
    [(with_parameter, "kernel"), (lambda: Net(lambda net, x: net.own(x), own=Kernel()), "own")],
    ids=["parameter", "module"],
)
def test_weights_outside_of_layers_follow_and_keep_their_own_channels(toy_context, make, name):
    _, change = prune(awake(make()), toy_context, scope="layer")
    assert change.layers[name]["channels"] == [8, 8]
    assert change.layers[name]["inputs"] == [8, 4]
    reason = "its weight is not that of a convolution or fully connected layer"
    assert change.untouched[name] == reason


def test_layers_with_a_computed_weight_are_told_and_counted(toy_context):
    odd = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))
    _, (change,) = Recipe((ChannelPruning(ratio=0.5),)).apply(
        awake(Net(lambda net, x: net.odd(x), odd=odd)), toy_context
    )
    assert change.untouched["odd"] == "its weight is computed from other tensors"
    assert change.achieved["macs_before"] == 64 * (8 * 27 + 8 * 8 + 32 * 8) + 32 * 3


class NeedsItsWidth(nn.Module):
    """Fails in a way of its own."""

    def forward(self, x):
        return {8: x}[x.shape[1]]


def test_any_failure_without_the_channels_names_its_place(toy_context):
    model = awake(Net(lambda net, x: net.strict(x), strict=NeedsItsWidth()))
    with pytest.raises(CompressionError, match="KeyError in strict: 4"):
        prune(model, toy_context, scope="layer")


@pytest.mark.parametrize("iterations", [2, 4, 8])
def test_scores_that_are_computed_once_give_the_same_network_in_any_number_of_steps(
    toy_context, iterations
):
    model = awake(Net(lambda net, x: net.middle(x), middle=nn.Conv2d(8, 8, 3)))
    with torch.no_grad():
        model.stem.weight[:4] *= 0.01
        model.last.weight *= torch.linspace(0.1, 1, 32)[:, None, None, None]
    small, change = prune(model, toy_context)
    again, other = prune(model, toy_context, iterations=iterations, rescore=False)
    assert widths(other) == widths(change)
    torch.testing.assert_close(again.state_dict(), small.state_dict(), rtol=0, atol=0)


class AddsFour(nn.Module):
    """Four channels of zeros behind those that are there."""

    def forward(self, x):
        return F.pad(x, (0, 0, 0, 0, 0, 4))


class Half(nn.Module):
    """Adds the image, one channel and zeros: three channels are locked, four lose their all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(3, 1, 1)
        self.zeros = AddsFour()
        self.last = nn.Conv2d(8, 32, 1)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        y = self.stem(x) + self.zeros(torch.cat([x, self.one(x)], 1))
        return self.head(torch.relu(self.last(torch.relu(y))).mean((2, 3)))


@pytest.mark.parametrize("iterations", [2, 4])
def test_channels_that_are_all_gone_still_count_towards_the_ratio(toy_context, iterations):
    model = awake(Half())
    with torch.no_grad():
        model.stem.weight[3:] *= 1e-3
    _, change = prune(model, toy_context, iterations=iterations)
    # 4 of the stem, 1 that it shares, 32: 37 channels could go, and 18.5 are asked for.
    assert widths(change) == {"stem": 4, "last": 17, "head": 3}
    assert change.achieved["ratio"] == 19 / 37


@pytest.mark.parametrize("iterations", ["layers", 6])
def test_groups_that_become_depthwise_on_the_way_are_an_error(toy_context, iterations):
    layer = nn.Conv2d(8, 16, 3, padding=1, groups=4)
    model = awake(Net(lambda net, x: net.grouped(x), after=16, grouped=layer))
    with pytest.raises(CompressionError, match="stem, grouped: a layer with groups has become"):
        prune(model, toy_context, scope="layer", ratio=0.75, iterations=iterations)
    _, change = prune(model, toy_context, scope="layer", ratio=0.75)
    assert widths(change) == {"stem": 4, "grouped": 4, "last": 8, "head": 3}
