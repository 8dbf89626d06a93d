"""A network, images and a corruption whose every number is known beforehand.

Each image is one color. Red says how sure the network is (a row of CONFIDENCE), green which class
it predicts. So confidence, accuracy and error under the planted corruption are closed-form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.protocols import Draws
from shrinkproof.registry import component

CLASSES = 4
CONFIDENCE = (0.55, 0.65, 0.75, 0.85, 0.95)
"""Largest softmax probability of the five kinds of images; each in a bin of its own."""

PER_KIND = 200
"""Images of each kind; a share of CONFIDENCE of them is right, so the network is calibrated."""

COUNT = PER_KIND * len(CONFIDENCE)
ACCURACY = float(np.mean(CONFIDENCE))

NETWORK = '''
import math

import torch
from torch import nn

CONFIDENCE = {confidence}
CLASSES = {classes}


class Planted(nn.Module):
    """Reads the color of an image and looks its logits up."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)  # the identity: something to compress
        self.linear = nn.Linear(len(CONFIDENCE) * CLASSES, CLASSES, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            for row, top in enumerate(CONFIDENCE):
                rest = math.log((1 - top) / (CLASSES - 1))
                for cls in range(CLASSES):
                    column = torch.full((CLASSES,), rest)
                    column[(cls + {shift}) % CLASSES] = math.log(top)
                    self.linear.weight[:, row * CLASSES + cls] = column

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        color = self.conv(x).mean((2, 3)) * 255 / 10
        code = torch.round(color[:, :1]) * CLASSES + torch.round(color[:, 1:2])
        cells = torch.arange(len(CONFIDENCE) * CLASSES, dtype=x.dtype)
        # A triangle of width 1 around the code: exactly one-hot for whole numbers.
        one_hot = torch.clamp(1 - torch.abs(code - cells), min=0)
        return self.linear(one_hot)


def network() -> nn.Module:
    return Planted()
'''

STUDY = """
study: planted
models:
  net:
    use: import:{module}:network
    classes: {classes}
    preprocess: {{mean: [0, 0, 0], std: {std}}}
    input_shape: [3, 16, 16]
    seen: []
data:
  select: arrays:select.npz
  report: arrays:report.npz
  preset: cifar
  batch: 64
recipes:
  identity:
    steps:
      - cluster: {{levels: 32, layers: conv, minimum_size: 1}}
conditions:
  planted: [1, 2, 3]
measure:
  scores: [accuracy.top1, accuracy.nll, accuracy.brier, calibration.ece,
           calibration.ece_equal_mass]
  intervals: {{replicates: 200}}
select:
  minimize: [robustness.mean_error, cost.bytes]
  require: ["accuracy.top1@clean >= 0.5"]
"""


def write_images(path: Path, salt: int) -> None:
    """Write 1,000 images; of the kind k exactly CONFIDENCE[k] of 200 are predicted right.

    The true class of image i is i mod 4. Blue makes each image different from those of the other
    file, so that no split contains another's images.
    """
    kind = np.repeat(np.arange(len(CONFIDENCE)), PER_KIND)
    position = np.tile(np.arange(PER_KIND), len(CONFIDENCE))
    target = np.arange(COUNT) % CLASSES
    right = position < np.round(np.array(CONFIDENCE)[kind] * PER_KIND)
    predicted = np.where(right, target, (target + 1) % CLASSES)
    colors = np.stack([10 * kind, 10 * predicted, np.full(COUNT, salt)], axis=1)
    images = np.broadcast_to(colors[:, None, None, :], (COUNT, 16, 16, 3)).astype(np.uint8)
    # One pixel of blue carries the number of the image: hashes differ, the mean color does not.
    images = images.copy()
    images[:, 0, 0, 2] = np.arange(COUNT) % 256
    images[:, 0, 1, 2] = np.arange(COUNT) // 256
    np.savez(path, images=images, target=target.astype(np.int64))


def write_study(folder: Path, *, shift: int = 0, std: str = "[1, 1, 1]") -> Path:
    """Write the study; a ``shift`` gives the network a wrong order of classes."""
    folder.mkdir(parents=True)
    module = f"planted_{abs(hash(str(folder))) % 10**8}"
    text = NETWORK.format(confidence=CONFIDENCE, classes=CLASSES, shift=shift)
    (folder / f"{module}.py").write_text(text)
    write_images(folder / "select.npz", 1)
    write_images(folder / "report.npz", 2)
    file = folder / "study.yaml"
    file.write_text(STUDY.format(module=module, classes=CLASSES, std=std))
    return file


@component
class Planted:
    """Turns the prediction of the first s tenths of all images into a wrong one.

    Green, the predicted class, moves on by two: right predictions become wrong, and the wrong
    ones (one class off) become wrong by three.

    Input: images (N, H, W, 3) uint8.
    Output: images (N, H, W, 3) uint8.
    Reference: ours, for tests.
    """

    name: ClassVar[str] = "planted"
    family: ClassVar[str] = "noise"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> dict[str, NDArray[Any]]:
        """Return which images are hit; it depends on their index alone."""
        index = streams.index  # type: ignore[attr-defined]  # our own Streams
        return {"hit": index % 10 < severity}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: dict[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images with another predicted class."""
        changed = images.copy()
        green = changed[draws["hit"], :, :, 1]
        changed[draws["hit"], :, :, 1] = (green + 20) % (10 * CLASSES)
        return changed
