"""Networks for large images that are shown small ones, as in da Silva et al. 2025.

arXiv:2512.24971: each pixel of a 32x32 image is repeated seven times in both directions, the
convolutions of a network for ImageNet follow, then global average pooling, a hidden linear layer
of 1,024 units with ReLU, and one of the classes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import Tensor, nn

from shrinkproof.errors import ModelError

FACTOR: Final = 7
HIDDEN: Final = 1024

_HEADS: Final = ("avgpool", "classifier", "fc")
"""What follows the convolutions in torchvision's networks."""


class Upsampled(nn.Module):
    """A network with the adapter: larger input, convolutions, pooling, two linear layers.

    Args:
        features: convolutions, (N, 3, 7 H, 7 W) to (N, channels, h, w).
        channels: what they give.
        num_classes: number of logits.
    """

    def __init__(self, features: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.larger = nn.Upsample(scale_factor=FACTOR, mode="nearest")
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(channels, HIDDEN)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(HIDDEN, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) from (N, 3, H, W); 224 x 224 pixels come from 32 x 32."""
        pooled = self.pool(self.features(self.larger(x))).flatten(1)
        logits: Tensor = self.fc(self.relu(self.hidden(pooled)))
        return logits


def upsampled(classifier: nn.Module, num_classes: int = 10) -> Upsampled:
    """Return the convolutions of a classifier behind and before the adapter.

    The new linear layers are drawn as Keras draws them, from torch's current random state: weights
    uniform as in Glorot and Bengio 2010, biases zero.

    Args:
        classifier: a network of torchvision: its children, up to the pooling, follow each other.
        num_classes: number of logits.

    Raises:
        ModelError: there are fewer than two classes.
    """
    if num_classes < 2:
        raise ModelError(f"upsampled: num_classes must be at least 2, got {num_classes}")
    kept = OrderedDict(
        (name, child) for name, child in classifier.named_children() if name not in _HEADS
    )
    features = kept["features"] if list(kept) == ["features"] else nn.Sequential(kept)
    convolutions = [m for m in features.modules() if isinstance(m, nn.Conv2d)]
    network = Upsampled(features, convolutions[-1].out_channels, num_classes)
    for layer in (network.hidden, network.fc):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network
