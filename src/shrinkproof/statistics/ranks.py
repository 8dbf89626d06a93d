"""Ranks of treatments over blocks: Friedman's test and what may be compared after it.

A block is one pair of network and data set, a treatment one way of compressing. Every block ranks
all treatments, so networks and data sets of different difficulty can be put together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.statistics.hypotheses import holm, sign_flip_p

# Shape suffixes: B blocks, T treatments, Z points of an integral.

FEW_BLOCKS: Final = 10
"""With fewer blocks than this the test has little power and its chi-squared form is rough."""


@dataclass(frozen=True, slots=True)
class RankTest:
    """Do treatments rank differently, and which of them can be told apart?

    Attributes:
        names: treatments, best mean rank first.
        mean_ranks: mean rank of each, 1 is best; ties share the mean of their ranks.
        blocks: number of blocks.
        chi2: Friedman's statistic, corrected for ties.
        p: its p-value by the chi-squared distribution with one degree less than treatments.
        f: statistic of Iman and Davenport, None where all blocks agree completely.
        f_p: its p-value; where all blocks agree, the probability of that by chance. Less
            conservative than ``p``.
        critical_difference: mean ranks that are nearer than this cannot be told apart (Nemenyi).
        cliques: largest groups of two or more treatments within one critical difference.
        is_low_power: True with fewer than 10 blocks.
        caution: what few blocks mean for these treatments, in one sentence, or empty.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    blocks: int
    chi2: float
    p: float
    f: float | None
    f_p: float
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]
    is_low_power: bool
    caution: str


def friedman(
    values_BT: NDArray[Any],
    names: Sequence[str],
    *,
    is_higher_better: bool,
    level: float = 0.95,
    blocks: Sequence[str] = (),
) -> RankTest:
    """Return Friedman's test with the critical difference of Nemenyi.

    Args:
        values_BT: (B, T) one number for each block and treatment.
        names: (T,) names of the treatments.
        is_higher_better: True where the largest value has rank 1.
        level: confidence level of the critical difference.
        blocks: (B,) names of the blocks for messages; numbers where empty.

    Raises:
        UsageError: a cell is missing, there are fewer than 2 blocks or treatments, names do not
            fit, or the level is not between 0 and 1.

    Reference: Friedman 1937, doi:10.1080/01621459.1937.10503522; Iman and Davenport 1980,
    doi:10.1080/03610928008827904; Nemenyi 1963 and the diagram in Demsar 2006, "Statistical
    comparisons of classifiers over multiple data sets".
    """
    _check(values_BT, names, blocks)
    if not 0 < level < 1:
        raise UsageError(f"friedman: level must be between 0 and 1, got {level!r}; write 0.95")
    count, treatments = values_BT.shape
    rank_BT = mean_ranks(-values_BT if is_higher_better else values_BT)
    chi2, p = _chi_squared(rank_BT)
    f, f_p = _iman_davenport(rank_BT, chi2)
    rank_T = rank_BT.mean(axis=0)
    order_T = np.argsort(rank_T, kind="stable")
    critical = range_quantile(level, treatments) * math.sqrt(
        treatments * (treatments + 1) / (12 * count)
    )
    ordered = tuple(names[k] for k in order_T)
    ranks = tuple(rank_T[order_T].tolist())
    return RankTest(
        names=ordered,
        mean_ranks=ranks,
        blocks=count,
        chi2=chi2,
        p=p,
        f=f,
        f_p=f_p,
        critical_difference=critical,
        cliques=_cliques(ordered, ranks, critical),
        is_low_power=count < FEW_BLOCKS,
        caution=_caution(count, treatments, critical),
    )


def wilcoxon_signed_rank(difference_B: NDArray[Any]) -> float:
    """Return the exact two-sided p-value that differences are symmetric around 0.

    Differences of 0 are left out, equal sizes share the mean of their ranks, and the distribution
    is that of all signs for these ranks; 1 where every difference is 0.

    Raises:
        UsageError: a difference is not finite.

    Reference: Wilcoxon 1945, doi:10.2307/3001968.
    """
    if difference_B.ndim != 1 or not np.isfinite(difference_B).all():
        raise UsageError("wilcoxon: differences must be one finite number per block, got others")
    used_B = difference_B[difference_B != 0]
    if not len(used_B):
        return 1.0
    # Twice the ranks are integers, ties included.
    size_B = np.rint(2 * mean_ranks(np.abs(used_B)[None])[0]).astype(np.int64)
    return sign_flip_p(size_B, int((np.sign(used_B) * size_B).sum()))


def wilcoxon_holm(
    values_BT: NDArray[Any], names: Sequence[str], *, blocks: Sequence[str] = ()
) -> dict[tuple[str, str], float]:
    """Return the p-value of every pair of treatments, adjusted for all pairs by `holm`.

    Unlike the critical difference, a pair's raw p-value does not depend on the other treatments.
    With B blocks it is at least 2 / 2^B, so few blocks and many pairs never reject.

    Raises:
        UsageError: as `friedman`.
    """
    _check(values_BT, names, blocks)
    pairs = list(combinations(range(len(names)), 2))
    raw = [wilcoxon_signed_rank(values_BT[:, a] - values_BT[:, b]) for a, b in pairs]
    return {(names[a], names[b]): p for (a, b), p in zip(pairs, holm(raw).tolist(), strict=True)}


def mean_ranks(values_BT: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rank of each value in its row, smallest first, from 1; ties share the mean."""
    ranks_BT = np.empty(values_BT.shape)
    for row_T, values_T in zip(ranks_BT, values_BT, strict=True):
        _, place_T, count = np.unique(values_T, return_inverse=True, return_counts=True)
        row_T[:] = (np.cumsum(count) - (count - 1) / 2)[place_T]
    return ranks_BT


@cache
def range_quantile(level: float, treatments: int) -> float:
    """Return a quantile of the range of independent standard normal numbers.

    It is the studentized range with infinite degrees of freedom: P(range <= q) is the integral of
    T phi(z) (Phi(z) - Phi(z - q))^(T - 1).
    """
    from scipy.special import ndtr

    point_Z, step = np.linspace(-9, 9, 2001, retstep=True)
    density_Z = treatments * np.exp(-(point_Z**2) / 2) / math.sqrt(2 * math.pi) * step

    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        inside_Z = ndtr(point_Z) - ndtr(point_Z - middle)
        is_below = float((density_Z * inside_Z ** (treatments - 1)).sum()) < level
        low, high = (middle, high) if is_below else (low, middle)
    return high


def _check(values_BT: NDArray[Any], names: Sequence[str], blocks: Sequence[str]) -> None:
    if values_BT.ndim != 2 or min(values_BT.shape) < 2:
        raise UsageError(
            f"friedman: must have at least 2 blocks and 2 treatments, got shape {values_BT.shape}"
        )
    if len(set(names)) != values_BT.shape[1] or (blocks and len(blocks) != len(values_BT)):
        raise UsageError(
            f"friedman: every treatment and block must have one name, got {len(set(names))} and "
            f"{len(blocks)} names for shape {values_BT.shape}"
        )
    missing = np.argwhere(~np.isfinite(values_BT))
    if len(missing):
        block, treatment = missing[0].tolist()
        where = blocks[block] if blocks else f"block {block}"
        raise UsageError(
            f"friedman: every block must have every treatment, got no number for "
            f"{names[treatment]} in {where} ({len(missing)} missing); leave out the block or the "
            "treatment"
        )


def _tie_counts(rank_BT: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    return [np.unique(row_T, return_counts=True)[1] for row_T in rank_BT]


def _chi_squared(rank_BT: NDArray[np.float64]) -> tuple[float, float]:
    """Return Friedman's statistic with the correction for ties, and its p-value."""
    from scipy.special import chdtrc

    blocks, treatments = rank_BT.shape
    squares = float(((rank_BT.sum(axis=0) - blocks * (treatments + 1) / 2) ** 2).sum())
    ties = sum(float((count**3 - count).sum()) for count in _tie_counts(rank_BT))
    scale = blocks * treatments * (treatments + 1) - ties / (treatments - 1)
    if scale <= 0:  # every treatment ties in every block
        return 0.0, 1.0
    chi2 = 12 * squares / scale
    return chi2, float(chdtrc(treatments - 1, chi2))


def _iman_davenport(rank_BT: NDArray[np.float64], chi2: float) -> tuple[float | None, float]:
    from scipy.special import fdtrc

    blocks, treatments = rank_BT.shape
    if (rank_BT == rank_BT[0]).all():
        (count,) = _tie_counts(rank_BT[:1])
        orders = math.factorial(treatments) // math.prod(math.factorial(n) for n in count.tolist())
        return None, float(orders) ** (1 - blocks)
    f = (blocks - 1) * chi2 / (blocks * (treatments - 1) - chi2)
    degrees = treatments - 1
    return f, float(fdtrc(degrees, degrees * (blocks - 1), f))


def _cliques(
    names: Sequence[str], ranks: Sequence[float], critical: float
) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of sorted treatments that lie within one critical difference."""
    found: list[tuple[str, ...]] = []
    reached = 0
    for start, rank in enumerate(ranks):
        end = sum(other - rank < critical for other in ranks)
        if end > max(reached, start + 1):
            found.append(tuple(names[start:end]))
            reached = end
    return tuple(found)


def _caution(blocks: int, treatments: int, critical: float) -> str:
    if blocks >= FEW_BLOCKS:
        return ""
    if critical > treatments - 1:
        return (
            f"low power: with {blocks} blocks no two of {treatments} treatments can be told apart, "
            "however they rank"
        )
    return (
        f"low power: with {blocks} blocks mean ranks must differ by {critical:.2f} of at most "
        f"{treatments - 1} to be told apart; no difference found is no proof of none"
    )
