"""What a method for heat maps of boxes is given: images, a detector, and the boxes it explains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions.boxes import ExplainedBoxes, area, intersection, overlap
from shrinkproof.data.division import stratified
from shrinkproof.detecting import Detections, Detector
from shrinkproof.errors import DataError
from shrinkproof.evaluators.onlooker import PIXELS, Onlooker
from shrinkproof.evaluators.subject import Scene
from shrinkproof.metrics.heatmaps import NO_OBJECT, UNTOLD
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import Objects

if TYPE_CHECKING:
    from torch import nn

# Shape suffixes: n images, m boxes, g objects, H height, W width.

THUMBNAIL: Final = 128
"""Longest side of the stored pictures, pixels; boxes are small parts of them."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxOnlooker:
    """A candidate as methods for heat maps of boxes see it.

    Attributes:
        onlooker: the network or its predictions, with the layer to look at.
        detector: makes boxes and class scores of what the network returns.
    """

    onlooker: Onlooker
    detector: Detector

    @property
    def module(self) -> nn.Module | None:
        """The network; None where only predictions can be had."""
        return self.onlooker.module

    @property
    def layer(self) -> str | None:
        """Name of the layer to look at; whoever asks for it looks at it."""
        return self.onlooker.layer

    @property
    def black(self) -> NDArray[np.float32]:
        """A black pixel as the network is given it, (C,)."""
        return self.onlooker.black

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's output (n, ...) of inputs (n, C, H, W)."""
        return self.onlooker.predict(inputs)


@dataclass(frozen=True, slots=True, eq=False)
class ShownScene:
    """The images whose boxes heat maps explain.

    Attributes:
        objects: what is true of the images.
        index: (n,) int64, index of each image in its data set.
        groups: (n,) group of each image; its index where images are independent, because the boxes
            of one image are not.
        parts: positions and pixels (k, H, W, 3) uint8 of images of one size, under the condition.
        batch: images per run of a network, at most.
    """

    objects: Objects
    index: NDArray[np.int64]
    groups: NDArray[np.str_]
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.uint8]]]
    batch: int

    @classmethod
    def of(cls, scene: Scene, count: int) -> ShownScene:
        """Return ``count`` images of a scene, the same ones every time.

        Raises:
            DataError: there are none, or they have no annotated objects.
        """
        chosen = stratified(scene.images, min(count, len(scene.images)))
        if not len(chosen):
            raise DataError("heat maps: there must be at least one image, got none")
        groups = chosen.index.astype(np.str_) if chosen.groups is None else chosen.groups
        parts = list(replace(scene, images=chosen).batches())
        return cls(chosen.objects, chosen.index, groups, parts, scene.batch)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)

    def inputs(
        self, preprocess: Preprocess, wanted: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield which images, and what a network is given of them; never too many at once.

        Maps do not depend on the batch.

        Args:
            preprocess: from uint8 images to inputs.
            wanted: positions of the images to yield, rising.
        """
        for positions, pixels in self.parts:
            rows = np.flatnonzero(np.isin(positions, wanted))
            height, width = preprocess.size or pixels.shape[1:3]
            size = max(1, min(self.batch, PIXELS // (height * width)))
            for start in range(0, len(rows), size):
                which = rows[start : start + size]
                yield positions[which], preprocess(pixels[which])

    def everything(self) -> NDArray[np.int64]:
        """Return the positions of all images."""
        return np.arange(len(self), dtype=np.int64)

    def pictures(self, preprocess: Preprocess, images: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return what a network sees of some images, longer side at most 128 pixels, uint8.

        Args:
            preprocess: from uint8 images to inputs.
            images: (m,) positions, one per box.

        Returns:
            (m, h, w, 3), one picture per box.
        """
        wanted = np.unique(images)
        small: dict[int, NDArray[np.uint8]] = {}
        for positions, inputs in self.inputs(preprocess, wanted):
            levels = inputs.transpose(0, 2, 3, 1) * np.asarray(preprocess.std)
            pixels = np.rint((levels + np.asarray(preprocess.mean)) * 255).clip(0, 255)
            for position, image in zip(positions.tolist(), pixels.astype(np.uint8), strict=True):
                small[position] = _thumbnail(image)
        if not small:
            return np.zeros((0, 1, 1, 3), dtype=np.uint8)
        return np.stack([small[position] for position in images.tolist()])


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= THUMBNAIL:
        return image
    from PIL import Image

    size = (max(1, width * THUMBNAIL // longest), max(1, height * THUMBNAIL // longest))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def best_boxes(
    found: Sequence[Detections], score: float, most: int
) -> tuple[ExplainedBoxes, NDArray[np.float32]]:
    """Return the boxes with the highest scores of each image, and their scores (m,).

    Args:
        found: what was found in each image.
        score: boxes below it are left out.
        most: number of boxes per image, at most.
    """
    rows = []
    for one in found:
        order = np.argsort(-one.score, kind="stable")[:most]
        rows.append(order[one.score[order] >= score])
    image = np.repeat(np.arange(len(found)), [len(chosen) for chosen in rows]).astype(np.int64)
    return boxes_at(found, rows, image)


def boxes_at(
    found: Sequence[Detections], rows: Sequence[NDArray[np.int64]], image: NDArray[np.int64]
) -> tuple[ExplainedBoxes, NDArray[np.float32]]:
    """Return the given detections of each image, and their scores (m,).

    Args:
        found: what was found in each image.
        rows: which of it, for each image.
        image: (m,) position of the image of each box.
    """
    pairs = list(zip(found, rows, strict=True))
    places = [None if one.place is None else one.place[chosen] for one, chosen in pairs]
    known = [place for place in places if place is not None]
    boxes = ExplainedBoxes(
        image=image,
        boxes=_joined([one.boxes[chosen] for one, chosen in pairs], (0, 4), np.float32),
        label=_joined([one.label[chosen] for one, chosen in pairs], (0,), np.int64),
        place=_joined(known, (0,), np.int64) if len(known) == len(places) else None,
    )
    return boxes, _joined([one.score[chosen] for one, chosen in pairs], (0,), np.float32)


def _joined(parts: Sequence[NDArray[Any]], empty: tuple[int, ...], kind: type) -> NDArray[Any]:
    return np.concatenate([np.empty(empty, dtype=kind), *parts]).astype(kind)


def counterparts(boxes: ExplainedBoxes, found: Detections, least: float) -> NDArray[np.int64]:
    """Return for each of an image's boxes the detection that is the same one, (m,), or -1.

    Pairs of one class are formed by falling IoU, each box and each detection in one pair at most.
    Ties go to the earlier box, then to the earlier detection.

    Args:
        boxes: of one image.
        found: what another network found in that image, of any score.
        least: IoU of a pair, at least.
    """
    quality_mk = overlap(boxes.boxes, found.boxes) * (boxes.label[:, None] == found.label[None])
    partner = np.full(len(boxes), -1, dtype=np.int64)
    if not quality_mk.size:
        return partner
    taken = np.zeros(quality_mk.shape[1], dtype=bool)
    for pair in np.argsort(-quality_mk, axis=None, kind="stable"):
        box, detection = np.unravel_index(pair, quality_mk.shape)
        if quality_mk[box, detection] < least or not quality_mk[box, detection]:
            break
        if partner[box] < 0 and not taken[detection]:
            partner[box], taken[detection] = detection, True
    return partner


def true_classes(
    boxes: ExplainedBoxes, shown: ShownScene, preprocess: Preprocess, least: float
) -> NDArray[np.int64]:
    """Return the class of the object that each box is of, (m,).

    That is an object of the box's own class if one overlaps with the box by at least ``least``
    (IoU), else the object that overlaps most, if it does by so much; ``NO_OBJECT`` where none
    does, or ``UNTOLD`` where at least half of the box lies in a crowd of its class.
    """
    objects, found = shown.objects, np.full(len(boxes), NO_OBJECT, dtype=np.int64)
    for row, (position, label) in enumerate(zip(boxes.image, boxes.label, strict=True)):
        within = slice(objects.offsets[position], objects.offsets[position + 1])
        height, width = objects.sizes[position].tolist()
        true_g4 = preprocess.to_input(objects.boxes[within], (height, width))
        label_g, crowd_g = objects.label[within], objects.crowd[within]
        box_14 = boxes.boxes[row : row + 1]
        shared_g = np.where(crowd_g, 0, overlap(box_14, true_g4)[0])
        own_g = label_g == label
        inside_g = intersection(box_14, true_g4)[0] >= 0.5 * area(box_14)[0]
        if (shared_g[own_g] >= least).any():
            found[row] = label
        elif (inside_g & crowd_g & own_g).any():
            found[row] = UNTOLD
        elif shared_g.max(initial=0) >= least:
            found[row] = label_g[shared_g.argmax()]
    return found
