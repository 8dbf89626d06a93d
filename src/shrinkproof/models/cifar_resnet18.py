"""ResNet-18 for small images: that of ImageNet with a 3x3 convolution in front and no pooling.

He et al. 2015 (arXiv:1512.03385), table 1, as it is widely used on CIFAR-10. Layers have the names
of torchvision's ``resnet18``, whose stem is 7x7 with a stride and followed by max pooling.
"""

from __future__ import annotations

from torch import Tensor, nn

from shrinkproof.errors import ModelError
from shrinkproof.models.cifar import Block


class CifarResNet18(nn.Module):
    """One convolution, four stages of two blocks, one linear layer.

    Args:
        num_classes: number of logits.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 2)
        self.layer4 = _stage(256, 512, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) from (N, 3, H, W)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.fc(self.pool(out).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        Block(inputs, outputs, stride, "project"), Block(outputs, outputs, 1, "project")
    )


def resnet18(num_classes: int = 10) -> CifarResNet18:
    """Return the network with freshly drawn weights, from torch's current random state.

    Args:
        num_classes: number of logits.

    Raises:
        ModelError: there are fewer than two classes.
    """
    if num_classes < 2:
        raise ModelError(f"resnet18: num_classes must be at least 2, got {num_classes}")
    return CifarResNet18(num_classes)
