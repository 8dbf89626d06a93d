"""A cut network computes what the masked one computes, whatever its layers are coupled by."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.compressors.coupling import couple

from .coupling_nets import NETS, Block, assert_cut_equals_mask, awake, choose

SHAPE = (1, 3, 8, 8)


@pytest.mark.parametrize("name", NETS)
def test_cut_equals_masked(name):
    for seed in range(2):
        model = awake(NETS[name](), seed)
        assert_cut_equals_mask(model, SHAPE, seed=seed, functional=name == "functional")


@pytest.mark.parametrize("name", NETS)
def test_second_cut_of_a_cut_network(name):
    _, _, small = assert_cut_equals_mask(
        awake(NETS[name]()), SHAPE, ratio=0.3, functional=name == "functional"
    )
    assert_cut_equals_mask(small, SHAPE, seed=1, ratio=0.4, functional=name == "functional")


@st.composite
def plans(draw):
    """Return a random chain of blocks, each with the width that it makes."""
    kinds = ("plain", "residual", "pad", "depthwise", "grouped", "concat", "gate", "twice")
    return draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 3)), max_size=5))


class Chain(nn.Module):
    """The network of a plan."""

    def __init__(self, plan):
        super().__init__()
        width = 4
        self.stem = Block(3, width)
        steps = []
        for kind, size in plan:
            steps.append(Step(kind, width, size))
            width = steps[-1].width
        self.steps = nn.Sequential(*steps)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        return self.head(self.steps(self.stem(x)))


class Step(nn.Module):
    def __init__(self, kind, inputs, size):
        super().__init__()
        self.kind = kind
        self.width = inputs
        if kind in ("plain", "pad", "concat"):
            self.width += size
        if kind == "grouped":
            self.width = 4 * size
            self.gather, self.conv = nn.Conv2d(inputs, 8, 1), Block(8, self.width, groups=4)
        elif kind == "depthwise":
            self.conv = Block(inputs, inputs, groups=inputs)
        elif kind == "concat":
            self.conv = Block(inputs, size)
        elif kind == "gate":
            self.conv = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, inputs, 1))
        else:
            self.conv = Block(inputs, self.width)
        self.pad = nn.ZeroPad3d((0, 0, 0, 0, size - 1, 1)) if kind == "pad" else None

    def forward(self, x):
        if self.kind == "grouped":
            return self.conv(self.gather(x))
        y = self.conv(x)
        if self.kind == "concat":
            return torch.cat((x, y), 1)
        if self.kind == "gate":
            return x * torch.sigmoid(y)
        if self.kind == "pad":
            return y - self.pad(x)
        if self.kind == "twice":
            return x + self.conv(y)
        return x + y if self.kind == "residual" else y


@settings(max_examples=25, deadline=None, derandomize=True)
@given(plan=plans(), seed=st.integers(0, 1000), ratio=st.sampled_from([0.2, 0.5, 0.9]))
def test_cut_equals_masked_for_random_networks(plan, seed, ratio):
    model = awake(Chain(plan), seed)
    coupling = couple(model, torch.zeros(SHAPE))
    if choose(coupling, seed, ratio).any():
        assert_cut_equals_mask(model, SHAPE, seed=seed, ratio=ratio)
