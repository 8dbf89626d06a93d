"""FastestDet for shrinkproof: what a detector of one's own needs, ``import:fastestdet:build``.

A network with one output tensor, and the members ``num_classes``, ``rule`` and ``decode``;
``class_scores`` besides, for explanations by gradients, but no ``loss``: it cannot be trained here.
Layers and names are those of the weights of https://github.com/dog-qiuqiu/FastestDet
(``weights/weight_AP05:0.253207_280-epoch.pth`` as .safetensors): a ShuffleNetV2 (Ma et al. 2018,
arXiv:1807.11164), one map of 22 x 22 cells, one box for each cell, 80 classes of COCO.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrinkproof.detecting import Detections
from shrinkproof.models.box_decoding import check_outputs, without_duplicates

# Shape suffixes: n images, h rows and w columns of cells, P = h * w cells, C classes.

SIDE: Final = 352
"""Height and width of the input in pixels."""

STRIDE: Final = 16
CLASSES: Final = 80
SCORE_THRESHOLD: Final = 0.001
OVERLAP: Final = 0.45
LARGEST: Final = 100


def layers(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    """Return convolution without bias, batch norm, and ReLU."""
    found = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*found, nn.ReLU()] if relu else found


class FirstBlock(nn.Module):
    """Two branches that halve height and width, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.branch_proj = nn.Sequential(
            *layers(inputs, inputs, 3, 2, groups=inputs, relu=False), *layers(inputs, half, 1)
        )
        self.branch_main = nn.Sequential(
            *layers(inputs, half, 1),
            *layers(half, half, 3, 2, groups=half, relu=False),
            *layers(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / 2, w / 2) from (n, inputs, h, w)."""
        return torch.cat([self.branch_proj(x), self.branch_main(x)], dim=1)


class OtherBlock(nn.Module):
    """Channels of even number pass, the others are transformed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch_main = nn.Sequential(
            *layers(half, half, 1),
            *layers(half, half, 3, groups=half, relu=False),
            *layers(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, width, h, w) from (n, width, h, w)."""
        return torch.cat([x[:, 0::2], self.branch_main(x[:, 1::2])], dim=1)


def stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """Return one stage of the backbone."""
    others = [OtherBlock(outputs) for _ in range(blocks - 1)]
    return nn.Sequential(FirstBlock(inputs, outputs), *others)


class Backbone(nn.Module):
    """ShuffleNetV2: maps of strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(*layers(3, 24, 3, 2))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stage2 = stage(24, 48, 4)
        self.stage3 = stage(48, 96, 8)
        self.stage4 = stage(96, 192, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return maps of 48, 96 and 192 channels."""
        fine = self.stage2(self.maxpool(self.first_conv(x)))
        middle = self.stage3(fine)
        return fine, middle, self.stage4(middle)


class Named(nn.Module):
    """Layers under the name that they have in the weights."""

    def __init__(self, name: str, *inner: nn.Module) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(*inner))
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layers make of x."""
        return self.get_submodule(self.name)(x)  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """One, two and three depthwise convolutions side by side, and what they read."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.Conv1x1 = Named("conv1x1", *layers(inputs, width, 1))
        self.S1, self.S2, self.S3 = (
            nn.Sequential(
                *(layer for _ in range(n) for layer in layers(width, width, 5, groups=width))
            )
            for n in (1, 2, 3)
        )
        self.output = nn.Sequential(*layers(3 * width, width, 1, relu=False))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, width, h, w) from (n, inputs, h, w)."""
        x = self.Conv1x1(x)
        joined = torch.cat([self.S1(x), self.S2(x), self.S3(x)], dim=1)
        return self.relu(x + self.output(joined))  # type: ignore[no-any-return]


class Head(nn.Module):
    """Objectness, box and classes of each cell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1x1 = Named("conv1x1", *layers(width, width, 1))
        self.obj_layers, self.reg_layers, self.cls_layers = (
            Named(
                "conv5x5",
                *layers(width, width, 5, groups=width),
                *layers(width, outputs, 1, relu=False),
            )
            for outputs in (1, 4, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, 5 + C, h, w), before any sigmoid, softmax or tanh."""
        x = self.conv1x1(x)
        return torch.cat([self.obj_layers(x), self.reg_layers(x), self.cls_layers(x)], dim=1)


class FastestDet(nn.Module):
    """The network and its rule."""

    num_classes = CLASSES
    rule = (
        f"score objectness^0.6 x class^0.4 above {SCORE_THRESHOLD:g}, one class for each of "
        f"{(SIDE // STRIDE) ** 2} cells, non-maximum suppression within a class above IoU "
        f"{OVERLAP:g}, at most {LARGEST} boxes"
    )

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.avg_pool = nn.AvgPool2d(3, 2, 1)
        self.upsample = nn.Upsample(scale_factor=2.0)
        self.SPP = Pyramid(336, 96)
        self.detect_head = Head(96)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, P, 5 + C) from (n, 3, SIDE, SIDE), red, green, blue, 0 to 1."""
        # The weights were trained on blue, green, red.
        fine, middle, coarse = self.backbone(x[:, [2, 1, 0]])
        joined = torch.cat([self.avg_pool(fine), middle, self.upsample(coarse)], dim=1)
        found: Tensor = self.detect_head(self.SPP(joined))
        return found.flatten(2).transpose(1, 2)

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Return the logits of the classes at each cell, (n, P, C)."""
        return outputs[..., 5:]

    def decode(self, outputs: NDArray[np.float32]) -> list[Detections]:
        """Return what is left in each image, best first."""
        side = SIDE // STRIDE
        check_outputs(outputs, (side * side, 5 + CLASSES), "FastestDet")
        objectness, classes = _sigmoid(outputs[..., 0]), _softmax(outputs[..., 5:])
        score_nP = objectness**0.6 * classes.max(axis=-1) ** 0.4
        row, column = np.divmod(np.arange(side * side), side)
        center = np.stack([column, row], axis=-1) + np.tanh(outputs[..., 1:3])
        half = _sigmoid(outputs[..., 3:5]) * SIDE / 2
        boxes = np.concatenate([center * STRIDE - half, center * STRIDE + half], axis=-1)
        return [
            self._chosen(*image)
            for image in zip(
                boxes.astype(np.float32), score_nP, classes.argmax(axis=-1), strict=True
            )
        ]

    def _chosen(
        self, boxes: NDArray[np.float32], score: NDArray[np.float32], label: NDArray[np.int64]
    ) -> Detections:
        place = np.flatnonzero(score > SCORE_THRESHOLD)
        kept = without_duplicates(
            boxes[place], score[place], label[place], overlap=OVERLAP, largest=LARGEST
        )
        place = place[kept]
        return Detections(boxes=boxes[place], score=score[place], label=label[place], place=place)


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 + 0.5 * np.tanh(x / 2), dtype=np.float32)


def _softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def build() -> nn.Module:
    """Return the network without trained weights."""
    return FastestDet()
