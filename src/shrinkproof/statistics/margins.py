"""Tests against a stated margin: was a quality kept, did it change by less than matters?"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.statistics.hypotheses import HypothesisTest, group_sums
from shrinkproof.statistics.intervals import (
    MINIMUM_OUTCOMES,
    MINIMUM_UNITS,
    carriers,
    clopper_pearson,
)

# Shape suffixes: N images, G groups, C possible outcomes, X rates.

SCORE: Final = "score-paired"
SCORE_EXACT: Final = "score-paired-exact"
T_PAIRED: Final = "t-paired"
T_GROUPED: Final = "t-paired-grouped"

MAXIMUM_EXACT: Final = 40
"""Most discordant images for which the score test enumerates every outcome."""

_PLAUSIBLE: Final = 1e-4
"""Error spent on the range of the unknown rate of discordant images in the exact score test."""

_RATES: Final = 64
"""Rates of discordant images at which the exact score test is evaluated."""


def noninferiority(
    difference_N: NDArray[Any], margin: float, *, groups: NDArray[Any] | None = None
) -> HypothesisTest:
    """Return the one-sided test that the candidate loses at least ``margin``.

    A small p-value says that the loss is smaller than the margin.

    * Differences of right and wrong (-1, 0, 1) of independent images: the score test of paired
      proportions; with at most 40 discordant images its exact version, the largest probability over
      all plausible rates of discordant images.
    * All other differences: Student's t. It needs 30 images and a spread that at least 10 of them
      carry.
    * Groups: Student's t with the spread between groups (cluster-robust), same needs in groups.

    Args:
        difference_N: (N,) candidate minus baseline of a quantity of which more is better.
        margin: the smallest loss that matters, positive.
        groups: (N,) group of each image, None where images are independent.

    Raises:
        UsageError: the margin is not positive, a value is not finite, or lengths differ.

    Reference: Tango 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B;
    Berger and Boos 1994, doi:10.1080/01621459.1994.10476836 (range of the rates).
    """
    values_N = _checked("noninferiority", difference_N, margin)
    if not len(values_N):
        return HypothesisTest(math.nan, None, "", 0, "there are no images")
    if groups is None and set(np.unique(values_N).tolist()) <= {-1.0, 0.0, 1.0}:
        return _score_test(values_N, margin)
    return _t_test(values_N, margin, groups)


def equivalence(
    difference_N: NDArray[Any], margin: float, *, groups: NDArray[Any] | None = None
) -> HypothesisTest:
    """Return the test that candidate and baseline differ by at least ``margin``, either way.

    Two one-sided tests (TOST); the p-value is the larger one, so no correction is needed. Arguments
    and errors are those of `noninferiority`.

    Reference: Schuirmann 1987, doi:10.1007/BF01068419.
    """
    values_N = _checked("equivalence", difference_N, margin)
    sides = [noninferiority(sign * values_N, margin, groups=groups) for sign in (1.0, -1.0)]
    least = max(sides, key=lambda side: 1.0 if side.p is None else side.p)
    value = float(values_N.mean()) if len(values_N) else math.nan
    return HypothesisTest(value, least.p, least.method, least.count, least.reason)


def images_needed(sd: float, margin: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Return how many independent images tell a difference of ``margin`` from none.

    The two-sided test at ``level`` finds a true difference of this size with probability ``power``:
    N = ((z_level + z_power) sd / margin)^2.

    Args:
        sd: standard deviation of the per-image difference; for accuracies the square root of the
            share of images that exactly one model gets right.
        margin: the difference to be found, positive.
        level: confidence level of the two-sided test.
        power: probability of finding it.

    Raises:
        UsageError: a number is out of its range.
    """
    if not (0 <= sd < math.inf and 0 < margin < math.inf and 0 < level < 1 and 0 < power < 1):
        raise UsageError(
            "images needed: sd must not be negative, margin positive, level and power between 0 "
            f"and 1, got {sd}, {margin}, {level} and {power}"
        )
    from scipy.special import ndtri

    steps = float(ndtri((1 + level) / 2) + ndtri(power)) * sd / margin
    return max(1, math.ceil(steps**2))


def _checked(test: str, values: NDArray[Any], margin: float) -> NDArray[np.float64]:
    if not 0 < margin < math.inf:
        raise UsageError(
            f"{test}: margin must be positive, got {margin!r}; name the smallest loss that matters"
        )
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UsageError(f"{test}: values must be one finite number per image, got others")
    return values.astype(np.float64)


def _t_test(
    values_N: NDArray[np.float64], margin: float, groups: NDArray[Any] | None
) -> HypothesisTest:
    """Test mean <= -margin with the spread between independent units."""
    value = float(values_N.mean())
    influence_G = group_sums(values_N - value, groups) / len(values_N)
    count = len(influence_G)
    noun, method = ("images", T_PAIRED) if groups is None else ("groups", T_GROUPED)
    if count < MINIMUM_UNITS:
        reason = f"the test needs at least {MINIMUM_UNITS} {noun}, got {count}"
        return HypothesisTest(value, None, "", count, reason)
    resting = carriers(influence_G)
    if resting < MINIMUM_OUTCOMES:
        reason = (
            f"every {noun[:-1]} has the same difference, so its spread is unknown"
            if not resting
            else f"the spread rests on about {max(1, int(resting))} {noun}; the test needs at "
            f"least {MINIMUM_OUTCOMES}"
        )
        return HypothesisTest(value, None, "", count, reason)
    from scipy.special import stdtr

    error = math.sqrt(count / (count - 1) * float((influence_G**2).sum()))
    p = float(stdtr(count - 1, -(value + margin) / error))
    return HypothesisTest(value, p, method, count)


def _score_test(values_N: NDArray[np.float64], margin: float) -> HypothesisTest:
    """Test P(gained) - P(lost) <= -margin."""
    count = len(values_N)
    gained, lost = int((values_N > 0).sum()), int((values_N < 0).sum())
    value = (gained - lost) / count
    if margin >= 1:
        return HypothesisTest(value, 0.0, SCORE, count, "no loss of accuracy can reach the margin")
    if gained + lost <= MAXIMUM_EXACT:
        return HypothesisTest(
            value, _exact_score_p(gained, lost, count, margin), SCORE_EXACT, count
        )
    from scipy.special import ndtr

    score = _score(np.array(gained), np.array(lost), count, margin)
    return HypothesisTest(value, float(ndtr(-score)), SCORE, count)


def _score(
    gained: NDArray[np.int64], lost: NDArray[np.int64], count: int, margin: float
) -> NDArray[np.float64]:
    """Return the score statistic of a loss of exactly ``margin``; larger is better."""
    linear = (2 * count + gained - lost) * margin - gained - lost
    constant = gained * margin * (1 - margin)
    # Positive root of the likelihood equation for the share of gained images.
    free = (np.sqrt(linear**2 + 8 * count * constant) - linear) / (4 * count)
    variance = count * np.maximum(2 * free + margin * (1 - margin), 1e-12)
    return np.asarray((gained - lost + count * margin) / np.sqrt(variance), dtype=np.float64)


def _exact_score_p(gained: int, lost: int, count: int, margin: float) -> float:
    """Return the largest probability of a score this good, over all plausible rates."""
    from scipy.special import gammaln, xlogy

    low, high = clopper_pearson(gained, count, 1 - _PLAUSIBLE)
    rate_X = np.linspace(low, max(low, min(high, (1 - margin) / 2)), _RATES)
    gained_C, lost_C = _outcomes_as_good(gained, lost, count, margin, float(rate_X[-1]))
    kept_C = count - gained_C - lost_C
    ways_C = gammaln(count + 1) - gammaln(gained_C + 1) - gammaln(lost_C + 1) - gammaln(kept_C + 1)
    log_CX = (
        ways_C[:, None]
        + xlogy(gained_C[:, None], rate_X)
        + xlogy(lost_C[:, None], rate_X + margin)
        + xlogy(kept_C[:, None], np.maximum(1 - margin - 2 * rate_X, 0))
    )
    return min(1.0, float(np.exp(log_CX).sum(axis=0).max()) + _PLAUSIBLE)


def _outcomes_as_good(
    gained: int, lost: int, count: int, margin: float, rate: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all numbers of gained and lost images that score at least as good, (C,) each.

    Numbers more than seven standard deviations above what ``rate`` lets expect are left out.
    """
    ends = [rate * count, (rate + margin) * count]
    most_gained, most_lost = (min(count, math.ceil(end + 7 * math.sqrt(end) + 20)) for end in ends)
    gained_C, lost_C = (
        grid.ravel()
        for grid in np.indices((max(gained, most_gained) + 1, max(lost, most_lost) + 1))
    )
    is_possible = gained_C + lost_C <= count
    gained_C, lost_C = gained_C[is_possible], lost_C[is_possible]
    observed = _score(np.array(gained), np.array(lost), count, margin)
    is_as_good = _score(gained_C, lost_C, count, margin) >= observed - 1e-9
    return gained_C[is_as_good], lost_C[is_as_good]
