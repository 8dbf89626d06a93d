"""One-sided tests of paired differences: is one better than the other, is it no worse?"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.statistics.hypotheses import MCNEMAR, HypothesisTest
from shrinkproof.statistics.margins import noninferiority

# Shape suffixes: N images.

LOST: Final = "lost-images-exact"


def superiority(gain_N: NDArray[Any], *, groups: NDArray[Any] | None = None) -> HypothesisTest:
    """Return the one-sided test that nothing is gained; a small p-value says that something is.

    * Differences of right and wrong (-1, 0, 1) of independent images: McNemar's exact test, one
      side of it.
    * All other differences, and groups: Student's t with the needs of `noninferiority`.

    Args:
        gain_N: (N,) first minus second of a quantity of which more is better.
        groups: (N,) group of each image, None where images are independent.

    Raises:
        UsageError: a value is not finite, or lengths differ.

    Reference: McNemar 1947, doi:10.1007/BF02295996.
    """
    values_N = _checked(gain_N)
    if not len(values_N):
        return HypothesisTest(math.nan, None, "", 0, "there are no images")
    if groups is None and _is_discrete(values_N):
        return _one_sided_mcnemar(values_N)
    # Moved down by more than its largest value, a mean above 0 is one above minus that step.
    step = 1.0 + float(np.abs(values_N).max())
    if np.ptp(values_N) == 0:
        reason = "every image has the same difference, so its spread is unknown"
        return HypothesisTest(float(values_N[0]), None, "", len(values_N), reason)
    found = noninferiority(values_N - step, step, groups=groups)
    return HypothesisTest(found.value + step, found.p, found.method, found.count, found.reason)


def no_worse(
    gain_N: NDArray[Any],
    tolerance: float,
    *,
    groups: NDArray[Any] | None = None,
    largest_loss: float = math.inf,
) -> HypothesisTest:
    """Return the one-sided test that the loss is at least ``tolerance``.

    `noninferiority`, with two more cases:

    * Tolerance 0: only who is better is shown to be no worse, so it is `superiority`.
    * Where Student's t is not stated because too few images differ, and what an image can lose is
      bounded: a mean loss of ``tolerance`` needs that at least the share ``tolerance /
      largest_loss`` of the images loses something, so the number of images that lose is tested
      against it (exact binomial; gains count nothing).

    Args:
        gain_N: (N,) first minus second of a quantity of which more is better.
        tolerance: the smallest loss that matters, not negative.
        groups: (N,) group of each image, None where images are independent.
        largest_loss: the most that any image can lose, known without looking at these: 1 between
            two errors; infinite, as between two log-likelihoods, allows no such bound.

    Raises:
        UsageError: the tolerance is negative, a value is not finite, or lengths differ.
    """
    if tolerance == 0:
        return superiority(gain_N, groups=groups)
    values_N = _checked(gain_N)
    if groups is None and _is_discrete(values_N):
        gained, lost = int((values_N > 0).sum()), int((values_N < 0).sum())
        return _of_counts(gained, lost, len(values_N), tolerance)
    found = noninferiority(values_N, tolerance, groups=groups)
    if found.p is not None or groups is not None or not len(values_N):
        return found
    if not math.isfinite(largest_loss) or not 0 < tolerance <= largest_loss:
        return found
    if float(values_N.min()) < -largest_loss:
        return found
    from scipy.special import bdtr

    p = float(bdtr(int((values_N < 0).sum()), len(values_N), tolerance / largest_loss))
    return HypothesisTest(found.value, p, LOST, len(values_N))


@functools.lru_cache(maxsize=4096)
def _of_counts(gained: int, lost: int, count: int, tolerance: float) -> HypothesisTest:
    """Test differences of right and wrong; kept, as many pairs of networks share their counts."""
    values_N = np.zeros(count)
    values_N[:gained] = 1
    values_N[gained : gained + lost] = -1
    return noninferiority(values_N, tolerance)


def _checked(gain_N: NDArray[Any]) -> NDArray[np.float64]:
    if gain_N.ndim != 1 or not np.isfinite(gain_N).all():
        raise UsageError("superiority: values must be one finite number per image, got others")
    return gain_N.astype(np.float64)


def _is_discrete(values_N: NDArray[np.float64]) -> bool:
    return bool(((values_N == 0) | (np.abs(values_N) == 1)).all())


def _one_sided_mcnemar(values_N: NDArray[np.float64]) -> HypothesisTest:
    value = float(values_N.mean())
    gained, lost = int((values_N > 0).sum()), int((values_N < 0).sum())
    if not gained + lost:
        return HypothesisTest(value, 1.0, MCNEMAR, 0, "no image speaks for either model")
    from scipy.special import bdtr

    return HypothesisTest(value, float(bdtr(lost, gained + lost, 0.5)), MCNEMAR, gained + lost)
