"""Depthwise convolutions, which a step may leave alone."""

from __future__ import annotations

import pytest
from torch import nn

from shrinkproof.compressors.layers import is_depthwise, select_layers
from shrinkproof.errors import CompressionError


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 4, 1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


@pytest.mark.parametrize(
    ("scope", "treated"),
    [
        ("conv", ["0", "1", "2", "3"]),
        ("conv+linear", ["0", "1", "2", "3", "5"]),
        ("full-conv", ["0", "2", "3"]),
        ("full-conv+linear", ["0", "2", "3", "5"]),
    ],
)
def test_what_is_treated(scope, treated):
    layers = select_layers(network(), scope, step="prune.weights")
    assert list(layers.treated) == treated
    if "full" in scope:
        assert layers.untouched["1"] == f"depthwise; the setting is {scope!r}"
    if "linear" not in scope:
        assert layers.untouched["5"] == f"fully connected; the setting is {scope!r}"


def test_a_grouped_convolution_is_not_depthwise():
    assert [is_depthwise(m) for m in network()] == [False, True, False, False, False, False]


def test_a_network_of_depthwise_convolutions_alone_has_nothing_left():
    with pytest.raises(CompressionError, match="at least one convolution to treat, got none"):
        select_layers(nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)), "full-conv", step="cluster")
