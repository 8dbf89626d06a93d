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

STORED: Final = "predictions of the run"
"""What the run has kept of the candidate; every other side is a file that was loaded again."""

_SMALL: Final = 1e-6
"""Difference that is allowed even where all logits are small."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two forms of one candidate on the same images.

    Attributes:
        first: what was loaded again.
        second: what it is compared with.
        condition: state of the images, ``clean`` or ``fog:3``.
        images: number of images.
        same: images with the same class.
        difference: largest difference of a logit.
        limit: largest difference that is allowed; None where classes decide, because integers may
            be rounded another way on another machine or in another program.
    """

    first: str
    second: str
    condition: str
    images: int
    same: int
    difference: float
    limit: float | None

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
        return not self.is_demanded or self.same >= SAME_CLASS * self.images

    @property
    def is_demanded(self) -> bool:
        """Whether an agreement is demanded, not only stated."""
        return self.limit is not None or self.condition == str(CLEAN)

    @property
    def rule(self) -> str:
        """What is demanded, in words."""
        if self.limit is not None:
            return f"logits within {self.limit:.2g}"
        if not self.is_demanded:
            return "stated only"
        return f"same class for {SAME_CLASS:.2f} of the images"

    def as_json(self) -> Json:
        """Return plain JSON values; a difference that is no number is None."""
        difference = self.difference if np.isfinite(self.difference) else None
        return {**asdict(self), "difference": difference, "is_exact": self.is_exact}

    def check(self) -> None:
        """Refuse an agreement below the demanded one.

        Raises:
            ExportError: the two disagree.
        """
        if not self.is_met:
            raise ExportError(
                f"{self.first}: must agree with the {self.second} ({self.rule}), got "
                f"{self.same} of {self.images} images with the same class and a largest difference "
                f"of {self.difference:.3g} under {self.condition}; nothing was exported. Make the "
                "candidate again in a new run directory"
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
    limit = AGREEMENT * float(np.abs(two_NC).max()) + _SMALL
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
