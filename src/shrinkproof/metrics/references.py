"""Errors under corruption relative to a named reference: CE, mCE, and their relative forms.

Averages over whatever was measured and the standardized mCE have different names on purpose: CE
and mCE refuse partial input. Beside each ratio stands the absolute difference, because a ratio to
a small error says little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.metrics.robustness import (
    CORRUPTED,
    Errors,
    Place,
    Quantity,
    check_errors,
    corruptions_of,
)
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, SEVERITIES, STANDARD_15, Condition
from shrinkproof.statistics import Terms, estimate

# Shape suffixes: N images, K corruptions.

SMALL_ERROR: Final = 0.05
"""Errors of the reference below this, mean over severities, are named beside a CE."""

SMALL_ADDED_ERROR: Final = 0.02
"""Errors that a corruption adds to the reference below this are named beside a relative CE."""

_CLEARLY: Final = 1.96
"""An added error of fewer standard errors than this is not clearly above 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What errors are divided by: a network measured on the same images, or published constants.

    Attributes:
        name: who it is; stands beside every number.
        errors: error of each image under each condition, of the same images in the same order as
            those of the network that is compared; both are resampled together.
        rates: instead of ``errors``, fixed error rates: the mean over severities 1 to 5 of each
            corruption, and ``clean``; they do not vary between resampled data sets.
        note: what a reader must know about it; empty for nothing.
    """

    name: str
    errors: Errors = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        """Check that there is one kind of errors.

        Raises:
            UsageError: both are given, or a rate is not 0 to 1.
        """
        if self.errors and self.rates:
            raise UsageError(
                f"reference {self.name}: must have errors per image or fixed rates, got both"
            )
        for name, rate in self.rates.items():
            if not 0 <= rate <= 1:
                raise UsageError(
                    f"reference {self.name}: rates must be 0 to 1, got {rate!r} for {name}"
                )


def against_reference(
    errors: Errors, reference: Reference, *, groups: NDArray[Any] | None = None
) -> dict[Place, Quantity]:
    """Return every number relative to a reference.

    For each corruption found here ``robustness.ce``, ``robustness.ce_difference``,
    ``robustness.relative_ce`` and ``robustness.relative_ce_difference``; over all of them
    ``robustness.mce`` and ``robustness.relative_mce``. Caveats name the reference, and the
    corruptions under which its error is so small that the ratio says little.

    Args:
        errors: error of each image under each condition; ``clean`` for the relative forms.
        reference: what they are compared with.
        groups: (N,) group of each image, for the standard errors; None where images are
            independent.

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.
    """
    pair = _Pair(errors, reference)
    found: dict[Place, Quantity] = {}
    for name in corruptions_of(errors):
        for added, label in ((False, "ce"), (True, "relative_ce")):
            what = f"{'relative ' if added else ''}CE of {name}"
            ratio = pair.ratio([name], what, added=added)
            gap = pair.difference(name, f"difference of {what}", added=added)
            caveat = _caveat(ratio, [name], reference, added=added, groups=groups)
            found[f"robustness.{label}", name] = Quantity(ratio, caveat)
            found[f"robustness.{label}_difference", name] = Quantity(gap, _who(reference))
    for added, label, what in ((False, "mce", "mCE"), (True, "relative_mce", "relative mCE")):
        ratio = pair.ratio(STANDARD_15, what, added=added)
        caveat = _caveat(ratio, STANDARD_15, reference, added=added, groups=groups)
        found[f"robustness.{label}", CORRUPTED] = Quantity(ratio, caveat)
    return found


def corruption_error(errors: Errors, reference: Reference) -> dict[str, float | Undefined]:
    """Return the corruption error CE of each corruption found in ``errors``.

    CE = (sum over severities 1 to 5 of the error) / (the same sum of the reference). 1 means as
    many errors as the reference.

    Args:
        errors: error of each image under each condition; clean is ignored.
        reference: for example the uncompressed baseline.

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.

    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.2.
    """
    return _each(errors, reference, added=False)


def relative_corruption_error(errors: Errors, reference: Reference) -> dict[str, float | Undefined]:
    """Return the relative corruption error of each corruption found in ``errors``.

    Relative CE = (sum over severities 1 to 5 of the error minus the clean error) / (the same sum of
    the reference, minus its clean error). Undefined where the corruption adds no error to the
    reference.

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.

    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.2.
    """
    return _each(errors, reference, added=True)


def mce(errors: Errors, reference: Reference, *, rounded: bool = False) -> float | Undefined:
    """Return the mean corruption error: the mean CE of the 15 standard corruptions.

    In fractions: 1.0 is the reference. Further corruptions and clean are ignored; a missing
    corruption or severity makes it undefined.

    Args:
        errors: error of each image under each condition.
        reference: what they are compared with.
        rounded: True rounds as da Silva et al. 2025, arXiv:2512.24971, do in their tables: each CE
            to whole percent, and the mean to a tenth of a percent. Exact halves go to the even
            neighbor (Python's ``round``).

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.

    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.2.
    """
    return _mean_ratio(errors, reference, added=False, rounded=rounded)


def relative_mce(
    errors: Errors, reference: Reference, *, rounded: bool = False
) -> float | Undefined:
    """Return the mean relative CE of the 15 standard corruptions; arguments as in `mce`.

    Undefined as soon as one corruption adds no error to the reference.

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.

    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.2.
    """
    return _mean_ratio(errors, reference, added=True, rounded=rounded)


def mce_terms(errors: Errors, reference: Reference) -> Terms | Undefined:
    """Return the terms of `mce`, (N, 30), for the same images in the same order.

    Columns are each image's error, averaged over severities: 15 corruptions of the model, then 15
    of the reference.

    Raises:
        UsageError: model and reference are not about the same number of images, or as `mce`.
    """
    return _Pair(errors, reference).ratio(STANDARD_15, "mCE", added=False)


def relative_mce_terms(errors: Errors, reference: Reference) -> Terms | Undefined:
    """Return the terms of `relative_mce`, (N, 30), for the same images in the same order.

    Columns are each image's error, averaged over severities, minus its clean error: 15 corruptions
    of the model, then 15 of the reference. So the clean images are resampled with them.

    Raises:
        UsageError: model and reference are not about the same number of images, or as `mce`.
    """
    return _Pair(errors, reference).ratio(STANDARD_15, "relative mCE", added=True)


class _Pair:
    """Errors of a network and its reference, averaged over severities once."""

    def __init__(self, errors: Errors, reference: Reference) -> None:
        self._given = (errors, reference.errors)
        self._rates = reference.rates
        self._means = [_means(given) for given in self._given]

    def difference(self, name: str, what: str, *, added: bool) -> Terms | Undefined:
        """Return the terms of the mean of own minus reference's error of a corruption."""
        columns = self._columns([name], what, added=added)
        if isinstance(columns, Undefined):
            return columns
        own_N1, other_N1 = columns
        return Terms(values=own_N1 - other_N1, kind="mean")

    def ratio(self, corruptions: Sequence[str], what: str, *, added: bool) -> Terms | Undefined:
        """Return the terms of the mean of own divided by reference's errors."""
        columns = self._columns(corruptions, what, added=added)
        if isinstance(columns, Undefined):
            return columns
        # Sums of fifths and clean errors leave rounding noise where nothing is added.
        totals_K = columns[1].mean(axis=0)
        none = [n for n, total in zip(corruptions, totals_K, strict=True) if total <= 1e-12]
        if none:
            verb = "errs no more than on clean images" if added else "makes no error"
            return Undefined(f"{what}: the reference {verb} under {', '.join(none)}")
        return Terms(values=np.concatenate(columns, axis=1), kind="mean-of-ratios")

    def _columns(
        self, corruptions: Sequence[str], what: str, *, added: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | Undefined:
        """Return both networks' errors, (N, K) each, minus the clean ones where wanted."""
        for given, rates, whose in (
            (self._given[0], {}, ""),
            (self._given[1], self._rates, " of the reference"),
        ):
            missing = _missing(given, rates, corruptions, added=added)
            if missing:
                needs = "all 15 corruptions at" if len(corruptions) > 1 else "all"
                clean = " and clean" if added else ""
                verb = "is" if missing.count(",") == 0 else "are"
                return Undefined(
                    f"{what} needs {needs} severities 1-5{clean}; {missing}{whose} {verb} missing"
                )
        own, other = self._means
        count = len(own[corruptions[0]])
        if not self._rates and len(other[corruptions[0]]) != count:
            raise UsageError(
                f"{what}: model and reference must be about the same images, got "
                f"{count} and {len(other[corruptions[0]])}"
            )
        if not count:
            return Undefined(f"{what} needs at least one image")
        if self._rates:
            other = {name: np.full(count, rate) for name, rate in self._rates.items()}
        first, second = (
            np.stack([side[n] - side["clean"] if added else side[n] for n in corruptions], axis=1)
            for side in (own, other)
        )
        return first, second


def _means(errors: Errors) -> dict[str, NDArray[np.float64]]:
    """Return each image's error, mean over severities 1 to 5, where all are there; and clean."""
    if not errors:
        return {}
    check_errors(errors, "robustness.ce")
    found = {}
    if CLEAN in errors:
        found["clean"] = np.asarray(errors[CLEAN], dtype=np.float64)
    for name in corruptions_of(errors):
        values = [errors.get(Condition(name, severity)) for severity in SEVERITIES]
        present = [values_N for values_N in values if values_N is not None]
        if len(present) == len(SEVERITIES):
            found[name] = np.mean(present, axis=0, dtype=np.float64)
    return found


def _missing(
    errors: Errors, rates: Mapping[str, float], corruptions: Sequence[str], *, added: bool
) -> str:
    """Return what is missing, in the order of the standard: ``fog, snow:4``; empty for nothing."""
    if rates:
        wanted = ["clean", *corruptions] if added else corruptions
        return ", ".join(name for name in wanted if name not in rates)
    parts = ["clean"] if added and CLEAN not in errors else []
    for name in corruptions:
        gaps = [s for s in SEVERITIES if Condition(name, s) not in errors]
        if len(gaps) == len(SEVERITIES):
            parts.append(name)
        else:
            parts.extend(f"{name}:{severity}" for severity in gaps)
    return ", ".join(parts)


def _each(errors: Errors, reference: Reference, *, added: bool) -> dict[str, float | Undefined]:
    pair = _Pair(errors, reference)
    start = "relative CE of" if added else "CE of"
    return {
        name: Quantity(pair.ratio([name], f"{start} {name}", added=added)).value
        for name in corruptions_of(errors)
    }


def _mean_ratio(
    errors: Errors, reference: Reference, *, added: bool, rounded: bool
) -> float | Undefined:
    what = "relative mCE" if added else "mCE"
    terms = _Pair(errors, reference).ratio(STANDARD_15, what, added=added)
    if isinstance(terms, Undefined):
        return terms
    return _rounded(errors, reference, added=added) if rounded else estimate(terms)


def _rounded(errors: Errors, reference: Reference, *, added: bool) -> float:
    """Return the mean of percentages that were rounded before.

    A value near a half decides a whole percent, so sums and quotients are taken in the order of the
    published computation: rates are summed over severities, divided, and multiplied by 100.
    """
    percents = []
    for name in STANDARD_15:
        own = sum(_rates_of(errors, name, added=added))
        if reference.rates:
            clean = reference.rates["clean"] if added else 0.0
            other = len(SEVERITIES) * (reference.rates[name] - clean)
        else:
            other = sum(_rates_of(reference.errors, name, added=added))
        percents.append(round(own / other * 100))
    return round(sum(percents) / len(STANDARD_15), 1) / 100


def _rates_of(errors: Errors, name: str, *, added: bool) -> list[float]:
    clean = _rate(errors[CLEAN]) if added else 0.0
    return [_rate(errors[Condition(name, s)]) - clean for s in SEVERITIES]


def _rate(errors_N: NDArray[Any]) -> float:
    # Published rates are short decimals; noise of their conversion would decide exact halves.
    return round(float(np.mean(errors_N, dtype=np.float64)), 12)


def _who(reference: Reference) -> str:
    note = f" ({reference.note})" if reference.note else ""
    return f"reference: {reference.name}{note}"


def _caveat(
    terms: Terms | Undefined,
    corruptions: Sequence[str],
    reference: Reference,
    *,
    added: bool,
    groups: NDArray[Any] | None,
) -> str:
    """Return the reference's name, and where it errs so rarely that the ratio says little."""
    who = _who(reference)
    if isinstance(terms, Undefined):
        return who
    columns_NK = terms.values[:, len(corruptions) :]
    means_K = columns_NK.mean(axis=0)
    small_K = means_K < (SMALL_ADDED_ERROR if added else SMALL_ERROR)
    if added:
        small_K |= means_K < _CLEARLY * _standard_errors(columns_NK, groups)
    small = [name for name, is_small in zip(corruptions, small_K, strict=True) if is_small]
    if not small:
        return who
    about = (
        f"its added error is below {100 * SMALL_ADDED_ERROR:g} points, or not clearly above 0,"
        if added
        else f"its error is below {100 * SMALL_ERROR:g} %"
    )
    return (
        f"{who}; {about} under {', '.join(small)}: there a few images change the ratio by much, "
        "so compare the difference too"
    )


def _standard_errors(
    columns_NK: NDArray[np.float64], groups: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Return the standard error of each column mean, (K,); groups count as wholes."""
    centered_NK = columns_NK - columns_NK.mean(axis=0)
    if groups is not None:
        names, group_N = np.unique(groups, return_inverse=True)
        sums_GK = np.zeros((len(names), columns_NK.shape[1]))
        np.add.at(sums_GK, group_N, centered_NK)
        centered_NK = sums_GK
    return np.asarray(np.sqrt((centered_NK**2).sum(axis=0)) / len(columns_NK))
