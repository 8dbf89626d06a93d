"""Tests of a difference between two models, and their correction for many tests.

Every test is a pure function of per-image values. A p-value is the probability of data at least as
far from the null hypothesis, were it true; a large one proves nothing. `margins` has the tests for
saying that a quality was kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError

# Shape suffixes: N images, G groups, M hypotheses, S possible sums.

MCNEMAR: Final = "mcnemar-exact"
MCNEMAR_MID_P: Final = "mcnemar-mid-p"
SIGN_FLIP: Final = "sign-flip-exact"


@dataclass(frozen=True, slots=True)
class HypothesisTest:
    """The outcome of one test.

    Attributes:
        value: the observed difference.
        p: p-value, 0 to 1; None where no test is stated.
        method: how it was made, empty where there is none.
        count: how many units the p-value rests on: discordant images or groups for `mcnemar`, else
            all images or groups.
        reason: why there is no p-value, or what limits it; empty where nothing does.
    """

    value: float
    p: float | None
    method: str
    count: int
    reason: str = ""


def mcnemar(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    groups: NDArray[Any] | None = None,
    is_mid_p: bool = False,
) -> HypothesisTest:
    """Return the two-sided test that two models are right equally often on the same images.

    Only images that exactly one of them gets right count. Under the null hypothesis each of these
    is a fair coin, so the p-value is that of a binomial. The mid-p variant counts half of the
    probability of the observed outcome; it is closer to its level and may exceed it slightly.

    Images of one group are no independent coins. With ``groups`` the two models are swapped
    for whole groups instead: the exact distribution of the sum over groups of plus or minus the
    group's difference. For groups of one image both tests are the same.

    Args:
        a: (N,) whether the first model is right.
        b: (N,) whether the second model is right, same images.
        groups: (N,) group of each image, None where images are independent.
        is_mid_p: subtract half the probability of the observed outcome from each tail.

    Raises:
        UsageError: lengths differ, or values are neither 0 nor 1.

    Reference: McNemar 1947, doi:10.1007/BF02295996; Fagerland et al. 2013,
    doi:10.1186/1471-2288-13-91.
    """
    difference_N = _paired("mcnemar", a, b)
    if not set(np.unique(a).tolist()) | set(np.unique(b).tolist()) <= {0, 1}:
        raise UsageError(
            "mcnemar: values must be 0 or 1, got others; give whether an image is right"
        )
    if not len(difference_N):
        return HypothesisTest(math.nan, None, "", 0, "there are no images")
    value = float(difference_N.mean())
    unit_G = np.abs(group_sums(difference_N, groups)).astype(np.int64)
    unit_G = unit_G[unit_G > 0]
    method = SIGN_FLIP if groups is not None else MCNEMAR_MID_P if is_mid_p else MCNEMAR
    if not len(unit_G):
        noun = "image" if groups is None else "group"
        reason = f"no {noun} speaks for either model"
        return HypothesisTest(value, 1.0, method, 0, reason)
    if groups is None:
        p = _binomial_p(int((difference_N > 0).sum()), len(unit_G), is_mid_p=is_mid_p)
    else:
        p = sign_flip_p(unit_G, int(difference_N.sum()), is_mid_p=is_mid_p)
    return HypothesisTest(value, p, method, len(unit_G))


def sign_flip_p(size_G: NDArray[np.int64], total: int, *, is_mid_p: bool = False) -> float:
    """Return the exact two-sided p-value of a sum whose terms have random signs.

    Args:
        size_G: (G,) absolute values of the terms, positive integers.
        total: the observed sum.
        is_mid_p: count half of the probability of the observed outcome.
    """
    # positive_S[s]: probability that the terms with a plus sign add up to s.
    positive_S = np.zeros(int(size_G.sum()) + 1)
    positive_S[0] = 1.0
    end = 1
    for size in np.sort(size_G).tolist():
        grown_S = np.zeros(end + size)
        grown_S[:end] = positive_S[:end] / 2
        grown_S[size:] += positive_S[:end] / 2
        end += size
        positive_S[:end] = grown_S
    distance_S = np.abs(2 * np.arange(len(positive_S)) - (len(positive_S) - 1))
    p = float(positive_S[distance_S >= abs(total)].sum())
    if is_mid_p:
        p -= float(positive_S[distance_S == abs(total)].sum()) / 2
    return min(1.0, p)


def holm(p_M: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """Return p-values adjusted for a declared family of hypotheses, (M,) in the same order.

    Rejecting where the adjusted value is at most alpha keeps the probability of any false rejection
    at most alpha, whatever the dependence between the tests.

    Raises:
        UsageError: a p-value is not in [0, 1].

    Reference: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    values_M = np.asarray(p_M, dtype=np.float64)
    if not ((values_M >= 0) & (values_M <= 1)).all():
        raise UsageError(
            "holm: every p-value must be between 0 and 1, got another; leave out tests that are "
            "not stated"
        )
    order_M = np.argsort(values_M, kind="stable")
    factors_M = np.arange(len(values_M), 0, -1)
    adjusted_M = np.empty_like(values_M)
    adjusted_M[order_M] = np.minimum(1, np.maximum.accumulate(factors_M * values_M[order_M]))
    return adjusted_M


def group_sums(values_N: NDArray[np.float64], groups: NDArray[Any] | None) -> NDArray[np.float64]:
    """Return the sum of each group; the values themselves where there are no groups."""
    if groups is None:
        return values_N
    if len(groups) != len(values_N):
        raise UsageError(
            f"groups: must have one value per image ({len(values_N)}), got {len(groups)}"
        )
    _, group_N = np.unique(groups, return_inverse=True)
    return np.bincount(group_N, values_N).astype(np.float64)


def _binomial_p(ones: int, count: int, *, is_mid_p: bool) -> float:
    from scipy.special import bdtr

    few = min(ones, count - ones)
    below = float(bdtr(few - 1, count, 0.5)) if few else 0.0
    tail = float(bdtr(few, count, 0.5))
    return min(1.0, below + tail if is_mid_p else 2 * tail)


def _paired(test: str, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    if a.ndim != 1 or a.shape != b.shape:
        raise UsageError(
            f"{test}: both models must have one value per image, got {a.shape} and {b.shape}"
        )
    return a.astype(np.float64) - b.astype(np.float64)
