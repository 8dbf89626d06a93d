"""Where the images of a condition come from: made on the way, or read from a stored set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.presets import preset_warning
from shrinkproof.data.imageset import ImageSet
from shrinkproof.records import Condition, Json
from shrinkproof.stored import StoredSet

Batches = Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]
"""``(positions (n,), images (n, H, W, 3) uint8)`` in order."""


class World(Protocol):
    """What shows a set of images under a corrupted condition."""

    def batches(self, images: ImageSet, condition: Condition, size: int) -> Batches:
        """Yield the images under the condition."""
        ...

    def identity(self, condition: Condition) -> Json:
        """Return everything that decides about the pixels, besides the clean images."""
        ...

    def origin(self, condition: Condition) -> str:
        """Return what every record of the condition says about its images; empty for nothing."""
        ...

    def check(self, images: ImageSet, conditions: tuple[Condition, ...]) -> tuple[str, ...]:
        """Check that the conditions can be shown; return what a reader must know.

        Raises:
            DataError: they cannot.
        """
        ...


@dataclass(frozen=True, slots=True)
class Generated:
    """Corrupted images made from the clean ones.

    Attributes:
        preset: name of the corruption constants.
        seed: the study's seed.
        frost_dir: folder with the original frost photos; None for procedural frost.
        jpeg85: corrupted images are written and read as JPEG of quality 85.
    """

    preset: str
    seed: int
    frost_dir: Path | None = None
    jpeg85: bool = False

    def batches(self, images: ImageSet, condition: Condition, size: int) -> Batches:
        """Yield the images under the condition."""
        from shrinkproof.corruptions.apply import corrupt_batch

        for positions, clean in images.batches(size):
            yield (
                positions,
                corrupt_batch(
                    clean,
                    condition,
                    preset=self.preset,
                    seed=self.seed,
                    index=images.index[positions],
                    frost_dir=self.frost_dir,
                    jpeg85=self.jpeg85,
                ),
            )

    def identity(self, condition: Condition) -> Json:
        """Return preset, seed, version, and where they matter the frost layers and jpeg85."""
        found: Json = {
            "preset": self.preset,
            "seed": self.seed,
            "version": CORRUPTIONS.get(condition.corruption).version,
        }
        if condition.corruption == "frost":
            found["frost"] = self._frost_source()
        if self.jpeg85:
            found["jpeg85"] = True
        return found

    def origin(self, condition: Condition) -> str:
        """Return which frost was laid over the images, and whether they went through JPEG."""
        parts = []
        if condition.corruption == "frost":
            source = self._frost_source()
            parts.append(
                f"procedural frost ({source}), not the photos of the published sets"
                if self.frost_dir is None
                else f"frost photos ({source})"
            )
        if self.jpeg85:
            parts.append("images saved as JPEG of quality 85, as the published files are")
        return "; ".join(parts)

    def _frost_source(self) -> str:
        from shrinkproof.corruptions.frost import frost_source

        return frost_source(self.frost_dir)

    def check(self, images: ImageSet, conditions: tuple[Condition, ...]) -> tuple[str, ...]:
        """Return where results differ from those of the published sets."""
        notes = [preset_warning(self.preset, images.shape)]
        if self.frost_dir is None and any(c.corruption == "frost" for c in conditions):
            notes.append(
                "frost is procedural: numbers under frost, and means that contain it, are not "
                "comparable with published ones; 'frost: photos' takes the original photos"
            )
        return tuple(note for note in notes if note)


@dataclass(frozen=True, slots=True)
class Stored:
    """Corrupted images read from a published set, or from one of our own in its format.

    Attributes:
        files: the set.
    """

    files: StoredSet

    def batches(self, images: ImageSet, condition: Condition, size: int) -> Batches:
        """Yield the images under the condition."""
        for start in range(0, len(images), size):
            positions = np.arange(start, min(start + size, len(images)), dtype=np.int64)
            yield positions, self.files.read(images, condition, positions)

    def identity(self, condition: Condition) -> Json:
        """Return the checksum of what is read."""
        return {"stored": self.files.identity(condition)}

    def origin(self, condition: Condition) -> str:
        """Return from where the images were read."""
        return f"images read from {self.files.reference} ({self.files.identity(condition)})"

    def check(self, images: ImageSet, conditions: tuple[Condition, ...]) -> tuple[str, ...]:
        """Check files, counts, labels and checksums."""
        return self.files.check(images, conditions)
