"""A detection study in a folder: colored squares, a detector of eleven hundred weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("red", "green")
SIZES = ((48, 64), (64, 48), (48, 48))

DETECTOR = '''
"""A detector of colored squares: each of 6 x 6 cells names a class and has one box."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from shrinkproof import Detections

CELLS = 6
SIDE = 48


class Squares(nn.Module):
    num_classes = 2
    rule = "score >= 0.05, best class of each cell, neighbors suppressed, at most 36 detections"

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.deep = nn.Conv2d(12, 12, 3, stride=2, padding=1)
        self.head = nn.Conv2d(12, 2, 4, stride=4)
        with torch.no_grad():
            for layer in (self.stem, self.deep, self.head):
                layer.weight.mul_(0.05)
                layer.bias.zero_()
            # Two channels carry redness and greenness to the cells; the others add noise.
            for color in (0, 1):
                self.stem.weight[color] = 0
                self.stem.weight[color, color, 1, 1] = 2
                self.stem.weight[color, 1 - color, 1, 1] = -2
                self.deep.weight[color] = 0
                self.deep.weight[color, color] = 1 / 9
                self.head.weight[color, color] = 0.5
            self.head.bias.fill_(-5)

    def forward(self, images):
        found = F.relu(self.norm(self.stem(images)))
        found = self.head(F.relu(self.deep(found)))
        return found.flatten(2).transpose(1, 2)

    def class_scores(self, outputs):
        return outputs

    def decode(self, outputs):
        return [self._one(each) for each in 1 / (1 + np.exp(-outputs.astype(np.float64)))]

    def _one(self, score):
        best = score.argmax(axis=1)
        value = score.max(axis=1)
        grid = value.reshape(CELLS, CELLS)
        padded = np.pad(grid, 1)
        around = np.max(
            [padded[i : i + CELLS, j : j + CELLS] for i in range(3) for j in range(3)], axis=0
        )
        place = np.flatnonzero((value >= 0.05) & (grid == around).ravel())
        row, column = np.divmod(place, CELLS)
        center = np.stack([column, row], axis=1) * (SIDE / CELLS) + SIDE / CELLS / 2
        return Detections(
            boxes=np.concatenate([center - 8, center + 8], axis=1),
            score=value[place],
            label=best[place].astype(np.int64),
            place=place.astype(np.int64),
        )

    def loss(self, outputs, target):
        wanted = torch.zeros_like(outputs)
        for image, truth in enumerate(target):
            center = (truth["boxes"][:, :2] + truth["boxes"][:, 2:]) / 2
            cell = (center / (SIDE / CELLS)).long().clamp(0, CELLS - 1)
            wanted[image, cell[:, 1] * CELLS + cell[:, 0], truth["labels"]] = 1
        return F.binary_cross_entropy_with_logits(outputs, wanted)


def build():
    return Squares()
'''

STUDY = """\
study: squares
task: detection

models:
  squares:
    use: import:squares:build
    preprocess: {mean: [0, 0, 0], std: [1, 1, 1]}
    input_shape: [3, 48, 48]
    seen: []

data:
  split: {from: "coco:boxes.json", train: 12, calibrate: 6, select: 12, report: rest}
  batch: 8

recipes:
  prune0.5:
    steps:
      - prune.weights: {ratio: 0.5}
      - finetune: {epochs: 1, learning_rate: 0.001, batch: 4}
  int8:
    steps:
      - quantize.static

conditions:
  gaussian_noise: [3]
  fog: [3]

measure:
  intervals: {replicates: 100}

controls: dense
select:
  minimize: [cost.bytes_zip]
  maximize: ["detection.ap50@clean"]
"""


def write_boxes(folder: Path, count: int = 72) -> None:
    """Write images of three sizes with up to two colored squares, and their annotations."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    listed, annotations = [], []
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        pixels = rng.integers(90, 120, (height, width, 3)).astype(np.uint8)
        for half in range(number % 3):
            side = int(rng.integers(14, 20))
            x = int(rng.integers(0, width // 2 - side + 4)) + half * (width // 2 - 4)
            y = int(rng.integers(0, height - side))
            x = min(x, width - side)
            kind = int(rng.integers(2))
            pixels[y : y + side, x : x + side] = (220, 40, 40) if kind == 0 else (40, 220, 40)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind + 1,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                }
            )
        name = f"{number:03}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        listed.append({"id": number, "file_name": name, "height": height, "width": width})
    content = {
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    (folder / "boxes.json").write_text(json.dumps(content), "utf-8")


def write_detection_study(folder: Path, text: str = STUDY) -> Path:
    """Write images, annotations, detector and study; return the study file."""
    write_boxes(folder)
    (folder / "squares.py").write_text(DETECTOR, "utf-8")
    path = folder / "study.yaml"
    path.write_text(text, "utf-8")
    return path
