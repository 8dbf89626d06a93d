"""The ResNet-8 of MLPerf Tiny for shrinkproof: ``arch: import:mlperftiny_resnet8:build``.

Layers and names are those of the published weights of https://github.com/mlcommons/tiny
(``benchmark/training/image_classification/trained_models/pretrainedResnet.h5``) as .safetensors:
three blocks of 16, 32 and 64 channels, convolutions with bias, padding as TensorFlow's ``same``.
The input is red, green, blue from 0 to 255: ``preprocess: {std: [1/255, 1/255, 1/255]}``, each
written as a number.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-3
"""What batch normalization adds to the variance in Keras."""


def norm(width: int) -> nn.BatchNorm2d:
    """Return batch normalization with torch's momentum: Keras's is too slow for short trainings."""
    return nn.BatchNorm2d(width, eps=EPSILON)


class PadBelow(nn.Module):
    """Zeros at the right and at the bottom only, for a 3x3 convolution with stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, c, h + 1, w + 1)."""
        return F.pad(x, (0, 1, 0, 1))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.pad = PadBelow() if stride == 2 else nn.Identity()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 0 if stride == 2 else 1)
        self.bn1 = norm(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.bn2 = norm(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride == 2 else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / stride, w / stride) from (n, inputs, h, w)."""
        out = self.relu1(self.bn1(self.conv1(self.pad(x))))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))  # type: ignore[no-any-return]


class ResNet8(nn.Module):
    """One convolution, three blocks, global average pooling, one linear layer; ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1)
        self.bn1 = norm(16)
        self.relu = nn.ReLU()
        self.block1 = Block(16, 16, 1)
        self.block2 = Block(16, 32, 2)
        self.block3 = Block(32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, 10) from (n, 3, 32, 32), 0 to 255."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.block3(self.block2(self.block1(out)))
        logits: Tensor = self.fc(self.pool(out).flatten(1))
        return logits


def build() -> nn.Module:
    """Return the network without trained weights."""
    return ResNet8()
