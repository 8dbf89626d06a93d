"""Densely connected networks for small images (Huang et al. 2017, arXiv:1608.06993)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from shrinkproof.errors import ModelError

STEM: Final = 16
"""Channels of the first convolution of a network without bottlenecks (section 3)."""


class DenseLayer(nn.Module):
    """Normalization, ReLU and a 3x3 convolution, whose output is appended to the input.

    Args:
        inputs: channels of the input.
        growth: channels that are appended.
    """

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, inputs + growth, H, W) from (N, inputs, H, W)."""
        return torch.cat((x, self.conv1(self.relu(self.bn1(x)))), 1)


class Transition(nn.Module):
    """Normalization, ReLU, a 1x1 convolution and 2x2 average pooling; channels stay as many.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, H / 2, W / 2) from (N, channels, H, W)."""
        pooled: Tensor = self.pool(self.conv1(self.relu(self.bn1(x))))
        return pooled


class CifarDenseNet(nn.Module):
    """One convolution, three dense blocks with transitions between them, one linear layer.

    Args:
        layers: dense layers of each block.
        growth: channels that each of them appends.
        num_classes: number of logits.
    """

    def __init__(self, layers: int, growth: int, num_classes: int) -> None:
        super().__init__()
        added = layers * growth
        self.conv1 = nn.Conv2d(3, STEM, 3, 1, 1, bias=False)
        self.dense1 = _block(STEM, layers, growth)
        self.trans1 = Transition(STEM + added)
        self.dense2 = _block(STEM + added, layers, growth)
        self.trans2 = Transition(STEM + 2 * added)
        self.dense3 = _block(STEM + 2 * added, layers, growth)
        self.bn = nn.BatchNorm2d(STEM + 3 * added)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(STEM + 3 * added, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) from (N, 3, H, W); H and W are at least 4."""
        out = self.trans1(self.dense1(self.conv1(x)))
        out = self.dense3(self.trans2(self.dense2(out)))
        logits: Tensor = self.fc(self.pool(self.relu(self.bn(out))).flatten(1))
        return logits


def _block(inputs: int, layers: int, growth: int) -> nn.Module:
    return nn.Sequential(*(DenseLayer(inputs + i * growth, growth) for i in range(layers)))


def densenet(depth: int, growth: int = 12, num_classes: int = 10) -> CifarDenseNet:
    """Return a densely connected network with freshly drawn weights.

    It has neither bottlenecks nor compression in its transitions. Convolutions are drawn as in
    He et al. 2015 (arXiv:1502.01852) by their outputs, from torch's current random state.

    Args:
        depth: number of weight layers on the longest path, 3n + 4: 7, 10, ..., 40, 100.
        growth: channels that each dense layer appends.
        num_classes: number of logits.

    Raises:
        ModelError: there is no such network.
    """
    if depth < 7 or (depth - 4) % 3:
        raise ModelError(
            f"densenet: depth must be 3n + 4 with n >= 1 (7, 10, ..., 40, 100), got {depth}"
        )
    if growth < 1:
        raise ModelError(f"densenet: growth must be at least 1, got {growth}")
    if num_classes < 2:
        raise ModelError(f"densenet: num_classes must be at least 2, got {num_classes}")
    return CifarDenseNet((depth - 4) // 3, growth, num_classes)
