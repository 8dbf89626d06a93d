"""Conformance of corruptions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
"""Harm may dip a little between two severities."""

Dips = Mapping[str, Collection[int]]
"""Preset -> the severities that harm less than the one before them."""

PUBLISHED_DIPS: Final[Mapping[str, Dips]] = {
    # Large soft waves and strong jitter first, small waves that confuse shapes later.
    "elastic_transform": {
        "cifar": (2, 3, 4, 5),
        "tiny": (2, 3, 4, 5),
        "imagenet": (3,),
        "inception": (3,),
    },
    # The image under the ice is darkened as the ice gets brighter.
    "frost": {
        "cifar": (4, 5),
        "imagenet": (4,),
        "inception": (4,),
        "imagecorruptions": (4,),
    },
    # More blur between the passes leaves less to shuffle; more passes or reach come in steps.
    "glass_blur": {
        "cifar": (2, 3, 5),
        "tiny": (2, 4),
        "imagenet": (4,),
        "inception": (2, 4),
        "imagecorruptions": (4,),
    },
    # Paler at first, deeper in color from severity 3 on.
    "saturate": dict.fromkeys(PRESETS, (3,)),
    # Water at first, mud from severity 4 on.
    "spatter": {"cifar": (4,)},
}
"""Published constants that do not harm more with each severity, by mean squared change.

They are kept as published: a network may well err more although the pixels change less.
"""


def check_corruption(cls: type[Any], *, dips: Dips | None = None, **settings: Any) -> None:
    """Check one degradation of textured toy images, with the constants of every preset.

    Shape and type are kept, the caller's images stay untouched, a pixel depends only on the image
    and its index (not on batch, order or subset), and more severity harms more, given the same
    random numbers (checked with the preset that was made for the size of the toys).

    Args:
        cls: the class.
        dips: where, by your constants, a severity harms less than the one before; from one dip
            to the next, harm must still grow. Only rare reasons justify it, such as published
            constants that are reproduced. Default: what is known of the published ones.
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
    known = PUBLISHED_DIPS.get(corruption.name, {}) if dips is None else dips
    for preset in PRESETS:
        harm = _checked_harm(name, corruption, images, data.index, preset)
        if PRESETS[preset] == _SIDE:
            check_rising(f"{name}, preset {preset!r}", harm, known.get(preset, ()))


def _checked_harm(
    name: str,
    corruption: Any,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    preset: str,
) -> list[float]:
    """Check every severity of a preset and return their mean squared changes."""
    harm = []
    for severity in range(1, 6):
        kept = images.copy()
        result = corrupted(corruption, images, index, severity, preset)
        at = f"{name} at severity {severity}, preset {preset!r}"
        assert np.array_equal(images, kept), f"{at}: the caller's images must stay untouched"
        got = (getattr(result, "shape", None), getattr(result, "dtype", None))
        assert got == (images.shape, np.dtype(np.uint8)), (
            f"{at}: must return {images.shape} uint8, got {got}"
        )
        harm.append(float(((result.astype(float) - images) ** 2).mean()))
        _check_subset(at, corruption, images, index, (severity, preset, result))
    return harm


def check_rising(what: str, harm: Sequence[float], dips: Collection[int] = ()) -> None:
    """Check that harm grows with severity, except where it is known not to.

    Args:
        what: what is checked, for the message.
        harm: mean squared change at the severities 1 to 5.
        dips: severities that harm less than the one before. The comparison starts again there;
            every other severity must harm at least 95 % as much as those since the last dip, and
            without any dip, 5 must harm more than 1.

    Raises:
        AssertionError: harm does not grow.
    """
    told = f"mean squared change {[round(value, 1) for value in harm]}"
    largest = 0.0
    for severity, value in enumerate(harm, start=1):
        if severity in dips:
            largest = 0.0
        assert value >= _SLACK * largest, (
            f"{what}: must harm more with severity, but {severity} does not; {told}"
        )
        largest = max(largest, value)
    assert dips or harm[4] > harm[0], f"{what}: severity 5 must harm more than 1; {told}"


def _check_subset(
    at: str,
    corruption: Any,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    known: tuple[int, str, NDArray[np.uint8]],
) -> None:
    severity, preset, result = known
    some = np.array([5, 0, 3])
    again = corrupted(corruption, images[some], index[some], severity, preset)
    assert np.array_equal(again, result[some]), (
        f"{at}: a pixel must depend only on its image and the image's index, not on the batch"
    )


def corrupted(
    corruption: Any,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    severity: int,
    preset: str,
) -> NDArray[np.uint8]:
    """Return images under a corruption, drawn from streams that do not depend on the severity.

    Args:
        corruption: an instance.
        images: (N, H, W, 3) uint8.
        index: (N,) index of each image.
        severity: 1 to 5.
        preset: whose constants to use.
    """
    # The same numbers at every severity: what differs is then due to the constants, not to luck.
    streams = Streams((0, "corruption", corruption.name, preset), index)
    draws = corruption.draw(streams, images.shape[1:3], severity, preset)
    result: NDArray[np.uint8] = corruption.apply(images, severity, preset, draws)
    return result
