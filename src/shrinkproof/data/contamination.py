"""Whether images that should be new were seen before: by hash, never by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from shrinkproof.data.imageset import ImageSet

_LEARNING: Final = ("train", "calibrate")
MEASURING: Final = ("select", "certify", "report")
"""The splits whose images are only ever measured on, never learned from."""


def overlaps(a: ImageSet, b: ImageSet) -> int:
    """Return the number of images of ``b`` that are also in ``a``, by hash."""
    return int(np.isin(b.hashes, a.hashes).sum())


def contamination(sets: Mapping[str, ImageSet], seen: Sequence[ImageSet] | None) -> dict[str, str]:
    """Return split -> why numbers measured on it cannot be trusted; clean splits are absent.

    Select, certify and report must share no image with train, with calibrate, with each other or
    with what the model was trained on. Calibrate may lie inside train.

    Args:
        sets: split -> images.
        seen: what the model was trained on before the study; None where nobody said, which
            counts as having seen everything.
    """
    reasons: dict[str, str] = {}
    for name in MEASURING:
        if name not in sets:
            continue
        images = sets[name]
        found = [
            (other, overlaps(sets[other], images))
            for other in (*_LEARNING, *MEASURING)
            if other in sets and other != name
        ]
        said = [f"{n} of {len(images)} images are also in {other}" for other, n in found if n]
        said += _seen_reasons(images, seen)
        if said:
            reasons[name] = "; ".join(said)
    return reasons


def _seen_reasons(images: ImageSet, seen: Sequence[ImageSet] | None) -> list[str]:
    if seen is None:
        return ["the model does not declare what it has seen"]
    found = [(known.source, overlaps(known, images)) for known in seen]
    return [
        f"{n} of {len(images)} images were seen by the model in training ({source})"
        for source, n in found
        if n
    ]
