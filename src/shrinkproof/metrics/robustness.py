"""Errors under corruption: per corruption and group, their mean, the worst, and what clean lost.

Pure functions of per-image errors. A network measured elsewhere, of which only error rates are
known, is one pseudo-image whose errors are those rates. Numbers relative to a reference, such as
mCE, are in ``references``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, SEVERITIES, STANDARD_15, Condition
from shrinkproof.statistics import Terms, difference, estimate

# Shape suffixes: N images.

Errors = Mapping[Condition, NDArray[Any]]
"""Condition -> (N,) error of each image: bool or 0/1, or a fraction; one order of images."""

Place = tuple[str, str]
"""Name of a metric, and the corruption, the group or ``corrupted`` that it is about."""

CORRUPTED: Final = "corrupted"
"""Stands for all corrupted conditions together."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""Groups of Hendrycks and Dietterich 2019, arXiv:1903.12261, figure 1; the four corruptions that
they keep for validation are a group of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """One number before it has an interval.

    Attributes:
        terms: what each image adds to it, or why it is undefined.
        caveat: what a reader must know about it; empty for nothing.
    """

    terms: Terms | Undefined
    caveat: str = ""

    @property
    def value(self) -> float | Undefined:
        """The number itself, or why it is undefined."""
        return self.terms if isinstance(self.terms, Undefined) else estimate(self.terms)


def under_corruption(errors: Errors) -> dict[Place, Quantity]:
    """Return the numbers that need no reference.

    ``robustness.error`` of each corruption and each group of `GROUPS` with a corruption found here,
    then ``robustness.mean_error``, ``robustness.worst_error`` and ``robustness.retention`` over
    everything found here. A caveat lists what a mean is about, unless that is all five severities
    of a corruption or of all corruptions of its group.

    Args:
        errors: error of each image under each condition; ``clean`` for the retention.

    Raises:
        UsageError: there is no corrupted condition, lengths differ, or an error is not 0 to 1.
    """
    corrupted = without_clean(errors)
    check_errors(corrupted, "robustness.error")
    found: dict[Place, Quantity] = {}
    names = corruptions_of(errors)
    groups = {g: tuple(n for n in members if n in names) for g, members in GROUPS.items()}
    for place, members in {**{n: (n,) for n in names}, **groups}.items():
        if members:
            number = Quantity(error_terms(corrupted, members), averaged(corrupted, members, place))
            found["robustness.error", place] = number
    over = averaged(corrupted, names, CORRUPTED)
    found["robustness.mean_error", CORRUPTED] = Quantity(mean_error_terms(corrupted), over)
    found["robustness.worst_error", CORRUPTED] = worst_error(corrupted)
    found["robustness.retention", CORRUPTED] = Quantity(retention_terms(errors))
    return found


def mean_error(errors: Errors) -> NDArray[np.float64]:
    """Return each image's error, averaged over the corrupted conditions, (N,) float64.

    Its mean is ``robustness.mean_error``: the unnormalized mean corruption error, over exactly the
    conditions given, each with the same weight.

    Args:
        errors: error of each image under each corrupted condition, 0 to 1.

    Raises:
        UsageError: there is no condition, ``clean`` is among them, lengths differ, or an error is
            not 0 to 1.

    Reference: Hendrycks et al. 2020 (AugMix), arXiv:1912.02781.
    """
    check_errors(errors, "robustness.mean_error")
    total_N = np.zeros(len(next(iter(errors.values()))))
    for condition, values_N in errors.items():
        if condition.is_clean:
            raise UsageError("robustness.mean_error: clean is no corruption; leave it out")
        total_N += values_N
    return total_N / len(errors)


def mean_error_terms(errors: Errors) -> Terms:
    """Return the terms of ``robustness.mean_error``, (N, 1): `mean_error` of each image.

    One row per image: the conditions of one image are not independent and are resampled together.

    Raises:
        UsageError: as `mean_error`.
    """
    return mean_terms(mean_error(errors))


def error_terms(errors: Errors, corruptions: Sequence[str]) -> Terms:
    """Return the terms of ``robustness.error``, (N, 1): the mean over the severities found.

    For several corruptions (a group) it is the mean of their means, so each has the same weight.

    Raises:
        UsageError: a corruption has no condition, lengths differ, or an error is not 0 to 1.
    """
    means = []
    for name in corruptions:
        own = {c: values_N for c, values_N in errors.items() if c.corruption == name}
        check_errors(own, f"robustness.error of {name}")
        means.append(np.mean(list(own.values()), axis=0, dtype=np.float64))
    return mean_terms(np.mean(means, axis=0, dtype=np.float64))


def averaged(errors: Errors, corruptions: Sequence[str], place: str) -> str:
    """Return what a mean over corruptions averages; empty for all that the place stands for."""
    names: dict[tuple[int, ...], list[str]] = {}
    for name in corruptions:
        found = tuple(s for s in SEVERITIES if Condition(name, s) in errors)
        names.setdefault(found, []).append(name)
    if list(names) == [SEVERITIES] and tuple(corruptions) == GROUPS.get(place, (place,)):
        return ""
    parts = []
    for severities, members in names.items():
        is_standard = set(members) == set(STANDARD_15)
        who = "the 15 standard corruptions" if is_standard else ", ".join(members)
        noun = "severity" if len(severities) == 1 else "severities"
        parts.append(f"{who} at {noun} {', '.join(map(str, severities))}")
    return f"mean over {'; '.join(parts)}"


def worst_error(errors: Errors) -> Quantity:
    """Return ``robustness.worst_error``: the largest mean over severities; the caveat names it.

    The interval of its terms is that of the corruption chosen; that it was chosen on the same
    images is said in the caveat. The first one wins a tie.

    Raises:
        UsageError: there is no corrupted condition, lengths differ, or an error is not 0 to 1.
    """
    corrupted = without_clean(errors)
    check_errors(corrupted, "robustness.worst_error")
    terms = {name: error_terms(corrupted, [name]) for name in corruptions_of(corrupted)}
    if not len(next(iter(terms.values()))):
        return Quantity(Undefined("robustness.worst_error needs at least one image"))
    name = max(terms, key=lambda name: estimate(terms[name]))
    caveat = f"worst of {len(terms)} corruptions: {name}"
    if len(terms) > 1:
        caveat += "; it was chosen on these images, which makes it look slightly worse than it is"
    return Quantity(terms[name], caveat)


def retention_terms(errors: Errors) -> Terms | Undefined:
    """Return the terms of ``robustness.retention``: corrupted accuracy divided by the clean one.

    Two columns, (N, 2): each image's accuracy averaged over the corrupted conditions, and its clean
    one; both are resampled together. Undefined for a clean accuracy of 0.

    Raises:
        UsageError: there is no corrupted condition, lengths differ, or an error is not 0 to 1.
    """
    corrupted = without_clean(errors)
    check_errors(errors if corrupted else corrupted, "robustness.retention")
    if CLEAN not in errors:
        return Undefined("robustness.retention needs the clean images; they are missing")
    clean_N = 1 - np.asarray(errors[CLEAN], dtype=np.float64)
    if not len(clean_N):
        return Undefined("robustness.retention needs at least one image")
    if not clean_N.any():
        return Undefined("robustness.retention: the clean accuracy is 0, so nothing can be kept")
    values_N2 = np.stack([1 - mean_error(corrupted), clean_N], axis=1)
    return Terms(values=values_N2, kind="mean-of-ratios")


def relative_robustness_terms(errors: Errors, baseline: Errors) -> Terms | Undefined:
    """Return the terms of ``robustness.relative``: accuracy under corruption minus the baseline's.

    Called tau by Taori et al. 2020, arXiv:2007.00644. Both are averaged over the same conditions;
    ``clean`` is ignored.

    Raises:
        UsageError: there is no corrupted condition, lengths differ, or an error is not 0 to 1.
    """
    own, other = without_clean(errors), without_clean(baseline)
    gaps = [(str(c), "of the baseline ") for c in own if c not in other]
    gaps += [(str(c), "") for c in other if c not in own]
    if gaps:
        condition, whose = gaps[0]
        return Undefined(
            "robustness.relative needs the same conditions of both networks; "
            f"{condition} {whose}is missing"
        )
    return difference(mean_error_terms(other), mean_error_terms(own))


def mean_terms(values_N: NDArray[np.float64]) -> Terms:
    """Return the terms of a mean over images."""
    is_binary = bool(((values_N == 0) | (values_N == 1)).all())
    return Terms(values=values_N[:, None], kind="mean", is_binary=is_binary)


def without_clean(errors: Errors) -> dict[Condition, NDArray[Any]]:
    """Return the corrupted conditions alone."""
    return {c: values_N for c, values_N in errors.items() if not c.is_clean}


def corruptions_of(conditions: Iterable[Condition]) -> tuple[str, ...]:
    """Return the names of the corruptions, each once, in the order in which they come."""
    return tuple(dict.fromkeys(c.corruption for c in conditions if not c.is_clean))


def check_errors(errors: Errors, what: str) -> None:
    """Check that there are errors of the same images under each condition, 0 to 1.

    Raises:
        UsageError: there is no condition, lengths differ, or an error is not 0 to 1.
    """
    if not errors:
        raise UsageError(f"{what}: needs at least one corrupted condition, got none")
    first, count = "", -1
    for condition, values_N in errors.items():
        if count < 0:
            first, count = str(condition), len(values_N)
        if values_N.shape != (count,):
            raise UsageError(
                f"{what}: every condition must have one error per image, got ({count},) for "
                f"{first} and {values_N.shape} for {condition}"
            )
        if count and not (values_N.min() >= 0 and values_N.max() <= 1):
            raise UsageError(f"{what}: errors must be 0 to 1, got others under {condition}")
