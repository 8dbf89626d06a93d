"""Residual networks for small images, as in He et al. 2015, section 4.2 (arXiv:1512.03385)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from shrinkproof.errors import ModelError

Shortcut = Literal["pad", "project"]


class PadShortcut(nn.Module):
    """Shortcut without parameters (option A): every second pixel, zeros for the new channels.

    Args:
        channels: zero channels added on each side, a quarter of the output's.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C + 2 * channels, ceil(H / 2), ceil(W / 2)) from (N, C, H, W)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.channels, self.channels))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        inputs: channels of the input.
        outputs: channels of the output; twice ``inputs`` where the stride is 2.
        stride: of the first convolution.
        shortcut: how the input is passed on where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        # One module per use, so that hooks and traces can tell the two apart.
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module
        if stride == 1:
            self.downsample = nn.Identity()
        elif shortcut == "pad":
            self.downsample = PadShortcut((outputs - inputs) // 2)
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) from (N, inputs, H, W)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.downsample(x))  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """Residual network for small images: one convolution, three stages, one linear layer.

    Its last layer is called ``linear`` with padded shortcuts and ``fc`` with projected ones, as
    in the published checkpoints of the two kinds.

    Args:
        blocks: blocks of each stage.
        width: channels of the first stage.
        shortcut: ``pad`` (option A) or ``project`` (option B).
        num_classes: number of logits.
    """

    def __init__(self, blocks: int, width: int, shortcut: Shortcut, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(width, width, 1, blocks, shortcut)
        self.layer2 = _stage(width, 2 * width, 2, blocks, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, 2, blocks, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.last = "linear" if shortcut == "pad" else "fc"
        self.add_module(self.last, nn.Linear(4 * width, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) from (N, 3, H, W)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.get_submodule(self.last)(self.pool(out).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, stride: int, blocks: int, shortcut: Shortcut) -> nn.Module:
    others = [Block(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)]
    stage = [Block(inputs, outputs, stride, shortcut), *others]
    return nn.Sequential(*stage)


def resnet(
    depth: int, width: int = 16, shortcut: Shortcut = "pad", num_classes: int = 10
) -> CifarResNet:
    """Return a residual network for small images with freshly drawn weights.

    Convolutions are drawn as in He et al. 2015 (arXiv:1502.01852), from torch's current random
    state; evaluation or training mode is torch's default (training).

    Args:
        depth: number of weight layers on the longest path, 6n + 2: 8, 14, 20, 32, 44, 56, ...
        width: channels of the first stage; the next two have twice and four times as many. Even
            with padded shortcuts.
        shortcut: ``pad`` (option A, no parameters) or ``project`` (option B, 1x1 convolution).
        num_classes: number of logits.

    Raises:
        ModelError: there is no such network.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ModelError(f"resnet: depth must be 6n + 2 with n >= 1 (8, 14, 20, ...), got {depth}")
    if shortcut not in ("pad", "project"):
        raise ModelError(f"resnet: shortcut must be 'pad' or 'project', got {shortcut!r}")
    if width < 1 or (shortcut == "pad" and width % 2):
        raise ModelError(
            f"resnet: width must be at least 1, and even with padded shortcuts, got {width}"
        )
    if num_classes < 2:
        raise ModelError(f"resnet: num_classes must be at least 2, got {num_classes}")
    return CifarResNet((depth - 2) // 6, width, shortcut, num_classes)
