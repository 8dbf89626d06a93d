"""Generated scenes with handwritten digits and their boxes: detection without a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.boxes import Annotated, settings_of
from shrinkproof.data.digits import Digits
from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.data.scenes import Scene, draw
from shrinkproof.errors import DataError
from shrinkproof.randomness import stream
from shrinkproof.registry import component

_SHAPES: Final = ((96, 128), (112, 112), (128, 96))
"""(H, W) of the scenes in pixels."""

_GROUPS: Final = 200
"""Blocks of 8 or 9 digits that never meet in a scene."""

_LIMITS: Final = {"count": (600, 1, 10_000), "seed": (0, 0, 2**31 - 1)}
"""Each setting with its default, its smallest and its largest value."""


@component
class DigitScenes:
    """Generated scenes of three sizes, each with up to six handwritten digits.

    Reference ``digit-scenes`` or ``digit-scenes:?count=600&seed=0``, with the number of scenes, 1
    to 10,000, and another seed for other scenes. Ten classes.

    A third of the scenes each has 96 x 128, 112 x 112 and 128 x 96 pixels (height x width). The
    handwritten digits of scikit-learn (see ``digits``) stand in random sizes and colors, partly
    overlapping, on random textures with a few bars that are no digits; one scene of ten has none.
    Boxes are the edges of the ink as it was drawn, also where another digit covers a part of it.

    The 1,797 digits are divided into 200 blocks, and scene i takes its digits from block i mod 200
    only. The block is the group of a scene, so that splits of one reference, which keep groups
    whole, never share a digit. Other seeds mix the same blocks anew: take all splits from one seed.

    Scenes of one size follow one another, so that they can be read in large batches. The preset of
    corruptions is ``imagecorruptions``, the only one that is defined for any size of image. All
    arithmetic is of integers, so every machine makes the same bytes.
    """

    name: ClassVar[str] = "digit-scenes"
    version: ClassVar[int] = 1

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return the scenes.

        Raises:
            DataError: a setting is unknown or out of range.
        """
        count, seed = _settings(rest)
        found = Digits().load("", roots)
        digits = np.asarray(found.images)[..., 0]
        blocks = np.array_split(np.arange(len(digits)), _GROUPS)
        scenes, annotated = [], Annotated()
        for i in range(count):
            block = blocks[i % _GROUPS]
            shape = _SHAPES[len(_SHAPES) * i // count]
            scene = draw(digits[block], shape, stream(self.name, self.version, seed, i))
            label = found.labels[block[scene.digits]]
            for box, digit in zip(scene.boxes.tolist(), label.tolist(), strict=True):
                annotated.add(i, tuple(box), digit, crowd=False, area=None)
            scenes.append(scene)
        return _as_set(f"{self.name}:{rest}".removesuffix(":"), scenes, annotated, found.classes)


class _Pictures:
    """Images of several sizes in memory."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at the given positions, which have one size, (n, H, W, 3) uint8."""
        return np.stack([self._pictures[position] for position in np.asarray(positions).tolist()])


def _as_set(
    source: str, scenes: Sequence[Scene], annotated: Annotated, classes: tuple[str, ...]
) -> ImageSet:
    pictures = [scene.pixels for scene in scenes]
    objects, _ = annotated.objects(np.array([each.shape[:2] for each in pictures], dtype=np.int64))
    shapes = {pixels.shape[:2] for pixels in pictures}
    index = np.arange(len(scenes), dtype=np.int64)
    return ImageSet(
        source=source,
        images=_Pictures(pictures),
        shape=next(iter(shapes)) if len(shapes) == 1 else None,
        target=objects,
        classes=classes,
        index=index,
        hashes=hash_pixels(pictures),
        groups=np.array([f"block {number}" for number in (index % _GROUPS).tolist()]),
        preset="imagecorruptions",
    )


def _settings(rest: str) -> tuple[int, int]:
    """Return count and seed."""
    source = f"digit-scenes:{rest}"
    text, _, query = rest.partition("?")
    if text:
        raise DataError(
            f"data reference must be 'digit-scenes' or 'digit-scenes:?count=600&seed=0', got "
            f"{source!r}"
        )
    given = settings_of(source, query, tuple(_LIMITS))
    found = []
    for name, (default, least, most) in _LIMITS.items():
        value = given.get(name, [str(default)])[0]
        if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
            raise DataError(
                f"{source}: {name} must be a whole number from {least} to {most}, got {value!r}"
            )
        found.append(int(value))
    return found[0], found[1]
