"""Residual networks with pre-activation for small images (He et al. 2016, arXiv:1603.05027)."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from shrinkproof.errors import ModelError

EXPANSION: Final = 4
"""Channels of a block's output for each channel inside it."""


class Bottleneck(nn.Module):
    """Normalization, ReLU and convolution, three times: 1x1, 3x3, 1x1; then the shortcut.

    Args:
        inputs: channels of the input.
        inner: channels inside; the output has ``EXPANSION`` times as many.
        stride: of the 3x3 convolution.
    """

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.bn1 = nn.BatchNorm2d(inputs)
        # One module per use, so that hooks and traces can tell them apart.
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner)
        self.relu3 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.downsample: nn.Module
        if stride == 1 and inputs == outputs:
            self.downsample = nn.Identity()
        else:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, EXPANSION * inner, H / stride, W / stride) from (N, inputs, H, W)."""
        out = self.conv1(self.relu1(self.bn1(x)))
        out = self.conv2(self.relu2(self.bn2(out)))
        out = self.conv3(self.relu3(self.bn3(out)))
        return out + self.downsample(x)  # type: ignore[no-any-return]


class CifarPreResNet(nn.Module):
    """One convolution, three stages of bottlenecks, normalization, one linear layer.

    Args:
        blocks: blocks of each stage.
        num_classes: number of logits.
    """

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16 * EXPANSION, 32, 2, blocks)
        self.layer3 = _stage(32 * EXPANSION, 64, 2, blocks)
        self.bn = nn.BatchNorm2d(64 * EXPANSION)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * EXPANSION, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) from (N, 3, H, W)."""
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        logits: Tensor = self.fc(self.pool(self.relu(self.bn(out))).flatten(1))
        return logits


def _stage(inputs: int, inner: int, stride: int, blocks: int) -> nn.Module:
    others = [Bottleneck(EXPANSION * inner, inner, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inputs, inner, stride), *others)


def preresnet(depth: int, num_classes: int = 10) -> CifarPreResNet:
    """Return a pre-activation residual network with freshly drawn weights.

    Layers, shapes and names are those of the network-slimming and weight-pruning experiments of
    Liu et al. 2019 (arXiv:1810.05270), which have bottlenecks and projected shortcuts at 110
    layers, too; the layers that select channels for slimming are left out. Convolutions are drawn
    as in He et al. 2015 (arXiv:1502.01852) by their outputs, from torch's current random state.

    Args:
        depth: number of weight layers on the longest path, 9n + 2: 11, 20, 29, ..., 110, 164.
        num_classes: number of logits.

    Raises:
        ModelError: there is no such network.
    """
    if depth < 11 or (depth - 2) % 9:
        raise ModelError(
            f"preresnet: depth must be 9n + 2 with n >= 1 (11, 20, ..., 110, 164), got {depth}"
        )
    if num_classes < 2:
        raise ModelError(f"preresnet: num_classes must be at least 2, got {num_classes}")
    return CifarPreResNet((depth - 2) // 9, num_classes)
