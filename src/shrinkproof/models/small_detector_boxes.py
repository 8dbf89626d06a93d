"""Boxes without weights for small detectors: places, who learns what, the loss, suppression."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from shrinkproof.detecting import Detections
from shrinkproof.models.box_decoding import without_duplicates
from shrinkproof.torchvision_ops import ensure

# Shape suffixes: n images, P places, g objects of one image, C classes.

SCORE_THRESHOLD: Final = 0.05
CANDIDATES: Final = 1000
"""Most pairs of place and class of an image that are compared with each other."""

OVERLAP: Final = 0.6
LARGEST: Final = 100

_RADIUS: Final = 1.5
"""How far from the center of an object its places lie, in strides."""

_REACH: Final = 4.0
"""Farthest edge that a level learns, in strides; the coarsest level learns all farther ones."""

_LARGEST_LOG: Final = 6.0
"""Largest logarithm of a distance in strides: beyond every image, below overflow."""


class Places(NamedTuple):
    """Where boxes are predicted, finest level first, row by row.

    Attributes:
        center: (P, 2) float32, x and y in input pixels.
        stride: (P,) float32, pixels between neighboring places.
        near: (P,) float32, boxes whose farthest edge is nearer belong to a finer level.
        far: (P,) float32, boxes whose farthest edge is farther belong to a coarser level.
    """

    center: Tensor
    stride: Tensor
    near: Tensor
    far: Tensor

    def to(self, device: torch.device) -> Places:
        """Return the same places on a device."""
        return Places(*(tensor.to(device) for tensor in self))


def places_of(size: tuple[int, int], strides: Sequence[int]) -> Places:
    """Return the places of an input (H, W) whose sides are multiples of all strides."""
    edges = [0.0, *(_REACH * stride for stride in strides[:-1]), math.inf]
    columns: list[list[Tensor]] = [[], [], [], []]
    for stride, (near, far) in zip(strides, pairwise(edges), strict=True):
        y, x = (stride * (torch.arange(side // stride) + 0.5) for side in size)
        centers = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
        columns[0].append(centers)
        for column, value in zip(columns[1:], (stride, near, far), strict=True):
            column.append(torch.full((len(centers),), float(value)))
    return Places(*(torch.cat(column) for column in columns))


def boxes_of(predicted: Tensor, places: Places) -> Tensor:
    """Return boxes (..., P, 4) in input pixels, unclipped, from logarithms (..., P, 4 or more)."""
    reach = places.stride[:, None] * predicted[..., :4].clamp(max=_LARGEST_LOG).exp()
    return torch.cat([places.center - reach[..., :2], places.center + reach[..., 2:]], dim=-1)


def scores_of(outputs: Tensor, num_classes: int) -> Tensor:
    """Return the score of every class at every place, (n, P, C), 0 to 1.

    The geometric mean of class and centerness, which keeps the order of FCOS's product.
    """
    classes, centerness = outputs[..., :num_classes], outputs[..., -1:]
    return (classes.sigmoid() * centerness.sigmoid()).sqrt()


def assigned(boxes: Tensor, places: Places) -> Tensor:
    """Return which object each place learns, (P,) int64, -1 for none.

    A place learns an object if it lies inside the box, within 1.5 strides of the box's center in
    both directions, and its level is the one for the distance to the farthest edge; of several
    objects the smallest (Tian et al. 2019, arXiv:1904.01355, section 3.2, and its center
    sampling). An object that contains no place of its level teaches nothing.

    Args:
        boxes: (g, 4) in input pixels.
        places: where boxes are predicted.
    """
    if not len(boxes):
        return torch.full((len(places.stride),), -1, dtype=torch.int64, device=boxes.device)
    distances = _distances(places.center[:, None], boxes[None])
    offset = (places.center[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(dim=-1)
    farthest = distances.amax(dim=-1)
    learns = (
        (distances.amin(dim=-1) > 0)
        & (offset < _RADIUS * places.stride[:, None])
        & (farthest > places.near[:, None])
        & (farthest <= places.far[:, None])
    )
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest, chosen = torch.where(learns, area, math.inf).min(dim=1)
    return torch.where(smallest < math.inf, chosen, -1)


def loss_of(
    outputs: Tensor, target: Sequence[Mapping[str, Tensor]], places: Places, num_classes: int
) -> Tensor:
    """Return focal loss, generalized IoU loss and centerness loss of a batch, summed, a scalar.

    Args:
        outputs: (n, P, C + 5) float32.
        target: for each image ``boxes`` (g, 4) and ``labels`` (g,).
        places: where boxes are predicted.
        num_classes: C.
    """
    ensure()
    from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

    places = places.to(outputs.device)
    truth = [assigned(each["boxes"], places) for each in target]
    wanted = torch.zeros_like(outputs[..., :num_classes])
    boxes = []
    for image, (each, chosen) in enumerate(zip(target, truth, strict=True)):
        positive = chosen >= 0
        wanted[image, positive, each["labels"][chosen[positive]]] = 1.0
        boxes.append(each["boxes"][chosen[positive]])
    positive = torch.stack(truth) >= 0
    box, count = torch.cat(boxes), positive.sum().clamp(min=1)
    center = places.center.expand(len(target), -1, -1)[positive]
    near = _centerness(_distances(center, box))
    found = boxes_of(outputs[..., num_classes:], places)[positive]
    focal = sigmoid_focal_loss(outputs[..., :num_classes], wanted, reduction="sum") / count
    overlap = generalized_box_iou_loss(found, box) * near
    central = F.binary_cross_entropy_with_logits(outputs[..., -1][positive], near, reduction="sum")
    total: Tensor = focal + overlap.sum() / near.sum().clamp(min=1e-6) + central / count
    return total


def chosen_of(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], size: tuple[int, int]
) -> Detections:
    """Return the boxes of one image that stay, best first.

    Args:
        boxes: (P, 4) in input pixels.
        scores: (P, C), 0 to 1.
        size: (H, W) that boxes are clipped to.
    """
    place, label = np.nonzero(scores > SCORE_THRESHOLD)
    best = np.argsort(-scores[place, label], kind="stable")[:CANDIDATES]
    place, label = place[best], label[best]
    score = scores[place, label]
    height, width = size
    box = np.clip(boxes[place], 0, np.array([width, height, width, height], dtype=np.float32))
    kept = without_duplicates(box, score, label, overlap=OVERLAP, largest=LARGEST)
    return Detections(boxes=box[kept], score=score[kept], label=label[kept], place=place[kept])


def _distances(centers: Tensor, boxes: Tensor) -> Tensor:
    """Return the distances to the left, upper, right and lower edge, negative outside."""
    return torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=-1)


def _centerness(distances: Tensor) -> Tensor:
    """Return 1 in the middle of a box and 0 at its edge (Tian et al. 2019, equation 3)."""
    (left, top, right, bottom) = distances.unbind(dim=-1)
    return torch.sqrt(
        (torch.minimum(left, right) / torch.maximum(left, right))
        * (torch.minimum(top, bottom) / torch.maximum(top, bottom))
    )
