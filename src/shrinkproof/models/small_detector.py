"""Small one-stage detectors without anchors that a CPU trains in minutes (after FCOS)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrinkproof.detecting import Detections
from shrinkproof.errors import ModelError
from shrinkproof.models.box_decoding import check_outputs
from shrinkproof.models.small_detector_boxes import (
    CANDIDATES,
    LARGEST,
    OVERLAP,
    SCORE_THRESHOLD,
    boxes_of,
    chosen_of,
    loss_of,
    places_of,
    scores_of,
)

# Shape suffixes: n images, P places, C classes.

_PRIOR: Final = 0.01
"""Score of every class at every place before training (Lin et al. 2017, section 4.1)."""


class Block(nn.Module):
    """Two 3x3 convolutions that halve height and width, and a projected shortcut.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(outputs)
        # One module per use, so that hooks and traces can tell them apart.
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        # Averaging before the projection loses no pixel (He et al. 2019, arXiv:1812.01187).
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2), _convolution(inputs, outputs, 1), nn.BatchNorm2d(outputs)
        )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, H / 2, W / 2) from (n, inputs, H, W)."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + self.downsample(x))  # type: ignore[no-any-return]


class SmallDetector(nn.Module):
    """Residual blocks, a feature pyramid, and for each level a head of two branches.

    At each place of each level the network says how likely each class is, how far the box's four
    edges are, and how central the place is in its box (Tian et al. 2019, arXiv:1904.01355). The
    levels share no weights, so that each has batch-norm statistics of its own.

    The output is (n, P, C + 5): logits of the classes; logarithms of the distances to the left,
    upper, right and lower edge in strides of the level; logit of the centerness. Places run row by
    row, finest level first.

    Args:
        widths: channels after the stem and after each block, each of which halves the size.
        levels: how many of the last blocks get a head.
        pyramid: channels of the pyramid and the heads.
        num_classes: number of classes of objects.
        input_shape: (3, H, W) of one input, H and W multiples of the largest stride.

    Raises:
        ModelError: the input has another shape, or there is no class.
    """

    def __init__(
        self,
        widths: Sequence[int],
        levels: int,
        pyramid: int,
        num_classes: int,
        input_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        strides = tuple(2 ** (len(widths) - levels + 1 + level) for level in range(levels))
        channels, *size = input_shape
        if channels != 3 or any(side < 1 or side % strides[-1] for side in size):
            raise ModelError(
                f"detector: 'input_shape' must be 3, height and width, both multiples of "
                f"{strides[-1]}, got {list(input_shape)}"
            )
        if num_classes < 1:
            raise ModelError(f"detector: num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.size = (size[0], size[1])
        self.places = places_of(self.size, strides)
        self.stem = _normalized(3, widths[0], 3, stride=2)
        self.blocks = nn.ModuleList(Block(inputs, outputs) for inputs, outputs in pairwise(widths))
        sources = widths[-levels:]
        self.laterals = nn.ModuleList(_normalized(width, pyramid, 1) for width in sources)
        self.upsamples = nn.ModuleList(nn.Upsample(scale_factor=2.0) for _ in sources[1:])
        self.smooth = nn.ModuleList(_normalized(pyramid, pyramid, 3) for _ in sources)
        self.box_towers = nn.ModuleList(_normalized(pyramid, pyramid, 3) for _ in sources)
        self.boxes = nn.ModuleList(_predictor(pyramid, 5) for _ in sources)
        self.class_towers = nn.ModuleList(_normalized(pyramid, pyramid, 3) for _ in sources)
        self.classes = nn.ModuleList(
            _predictor(pyramid, num_classes, first=-math.log(1 / _PRIOR - 1)) for _ in sources
        )

    @property
    def rule(self) -> str:
        """How boxes are chosen."""
        return (
            f"score sqrt(class x centerness) above {SCORE_THRESHOLD:g}, the best {CANDIDATES} of "
            f"an image, non-maximum suppression within a class above IoU {OVERLAP:g}, at most "
            f"{LARGEST} boxes"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, P, C + 5) from (n, 3, H, W)."""
        x = self.stem(x)
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        merged: Tensor | None = None
        found = []
        for level in reversed(range(len(self.laterals))):
            lateral = self.laterals[level](features[level - len(self.laterals)])
            merged = lateral if merged is None else lateral + self.upsamples[level](merged)
            found.append(self._head(level, self.smooth[level](merged)))
        return torch.cat(found[::-1], dim=2).transpose(1, 2)

    def _head(self, level: int, x: Tensor) -> Tensor:
        """Return what one level says, (n, C + 5, places of the level)."""
        scores = self.classes[level](self.class_towers[level](x))
        boxes = self.boxes[level](self.box_towers[level](x))
        return torch.cat([scores, boxes], dim=1).flatten(2)

    def loss(self, outputs: Tensor, target: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the sum of the three losses of FCOS, a scalar.

        Classes: focal loss over all places, divided by the places that have an object. Boxes: one
        minus generalized IoU, weighted by the true centerness. Centerness: binary cross entropy.

        Args:
            outputs: (n, P, C + 5).
            target: for each image ``boxes`` (g, 4) in input pixels and ``labels`` (g,) int64.
        """
        return loss_of(outputs.float(), target, self.places, self.num_classes)

    def read_weights(
        self, tensors: Mapping[str, Tensor]
    ) -> tuple[int | None, Mapping[str, Tensor]]:
        """Return the number of classes of a checkpoint, None where it is of another network."""
        last = tensors.get("classes.0.weight")
        return (None if last is None or not last.ndim else len(last)), tensors

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Return the logits of the classes, (n, P, C)."""
        return outputs[..., : self.num_classes]

    def decode(self, outputs: NDArray[np.float32]) -> list[Detections]:
        """Return the boxes in each image, best first; see ``rule``.

        Raises:
            DataError: the outputs are not (n, P, C + 5), or not finite.
        """
        check_outputs(outputs, (len(self.places.stride), self.num_classes + 5), "detector")
        tensor = torch.from_numpy(np.ascontiguousarray(outputs, dtype=np.float32))
        boxes = boxes_of(tensor[..., self.num_classes :], self.places).numpy()
        scores = scores_of(tensor, self.num_classes).numpy()
        return [chosen_of(*image, self.size) for image in zip(boxes, scores, strict=True)]


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, drawn as He et al. 2015 (arXiv:1502.01852)."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _normalized(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU."""
    return nn.Sequential(
        _convolution(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _predictor(inputs: int, outputs: int, first: float = 0.0) -> nn.Conv2d:
    """Return a 1x1 convolution whose outputs are close to a first value."""
    layer = nn.Conv2d(inputs, outputs, 1)
    assert layer.bias is not None, "predictors have a bias"
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, first)
    return layer


def fcos(
    widths: Sequence[int],
    levels: int,
    pyramid: int,
    input_shape: tuple[int, int, int],
    num_classes: int = 10,
) -> SmallDetector:
    """Return a small detector with freshly drawn weights, from torch's current random state.

    Arguments and errors: see `SmallDetector`.
    """
    return SmallDetector(widths, levels, pyramid, num_classes, input_shape)
