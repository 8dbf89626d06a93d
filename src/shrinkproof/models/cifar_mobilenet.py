"""MobileNetV2 for small images (Sandler et al. 2018, arXiv:1801.04381)."""

from __future__ import annotations

from typing import Final, NamedTuple

from torch import Tensor, nn

from shrinkproof.errors import ModelError


class Stage(NamedTuple):
    """Blocks of one width.

    Attributes:
        expansion: channels inside a block for each channel of its input.
        outputs: channels of a block's output.
        blocks: number of blocks.
        stride: of the first of them.
    """

    expansion: int
    outputs: int
    blocks: int
    stride: int


STAGES: Final = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 1),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
"""Table 2 of the publication; the second stage has stride 1 instead of 2 for small images."""


class ConvNormActivation(nn.Sequential):
    """A convolution without bias, batch normalization, and ReLU6.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: height and width of the kernel, odd.
        stride: of the convolution.
        groups: of the convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3), project (1x1); a shortcut where shapes agree.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the 3x3 convolution.
        expansion: channels inside for each channel of the input; 1 leaves the first layer out.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.is_residual = stride == 1 and inputs == outputs
        expand = [ConvNormActivation(inputs, inner, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            ConvNormActivation(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) from (N, inputs, H, W)."""
        out: Tensor = self.conv(x)
        return x + out if self.is_residual else out


class CifarMobileNetV2(nn.Module):
    """One convolution, seventeen inverted residuals, one 1x1 convolution, one linear layer.

    Args:
        num_classes: number of logits.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNormActivation(3, 32, 3)]
        inputs = 32
        for stage in STAGES:
            for position in range(stage.blocks):
                stride = stage.stride if position == 0 else 1
                layers.append(InvertedResidual(inputs, stage.outputs, stride, stage.expansion))
                inputs = stage.outputs
        layers.append(ConvNormActivation(inputs, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) from (N, 3, H, W)."""
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def mobilenet_v2(num_classes: int = 10) -> CifarMobileNetV2:
    """Return a MobileNetV2 of width 1.0 for small images with freshly drawn weights.

    Layers, shapes and names are those of torchvision, with stride 1 instead of 2 in the first
    convolution and in the stage of 24 channels, so that 32x32 pixels end as 4x4 (the variant of
    the published CIFAR checkpoints ``mobilenetv2_x1_0``). Convolutions are drawn as in He et al.
    2015 (arXiv:1502.01852) by their outputs, from torch's current random state.

    Args:
        num_classes: number of logits.

    Raises:
        ModelError: there is no such network.
    """
    if num_classes < 2:
        raise ModelError(f"mobilenet_v2: num_classes must be at least 2, got {num_classes}")
    return CifarMobileNetV2(num_classes)
