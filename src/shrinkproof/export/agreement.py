"""Do the exported files answer as the candidate did? Compared on real images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.artifacts.export import AGREEMENT
from shrinkproof.errors import ExportError
from shrinkproof.evaluators.subject import Scene
from shrinkproof.export.program import Predict
from shrinkproof.models.loaded import Preprocess
from shrinkproof.records import CLEAN, Json

SAME_CLASS: Final = 0.99
"""Smallest share of clean images with the same class where integers may be rounded another way.

Under corruption more images are near a border between classes; that agreement is stated.
"""

SAME_BOXES: Final = 0.95
"""Smallest share of the boxes in clean images that both forms have, where boxes decide.

A box that suppresses its neighbor may do so no longer when a score moves by one step.
"""

STORED: Final = "predictions of the run"
"""What the run has kept of the candidate; every other side is a file that was loaded again."""

SMALL: Final = 1e-6
"""Difference that is allowed even where all logits are small."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two forms of one candidate on the same images.

    Attributes:
        first: what was loaded again.
        second: what it is compared with.
        condition: state of the images, ``clean`` or ``fog:3``.
        images: number of images.
        same: images with the same class; of detectors, boxes that both have.
        difference: largest difference of a logit; of detectors that of an output, or of a score and
            of an IoU from 1 where boxes decide.
        limit: largest difference that is allowed; None where classes or boxes decide, because
            integers may be rounded another way on another machine or in another program.
        boxes: boxes of both forms that were looked for in the other one; None for classifiers.
    """

    first: str
    second: str
    condition: str
    images: int
    same: int
    difference: float
    limit: float | None
    boxes: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether all logits are the same, bit for bit."""
        return self.difference == 0.0

    @property
    def is_met(self) -> bool:
        """Whether the two agree as they must; a logit that is no number never agrees."""
        if not np.isfinite(self.difference):
            return False
        if self.limit is not None:
            return self.difference <= self.limit
        return not self.is_demanded or self.same >= self._share * self.count

    @property
    def count(self) -> int:
        """Number of images, or of boxes, that may be the same."""
        return self.images if self.boxes is None else self.boxes

    @property
    def _share(self) -> float:
        return SAME_CLASS if self.boxes is None else SAME_BOXES

    @property
    def is_demanded(self) -> bool:
        """Whether an agreement is demanded, not only stated."""
        return self.limit is not None or self.condition == str(CLEAN)

    @property
    def rule(self) -> str:
        """What is demanded, in words."""
        if self.limit is not None:
            numbers = "logits" if self.boxes is None else "outputs"
            return f"{numbers} within {self.limit:.2g}"
        if not self.is_demanded:
            return "stated only"
        if self.boxes is None:
            return f"same class for {SAME_CLASS:.2f} of the images"
        return f"{SAME_BOXES:.2f} of the boxes in both"

    @property
    def said(self) -> str:
        """How many images or boxes are the same, in words."""
        if self.boxes is None:
            return f"{self.same} of {self.images} images with the same class"
        return f"{self.same} of {self.boxes} boxes in both"

    def as_json(self) -> Json:
        """Return plain JSON values; a difference that is no number is None."""
        found = asdict(self)
        if self.boxes is None:
            del found["boxes"]
        difference = self.difference if np.isfinite(self.difference) else None
        return {**found, "difference": difference, "is_exact": self.is_exact}

    def check(self) -> None:
        """Refuse an agreement below the demanded one.

        Raises:
            ExportError: the two disagree.
        """
        if not self.is_met:
            raise ExportError(
                f"{self.first}: must agree with the {self.second} ({self.rule}), got "
                f"{self.said} and a largest difference of {self.difference:.3g} under "
                f"{self.condition}; nothing was exported. Make the candidate again in a new run "
                "directory"
            )


def compared(
    first: tuple[str, NDArray[np.float32]],
    second: tuple[str, NDArray[np.float32]],
    condition: str,
    *,
    is_exact: bool,
) -> Comparison:
    """Return how far two forms agree.

    Args:
        first: name and logits (N, C) of what was loaded again.
        second: name and logits (N, C) of what it is compared with.
        condition: state of the images.
        is_exact: whether the same floating-point numbers are computed on both sides; then logits
            may differ only by the order of sums, by `AGREEMENT` of the largest one.

    Raises:
        ExportError: the logits are not of one shape.
    """
    (name, one_NC), (other, two_NC) = first, second
    if one_NC.shape != two_NC.shape:
        raise ExportError(
            f"{name}: logits must have the shape of the {other}, {two_NC.shape}, got "
            f"{one_NC.shape}; make the candidate again in a new run directory"
        )
    gap = np.abs(one_NC.astype(np.float64) - two_NC.astype(np.float64))
    limit = AGREEMENT * float(np.abs(two_NC).max()) + SMALL
    return Comparison(
        first=name,
        second=other,
        condition=condition,
        images=len(one_NC),
        same=int((one_NC.argmax(axis=1) == two_NC.argmax(axis=1)).sum()),
        difference=float(gap.max()),
        limit=limit if is_exact else None,
    )


def logits_of(
    scene: Scene, preprocess: Preprocess, forms: Mapping[str, Predict], count: int
) -> dict[str, NDArray[np.float32]]:
    """Return the logits of several forms on the first images of a scene, (count, C) each.

    Whole batches of the study are predicted: a shorter one may be summed in another order.
    """
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in forms}
    done = 0
    for positions, images in scene.batches():
        inputs = preprocess(images)
        for name, predict in forms.items():
            found[name].append(predict(inputs))
        done += len(positions)
        if done >= count:
            break
    return {name: np.concatenate(parts)[:count] for name, parts in found.items()}
