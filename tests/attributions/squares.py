"""Colored squares on gray, and a detector of them whose weights are written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.detecting import Detections
from shrinkproof.predictions import Objects

SIDE = 16
STRIDE = 4
SHAPE = (48, 64)
COLORS = ((220, 30, 30), (30, 220, 30))


class Squares(nn.Module):
    """One score for red and one for green at each of 12x16 places, with a box of 16x16 pixels."""

    num_classes = 2
    rule = "score >= 0.05, one box of a class within 16 pixels, at most 100 detections"

    def __init__(self, gain: float = 40.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.pool = nn.AvgPool2d(STRIDE)
        self.around = nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
        self.head = nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.stem.weight.zero_()
            self.stem.bias.zero_()
            for channel, color in ((0, 0), (1, 1)):
                self.stem.weight[channel, color, 1, 1] = 1
                self.stem.weight[channel, 1 - color, 1, 1] = -1
            # Two channels that see brightness, which speaks for nothing.
            self.stem.weight[2:, :, 1, 1] = 0.1
            # Highest in the middle of a square, so that its own box wins.
            near = torch.tensor([1.0, 2, 3, 2, 1])
            self.around.weight.copy_((near[:, None] * near / near.sum() ** 2).expand(4, 1, 5, 5))
            self.head.weight.zero_()
            self.head.weight[0, 0] = self.head.weight[1, 1] = gain
            self.head.bias.fill_(-0.35 * gain)
        self.eval()

    def forward(self, images):
        found = self.head(self.around(self.pool(self.act(self.stem(images)))))
        return found.flatten(2).mT

    def class_scores(self, outputs):
        return outputs

    def decode(self, outputs):
        return [self._of_image(one) for one in outputs]

    def _of_image(self, logits_PC):
        score_PC = 1 / (1 + np.exp(-logits_PC.astype(np.float64)))
        columns = SHAPE[1] // STRIDE
        places, labels = np.nonzero(score_PC >= 0.05)
        order = np.argsort(-score_PC[places, labels], kind="stable")
        places, labels = places[order], labels[order]
        kept: list[tuple[int, int]] = []
        for place, label in zip(places.tolist(), labels.tolist(), strict=True):
            row, column = divmod(place, columns)
            near = any(
                label == other and max(abs(row - at // columns), abs(column - at % columns)) < 4
                for at, other in kept
            )
            if not near:
                kept.append((place, label))
        place = np.array([p for p, _ in kept], dtype=np.int64)
        label = np.array([c for _, c in kept], dtype=np.int64)
        x, y = (place % columns + 0.5) * STRIDE, (place // columns + 0.5) * STRIDE
        middle = np.stack([x, y], axis=1).reshape(-1, 2)
        boxes = np.concatenate([middle - SIDE / 2, middle + SIDE / 2], axis=1)
        return Detections(
            boxes.astype(np.float32), score_PC[place, label].astype(np.float32), label, place
        )


def painted(squares: list[tuple[int, int, int]]) -> np.ndarray:
    """Return an image with squares of ``(class, x, y)``, (48, 64, 3) uint8."""
    image = np.full((*SHAPE, 3), 90, dtype=np.uint8)
    for label, x, y in squares:
        image[y : y + SIDE, x : x + SIDE] = COLORS[label]
    return image


def scenes(count: int = 8, seed: int = 0) -> ImageSet:
    """Return images with a square of one color at the left and of either color at the right.

    Every fourth image is empty.
    """
    draws = np.random.default_rng(seed)
    images, boxes, labels, counts = [], [], [], []
    for number in range(count):
        squares = []
        if number % 4 != 3:
            for column in (0, 1):
                x = int(draws.integers(2, 14)) + 32 * column
                squares.append((int(draws.integers(0, 2)), x, int(draws.integers(2, 30))))
        images.append(painted(squares))
        counts.append(len(squares))
        labels += [label for label, _, _ in squares]
        boxes += [(x, y, x + SIDE, y + SIDE) for _, x, y in squares]
    pixels = np.stack(images) + draws.integers(0, 20, (count, *SHAPE, 3), dtype=np.uint8)
    return ImageSet(
        source="squares",
        images=pixels,
        shape=SHAPE,
        target=objects(boxes, labels, counts),
        classes=("red", "green"),
        index=np.arange(count, dtype=np.int64),
        hashes=hash_pixels(pixels),
    )


def objects(boxes: Any, labels: Any, counts: Any, crowd: Any = None) -> Objects:
    """Return annotated objects of images of 48x64 pixels."""
    found = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return Objects(
        boxes=found,
        label=np.asarray(labels, dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        crowd=np.zeros(len(found), bool) if crowd is None else np.asarray(crowd),
        area=(found[:, 2:] - found[:, :2]).prod(axis=1),
        sizes=np.full((len(counts), 2), SHAPE, dtype=np.int64),
    )


class Seen:
    """A detector as methods for heat maps see it."""

    def __init__(self, module: Any, layer: str | None = None, *, has_module: bool = True) -> None:
        self.module = module if has_module else None
        self.layer = layer
        self.detector = module
        self.black = np.zeros(3, dtype=np.float32)
        self.asked = 0

    def predict(self, inputs):
        self.asked += len(inputs)
        with torch.no_grad():
            return self.detector(torch.from_numpy(inputs)).numpy()


def share_inside(map_hw: np.ndarray, box: np.ndarray) -> float:
    """Return which part of a map's positive values lies in a box given in pixels."""
    height, width = map_hw.shape
    tall, wide = SHAPE[0] / height, SHAPE[1] / width
    y, x = (np.arange(height) + 0.5) * tall, (np.arange(width) + 0.5) * wide
    inside = ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))
    positive = np.maximum(map_hw, 0)
    return float(positive[inside].sum() / positive.sum())
