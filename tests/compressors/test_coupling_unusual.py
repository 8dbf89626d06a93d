"""Networks that are written in unusual ways: what can be cut is cut, the rest says why not."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shrinkproof.artifacts.sizes import macs
from shrinkproof.compressors.coupling import couple, cut, cut_again
from shrinkproof.compressors.coupling.coupled import Axis

from .coupling_nets import assert_cut_equals_mask, awake, choose, outputs

SHAPE = (1, 3, 8, 8)


class Chain(nn.Module):
    """Two convolutions of the input, something that joins them, two more convolutions."""

    def __init__(self, join, *, after: int = 8, groups: int = 1, **parts: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(3, 8, 3, padding=1)
        for name, part in parts.items():
            self.add_module(name, part)
        self.join = join
        self.third = nn.Conv2d(after, 8, 1, groups=groups)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        joined = self.join(self, self.first(x), self.second(x))
        return self.head(torch.relu(self.third(torch.relu(joined))))


def same_classes(coupling, first, second):
    axes = (coupling.axes[Axis(f"{name}.weight", 0)] for name in (first, second))
    return next(axes).tolist() == next(axes).tolist()


@pytest.mark.parametrize(
    ("join", "after", "groups"),
    [
        (lambda _, a, b: torch.stack([a, b], 2).flatten(1, 2), 16, 2),
        (lambda _, a, b: torch.stack([a, b], 1).flatten(1, 2), 16, 1),
        (lambda _, a, b: torch.cat([a, b], 2), 8, 1),
        (lambda _, a, b: torch.cat([a.flatten(2), b.flatten(2)], 2)[:, :, :, None], 8, 1),
    ],
    ids=["interleaved", "one after the other", "in space", "flat"],
)
def test_channels_joined_along_another_axis_go_from_all_parts(join, after, groups):
    model = awake(Chain(join, after=after, groups=groups))
    coupling, removed, _ = assert_cut_equals_mask(model, SHAPE)
    assert same_classes(coupling, "first", "second")
    assert removed[coupling.axes[Axis("first.weight", 0)]].any()


def test_channels_joined_with_numbers_of_fixed_size_are_locked():
    model = Chain(lambda _, a, b: torch.cat([a, torch.zeros(1, 8, 2, 8)], 2) + b.mean())
    coupling = couple(model, torch.zeros(SHAPE))
    reasons = {coupling.locked[k] for k in coupling.axes[Axis("first.weight", 0)].tolist()}
    assert reasons == {"cat in the model joins it with a tensor without removable channels"}


def test_channels_of_different_axes_that_are_joined_are_locked():
    def join(_, a, b):
        return torch.cat([a.mean((2, 3))[:, :, None], b.mean((2, 3))[:, None].expand(1, 8, 8)], 2)

    model = Chain(lambda *call: join(*call)[:, :, :, None])
    coupling = couple(model, torch.zeros(SHAPE))
    reasons = {coupling.locked[k] for k in coupling.axes[Axis("first.weight", 0)].tolist()}
    assert reasons == {"cat in the model joins channels of different axes"}


class PadTo(nn.Module):
    """Adds as many channels of zeros as are missing."""

    def forward(self, x):
        return F.pad(x, (0, 0, 0, 0, 0, 12 - x.shape[1]))


def test_one_call_that_adds_different_numbers_of_channels_is_locked():
    model = Chain(
        lambda net, a, b: net.pad(a) + net.pad(torch.cat([b, b.mean(1, keepdim=True)], 1)),
        after=12,
        pad=PadTo(),
    )
    coupling, _, _ = assert_cut_equals_mask(awake(model), SHAPE)
    for klass in coupling.axes[Axis("first.weight", 0)].tolist():
        assert "cannot be edited" in coupling.locked[klass]


class Shortcut(nn.Module):
    """Adds channels of zeros; has more than its forward uses."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.zeros = 2
        self.spare = nn.Parameter(torch.ones(3))
        self.other = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        if self.rate:
            x = F.dropout(x, self.rate, self.training)
        return F.pad(x, (0, 0, 0, 0, self.zeros, self.zeros))


def test_a_module_whose_call_is_edited_keeps_all_that_it_holds():
    model = awake(Chain(lambda net, a, b: net.pad(a + b), after=12, pad=Shortcut()))
    names = set(model.state_dict())
    coupling = couple(model, torch.zeros(SHAPE))
    removed = choose(coupling)
    small = copy.deepcopy(model)
    account = cut(small, coupling, removed)
    assert account["pads"]
    assert type(small.pad).__name__ == "Shortcut"
    assert isinstance(small.pad, Shortcut)
    assert (small.pad.zeros, small.pad.rate) == (2, 0.0)
    assert set(small.state_dict()) == names
    assert sum(p.numel() for p in small.parameters()) == coupling.parameters(removed)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    again = copy.deepcopy(model)
    cut_again(again, account)
    again.load_state_dict(small.state_dict(), strict=True)
    for same in (again, copy.deepcopy(small)):
        torch.testing.assert_close(outputs(same, x), outputs(small, x), rtol=0, atol=0)


def test_zero_channels_in_code_that_trains_in_another_way_are_locked():
    model = Chain(lambda net, a, b: net.pad(a + b), after=12, pad=Shortcut(0.5)).eval()
    coupling = couple(model, torch.zeros(SHAPE))
    reasons = {coupling.locked[k] for k in coupling.axes[Axis("first.weight", 0)].tolist()}
    (reason,) = reasons
    assert "Shortcut computes something else in training" in reason
    assert not model.training


class Standardized(nn.Conv2d):
    """A convolution whose weight is computed from its parameter."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias)


def attended(_, a, b):
    queries, keys = a.flatten(2), b.flatten(2)
    return torch.bmm(torch.bmm(queries, keys.transpose(1, 2)).softmax(2), keys).view(a.shape)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Chain(lambda net, a, b: net.odd(a + b), odd=Standardized(8, 8, 3, padding=1)),
        lambda: Chain(attended),
    ],
    ids=["computed weight", "products of activations"],
)
def test_all_products_count(make):
    model = awake(make())
    example = torch.zeros(SHAPE, dtype=torch.float64)
    coupling, removed, small = assert_cut_equals_mask(model, SHAPE, functional=True)
    assert coupling.macs() == macs(model.double(), example)
    assert coupling.macs(removed) == macs(small, example) < coupling.macs()
    assert coupling.macs() == sum(coupling.macs_of().values()) + coupling.other_macs
    assert coupling.other_macs > 0


def test_layers_whose_weight_is_not_followed_are_named():
    odd = Standardized(8, 8, 3, padding=1)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))
    model = Chain(lambda net, a, b: net.normed(net.odd(a + b)), odd=odd, normed=normed)
    coupling = couple(model, torch.zeros(SHAPE))
    assert coupling.fixed == {
        "normed": "its weight is computed from other tensors",
        "odd": "mean in 'odd' computes with this weight",
    }
    assert not coupling.unused


def test_the_first_use_of_a_weight_says_which_axis_is_its_output():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            self.code = nn.Linear(8, 6)
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            code = torch.relu(self.code(self.stem(x).mean((2, 3))))
            return self.head(F.linear(code, self.code.weight.t()))

    coupling, _, _ = assert_cut_equals_mask(awake(Tied()), SHAPE, functional=True)
    assert coupling.layers["code"].out_axis == Axis("code.weight", 0)


@pytest.mark.parametrize(("groups", "out"), [(2, 16), (8, 16), (1, 6)])
def test_every_output_channel_of_a_transposed_convolution_has_a_class(groups, out):
    layer = nn.ConvTranspose2d(8, out, 2, stride=2, groups=groups)
    model = awake(Chain(lambda net, a, b: net.up(a + b), after=out, up=layer))
    coupling, removed, small = assert_cut_equals_mask(model, SHAPE)
    classes = coupling.outputs("up")
    assert classes.size == out
    assert small.up.out_channels == int((~removed[classes]).sum())
