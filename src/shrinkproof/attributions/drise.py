"""Heat maps of detected boxes from the detections on randomly masked images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.attributions.boxes import (
    ExplainedBoxes,
    ExplainedDetector,
    check_boxes,
    detections,
    overlap,
)
from shrinkproof.attributions.images import Empty, finite, without_content
from shrinkproof.attributions.rise import Rise
from shrinkproof.detecting import Detections
from shrinkproof.registry import OpenFraction, component

# Shape suffixes: n images, m boxes, M masks, H height, W width of the input, h, w of a map,
# K numbers of one mask.

_NUMBERS: Final = 4_000_000
"""How many numbers the masked images of one prediction may have, 16 MB."""

_SIDE: Final = 64
"""Longest side of a map, pixels: the cells of a mask are much coarser, and a map per box of images
as large as detectors take them would fill the memory."""


@component
class DRise:
    """How much better a box is found when a place is visible, over many random masks.

    On each masked image the best of the detections counts: ``max_d IoU(box, d) * score_d`` over
    those of the box's class, 0 where there is none. The map is ``sum_m (score_m - mean score)
    mask_m``, divided by ``masks * probability``. Masks, their numbers and the subtraction of the
    mean are those of ``rise``: drawn once, the same for all images, networks and batches, and in
    two disjoint halves for the reliability of a map. Detections that the detector's own rule drops
    count as none.

    Attributes:
        masks: number of masks; each costs one prediction per image, however many boxes it has. The
            authors take 5000; 500 keep a study with many candidates within hours, and the control
            from the halves tells how reliable their maps are.
        cells: cells along a side of the grid.
        probability: how likely a cell is visible, 0 to 1.
        fill: what hidden places show: ``black``, ``zero`` (as the network is given it), ``mean``
            (the image's own mean color) or ``blur`` (the image blurred).
        centered: subtract the box's mean score over the masks; False as published.
        half: use only the masks with even (0) or odd (1) number; None uses all.

    Input: predictions; inputs (n, C, H, W), m boxes.
    Output: maps (m, h, w), the mean of blocks of pixels where a side of the input is above 64;
        signed; not negative without ``centered``.
    Differences: a detection has one class and one score here, so of the published product the
        similarity of the class probabilities is 1 for the same class and 0 for another, and the
        score stands for the objectness; centered unless told otherwise.
    Reference: Petsiuk et al. 2021, arXiv:2006.03204, equations 2 to 6.
    """

    name: ClassVar[str] = "drise"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "predictions"

    masks: Annotated[int, pydantic.Field(ge=2)] = 500
    cells: Annotated[int, pydantic.Field(ge=2)] = 16
    probability: OpenFraction = 0.5
    fill: Empty = "zero"
    centered: bool = True
    half: Literal[0, 1] | None = None

    @property
    def is_signed(self) -> bool:
        """True where the mean is subtracted."""
        return self.centered

    def maps(
        self,
        subject: ExplainedDetector,
        inputs: NDArray[np.float32],
        boxes: ExplainedBoxes,
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (m, h, w); the masks come from the stream ``masks``."""
        check_boxes(self.name, inputs, boxes)
        fill = without_content(self.fill, subject, inputs)
        height, width = inputs.shape[2:]
        rise = Rise(
            masks=self.masks, cells=self.cells, probability=self.probability, half=self.half
        )
        numbers_MK = rise.numbers(stream, (height, width))
        rows, columns = min(height, _SIDE), min(width, _SIDE)
        maps = np.zeros((len(boxes), rows * columns))
        shown = np.zeros(rows * columns)
        total, first = np.zeros(len(boxes)), np.zeros(len(boxes))
        size = max(1, _NUMBERS // inputs[0].size)
        for start in range(0, len(numbers_MK), size):
            masks_MHW = rise.enlarged(numbers_MK[start : start + size], (height, width))
            flat = _in_blocks(masks_MHW, rows, columns).reshape(len(masks_MHW), -1)
            shown += flat.sum(axis=0, dtype=np.float64)
            for position in np.unique(boxes.image):
                which, image = np.flatnonzero(boxes.image == position), inputs[position]
                seen = masks_MHW[:, None] * (image - fill[position]) + fill[position]
                found = detections(self.name, subject, seen)
                scores_mM = _best(found, boxes.boxes[which], boxes.label[which])
                if self.centered:
                    # Counted from the first score, so that constant scores give exactly zero.
                    first[which] = first[which] if start else scores_mM[:, 0]
                    scores_mM -= first[which][:, None]
                maps[which] += scores_mM.astype(np.float32) @ flat
                total[which] += scores_mM.sum(axis=1)
        if self.centered:
            maps -= np.outer(total / len(numbers_MK), shown)
        maps /= len(numbers_MK) * self.probability
        return finite(self.name, maps.astype(np.float32).reshape(-1, rows, columns))

    def resolution(
        self,
        subject: ExplainedDetector,  # noqa: ARG002
        inputs: NDArray[np.float32],  # noqa: ARG002
    ) -> tuple[int, int]:
        """Return the cells of the grid, along rows and columns."""
        return self.cells, self.cells


def _best(
    found: Sequence[Detections], boxes_m4: NDArray[np.float32], label_m: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how well each box is found in each of several masked images, 0 to 1, (m, M)."""
    scores_mM = np.zeros((len(boxes_m4), len(found)))
    for number, one in enumerate(found):
        if len(one.score):
            same_mk = label_m[:, None] == one.label[None, :]
            quality_mk = overlap(boxes_m4, one.boxes) * one.score * same_mk
            scores_mM[:, number] = quality_mk.max(axis=1)
    return scores_mM


def _in_blocks(masks_MHW: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Return the mean of each block of pixels, (M, rows, columns); blocks differ by one pixel."""
    means = masks_MHW
    for axis, count in ((1, rows), (2, columns)):
        side = masks_MHW.shape[axis]
        if count == side:
            continue
        starts = np.arange(count) * side // count
        shape = [1, 1, 1]
        shape[axis] = count
        lengths = np.diff(np.append(starts, side)).astype(np.float32).reshape(shape)
        means = np.asarray(np.add.reduceat(means, starts, axis=axis) / lengths, dtype=np.float32)
    return means
