"""Conformance of corruptions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.presets import PRESETS
from shrinkproof.randomness import Streams
from shrinkproof.testing.component import check_component, example_settings
from shrinkproof.testing.toys import tiny_images

_SIDE: Final = 32
_SLACK: Final = 0.95
"""Harm may dip a little between two severities; the published constants are not all monotone."""


def check_corruption(cls: type[Any], **settings: Any) -> None:
    """Check one degradation of textured toy images, with the constants of every preset.

    Shape and type are kept, the caller's images stay untouched, a pixel depends only on the image
    and its index (not on batch, order or subset), and more severity harms more (checked with the
    preset that was made for the size of the toys).

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    settings = example_settings(cls, **settings)
    corruption = check_component(cls, settings, CORRUPTIONS, ("Input", "Output", "Reference"))
    name = cls.__name__
    assert isinstance(cls.family, str), f"{name}: family must be text"
    assert cls.family, f"{name}: family must not be empty"
    data = tiny_images(count=8, side=_SIDE)
    images = np.ascontiguousarray(data.images[np.arange(8)])
    for preset in PRESETS:
        _check_preset(name, corruption, images, data.index, preset)


def _check_preset(
    name: str,
    corruption: Any,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    preset: str,
) -> None:
    harm = []
    for severity in range(1, 6):
        kept = images.copy()
        result = _corrupted(corruption, images, index, severity, preset)
        at = f"{name} at severity {severity}, preset {preset!r}"
        assert np.array_equal(images, kept), f"{at}: the caller's images must stay untouched"
        got = (getattr(result, "shape", None), getattr(result, "dtype", None))
        assert got == (images.shape, np.dtype(np.uint8)), (
            f"{at}: must return {images.shape} uint8, got {got}"
        )
        harm.append(float(((result.astype(float) - images) ** 2).mean()))
        _check_subset(at, corruption, images, index, (severity, preset, result))
    if PRESETS[preset] == _SIDE:
        _check_harm(f"{name}, preset {preset!r}", harm)


def _check_harm(what: str, harm: list[float]) -> None:
    told = f"mean squared change {[round(value, 1) for value in harm]}"
    assert all(b >= _SLACK * a for a, b in pairwise(harm)), (
        f"{what}: must harm more with severity; {told}"
    )
    assert harm[4] > harm[0], f"{what}: severity 5 must harm more than 1; {told}"


def _check_subset(
    at: str,
    corruption: Any,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    known: tuple[int, str, NDArray[np.uint8]],
) -> None:
    severity, preset, result = known
    some = np.array([5, 0, 3])
    again = _corrupted(corruption, images[some], index[some], severity, preset)
    assert np.array_equal(again, result[some]), (
        f"{at}: a pixel must depend only on its image and the image's index, not on the batch"
    )


def _corrupted(
    corruption: Any,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    severity: int,
    preset: str,
) -> NDArray[np.uint8]:
    streams = Streams((0, "corruption", corruption.name, severity, preset), index)
    draws = corruption.draw(streams, images.shape[1:3], severity, preset)
    result: NDArray[np.uint8] = corruption.apply(images, severity, preset, draws)
    return result
