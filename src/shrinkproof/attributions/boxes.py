"""Which boxes are explained, and the contract of the methods that explain them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions.images import check_finite
from shrinkproof.detecting import Detections, Detector
from shrinkproof.errors import DataError
from shrinkproof.protocols import Explained

# Shape suffixes: n images, m boxes, k other boxes.


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedBoxes:
    """The boxes of several images that heat maps explain.

    Attributes:
        image: (m,) int64, position of each box's image; never falls from one box to the next.
        boxes: (m, 4) float32 ``x1, y1, x2, y2`` in pixels of the network's input.
        label: (m,) int64, class of each box, 0 to C - 1.
        place: (m,) int64, row of the detector's ``class_scores`` that each box comes from; None
            where nobody knows.
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float32]
    label: NDArray[np.int64]
    place: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check that everything is about the same boxes.

        Raises:
            DataError: a column has another length, or the boxes are not in the order of the images.
        """
        count = len(self.image)
        columns: dict[str, NDArray[Any] | None] = {
            "boxes": self.boxes,
            "label": self.label,
            "place": self.place,
        }
        for name, values in columns.items():
            if values is not None and len(values) != count:
                raise DataError(
                    f"explained boxes: {name} must have one entry per box ({count}), got "
                    f"{len(values)}"
                )
        if (np.diff(self.image) < 0).any():
            raise DataError(
                "explained boxes: must be in the order of their images, got "
                f"{self.image.tolist()[:8]}; sort them"
            )

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.image)

    def of(self, images: NDArray[np.int64]) -> tuple[NDArray[np.int64], ExplainedBoxes]:
        """Return the rows that are about some images, and their boxes.

        Args:
            images: (k,) positions, rising; ``image`` of the boxes that are returned counts these.
        """
        rows = np.flatnonzero(np.isin(self.image, images))
        return rows, ExplainedBoxes(
            image=np.searchsorted(images, self.image[rows]).astype(np.int64),
            boxes=self.boxes[rows],
            label=self.label[rows],
            place=None if self.place is None else self.place[rows],
        )

    def rounds(self) -> Iterator[NDArray[np.int64]]:
        """Yield rows with at most one box of each image, until every box was there once."""
        first = np.searchsorted(self.image, self.image)
        rank = np.arange(len(self)) - first
        for number in range(int(rank.max(initial=-1)) + 1):
            yield np.flatnonzero(rank == number)


class ExplainedDetector(Explained, Protocol):
    """What heat maps of boxes are made of; ``predict`` returns the network's output as it is."""

    @property
    def detector(self) -> Detector:
        """Makes boxes and class scores of what the network returns."""
        ...


class BoxAttribution(Protocol):
    """A heat map per detected box: how much each place of the image counts for it.

    ``needs`` says what the candidate must offer: ``gradients`` its network, ``predictions`` only
    what it predicts. A map depends on its image, its box and the named random stream alone, never
    on the batch or on other boxes: with the same stream, networks are shown the same masks. A
    constant map is returned as it is; one that is not finite is refused. The candidate stays as it
    was: weights, gradients, hooks and training mode.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[Literal["gradients", "activations", "predictions"]]

    @property
    def is_signed(self) -> bool:
        """True where negative values speak against the box; else none is negative."""
        ...

    def maps(
        self,
        subject: ExplainedDetector,
        inputs: NDArray[np.float32],
        boxes: ExplainedBoxes,
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (m, h, w) of boxes in preprocessed inputs (n, C, H, W).

        Raises:
            UsageError: the candidate does not offer what the method needs.
            DataError: the inputs or boxes do not fit, or a map is not finite.
        """
        ...

    def resolution(
        self, subject: ExplainedDetector, inputs: NDArray[np.float32]
    ) -> tuple[int, int]:
        """Return how many places a map tells apart, (rows, columns); it may have more pixels."""
        ...


def check_boxes(method: str, inputs: NDArray[np.float32], boxes: ExplainedBoxes) -> None:
    """Refuse inputs and boxes that are not what the contract says.

    Raises:
        DataError: shape or type is wrong, there is no box, or a box is of no image.
    """
    if inputs.ndim != 4 or inputs.dtype != np.float32 or not inputs.size:
        raise DataError(
            f"{method}: inputs must be (n, C, H, W) float32 with at least one image, got "
            f"{inputs.shape} {inputs.dtype}"
        )
    if not len(boxes):
        raise DataError(f"{method}: there must be at least one box to explain, got none")
    if boxes.image[0] < 0 or boxes.image[-1] >= len(inputs):
        raise DataError(
            f"{method}: boxes must be of images 0 to {len(inputs) - 1}, got {boxes.image[0]} to "
            f"{boxes.image[-1]}"
        )
    if boxes.label.min() < 0:
        raise DataError(f"{method}: classes must be 0 or more, got {boxes.label.min()}")


def detections(
    method: str, subject: ExplainedDetector, inputs: NDArray[np.float32]
) -> Sequence[Detections]:
    """Return what a candidate finds in each input.

    Raises:
        DataError: the network's output, or a number that its rule makes of it, is not finite.
    """
    outputs = subject.predict(inputs)
    check_finite(method, outputs, "the network's output")
    found = subject.detector.decode(outputs)
    for one in found:
        # No score that is no number reaches a threshold: the box would be left out without a word.
        if not (np.isfinite(one.score).all() and np.isfinite(one.boxes).all()):
            raise DataError(
                f"{method}: boxes and scores that decode gives must be finite, got NaN or "
                "infinity; correct decode"
            )
    return found


def overlap(a_m4: NDArray[np.floating], b_k4: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes, 0 to 1, (m, k).

    Boxes are ``x1, y1, x2, y2`` on one scale; those without area overlap with nothing.
    """
    shared_mk = intersection(a_m4, b_k4)
    union_mk = area(a_m4)[:, None] + area(b_k4)[None, :] - shared_mk
    return np.asarray(shared_mk / np.where(union_mk > 0, union_mk, 1))


def intersection(a_m4: NDArray[np.floating], b_k4: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the area that each pair of boxes shares, (m, k)."""
    a_m14, b_1k4 = a_m4.astype(np.float64)[:, None], b_k4.astype(np.float64)[None]
    sides = np.minimum(a_m14[..., 2:], b_1k4[..., 2:]) - np.maximum(a_m14[..., :2], b_1k4[..., :2])
    return np.asarray(sides.clip(min=0).prod(axis=-1))


def area(boxes_m4: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the area of boxes, (m,); 0 where a side is negative."""
    sides = boxes_m4[:, 2:].astype(np.float64) - boxes_m4[:, :2]
    return np.asarray(sides.clip(min=0).prod(axis=-1))
