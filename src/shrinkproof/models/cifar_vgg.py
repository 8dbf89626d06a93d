"""VGG networks with batch normalization for small images, as pruning papers use them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import Tensor, nn

from shrinkproof.errors import ModelError

CONVOLUTIONS: Final = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Depth -> convolutions of each of the five stages (Simonyan and Zisserman 2015, table 1)."""

WIDTHS: Final = (64, 128, 256, 512, 512)
"""Channels of each stage."""


class CifarVgg(nn.Module):
    """Five stages of 3x3 convolutions, average pooling and one or two linear layers.

    Layers are numbered as papers count them: ``features.conv1`` is the first convolution, and
    ``features.bn1`` and ``features.relu1`` follow it. 2x2 maximum pooling separates the stages.

    Args:
        stages: convolutions of each stage.
        hidden: units of a linear layer with batch normalization before the last one; 0 for none.
        num_classes: number of logits.
    """

    def __init__(self, stages: tuple[int, ...], hidden: int, num_classes: int) -> None:
        super().__init__()
        self.features = _features(stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier: nn.Module
        if hidden:
            head = OrderedDict(
                linear1=nn.Linear(WIDTHS[-1], hidden),
                bn=nn.BatchNorm1d(hidden),
                relu=nn.ReLU(),
                linear2=nn.Linear(hidden, num_classes),
            )
            self.classifier = nn.Sequential(head)
        else:
            self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) from (N, 3, H, W); H and W are at least 16."""
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def _features(stages: tuple[int, ...]) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs, number = 3, 0
    for stage, (count, width) in enumerate(zip(stages, WIDTHS, strict=True)):
        if stage:
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
        for _ in range(count):
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(inputs, width, 3, 1, 1, bias=False)
            layers[f"bn{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU()
            inputs = width
    return nn.Sequential(layers)


def vgg(depth: int, hidden: int = 0, num_classes: int = 10) -> CifarVgg:
    """Return a VGG network for small images with freshly drawn weights.

    Convolutions have no bias and are drawn as in He et al. 2015 (arXiv:1502.01852) by their
    outputs, from torch's current random state.

    Args:
        depth: 11, 13, 16 or 19.
        hidden: units of a linear layer with batch normalization before the last one; 0 for none
            (network slimming, Liu et al. 2017, arXiv:1708.06519), 512 in the VGG-16 of filter
            pruning (Li et al. 2017, arXiv:1608.08710) and H-Rank (Lin et al. 2020,
            arXiv:2002.10179).
        num_classes: number of logits.

    Raises:
        ModelError: there is no such network.
    """
    if depth not in CONVOLUTIONS:
        raise ModelError(f"vgg: depth must be 11, 13, 16 or 19, got {depth}")
    if hidden < 0:
        raise ModelError(f"vgg: hidden must be at least 0, got {hidden}")
    if num_classes < 2:
        raise ModelError(f"vgg: num_classes must be at least 2, got {num_classes}")
    return CifarVgg(CONVOLUTIONS[depth], hidden, num_classes)
