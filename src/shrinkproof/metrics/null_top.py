"""Calibration errors of the predicted class that perfectly calibrated models would show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import Binning
from shrinkproof.metrics.calibrated import cumulated_right
from shrinkproof.metrics.derived import Derived
from shrinkproof.metrics.null_rows import ROWS

# Shape suffixes: N images, B bins, E ends of bins, R replicates, r replicates of one block.


@dataclass(frozen=True, slots=True, eq=False)
class _Bins:
    """Bins as runs of the images by ascending confidence, and what simulated models get right.

    Attributes:
        count: (B,) number of images in each bin, at least 1.
        confidence: (B,) sum of their confidences.
        right: (R, B) number of right answers in each bin.
    """

    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int32]

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of all images that are in each bin, (B,)."""
        return np.asarray(self.count / self.count.sum(), dtype=np.float64)

    @property
    def gap(self) -> NDArray[np.float64]:
        """Mean confidence minus accuracy of each bin, (R, B)."""
        return np.asarray((self.confidence - self.right) / self.count, dtype=np.float64)


_Value = Callable[[_Bins], NDArray[np.float64]]


def _mean_gap(bins: _Bins) -> NDArray[np.float64]:
    return bins.gap @ bins.share


def _mean_absolute(bins: _Bins) -> NDArray[np.float64]:
    return np.abs(bins.gap) @ bins.share


def _mean_above(bins: _Bins) -> NDArray[np.float64]:
    return np.maximum(bins.gap, 0.0) @ bins.share


def _mean_below(bins: _Bins) -> NDArray[np.float64]:
    return np.maximum(-bins.gap, 0.0) @ bins.share


def _mean_square(bins: _Bins) -> NDArray[np.float64]:
    return bins.gap**2 @ bins.share


def _root_mean_square(bins: _Bins) -> NDArray[np.float64]:
    return np.sqrt(_mean_square(bins))


def _debiased(bins: _Bins) -> NDArray[np.float64]:
    accuracy_RB = bins.right / bins.count
    chance_RB = accuracy_RB * (1 - accuracy_RB) / np.maximum(bins.count - 1, 1)
    squares_RB = np.where(bins.count >= 2, bins.gap**2 - chance_RB, 0.0)
    return np.sqrt(np.maximum(squares_RB @ bins.share, 0.0))


def _largest(minimum_count: int) -> _Value:
    def value(bins: _Bins) -> NDArray[np.float64]:
        gap_RB = np.abs(bins.gap[:, bins.count >= minimum_count])
        return np.asarray(gap_RB.max(axis=1), dtype=np.float64)

    return value


@dataclass(frozen=True, slots=True)
class _Binned:
    """How a metric follows from bins.

    Attributes:
        value: metric -> function of the bins.
        binning: how it bins where it has no field for it.
        bins: into how many where it has no field for it.
    """

    value: Callable[[Any], _Value]
    binning: Binning = "equal-width"
    bins: int = 1


_BINNED: Final[Mapping[str, _Binned]] = {
    "calibration.ece": _Binned(lambda _: _mean_absolute),
    "calibration.ece_equal_mass": _Binned(lambda _: _mean_absolute, "equal-mass"),
    "calibration.ece_l2": _Binned(lambda _: _root_mean_square),
    "calibration.ece_max": _Binned(lambda metric: _largest(metric.minimum_count)),
    "calibration.ece_debiased": _Binned(lambda _: _debiased),
    "calibration.overconfidence": _Binned(lambda _: _mean_above),
    "calibration.underconfidence": _Binned(lambda _: _mean_below),
    "calibration.confidence_gap": _Binned(lambda _: _mean_gap),
    "calibration.murphy_reliability": _Binned(lambda _: _mean_square),
}

TOP: Final = frozenset({*_BINNED, *ROWS})
"""Metrics of the predicted class that have a null level."""


def top_values(
    values: Derived, metrics: Mapping[str, Any], *, replicates: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return each metric of each simulated model, key -> (R,).

    Args:
        values: of one condition with at least one image.
        metrics: any key -> metric, each of them in `TOP`.
        replicates: number of simulated models; metrics that are slow get fewer.
        seed: seed of the study.
    """
    binned = {
        key: _BINNED[metric.name] for key, metric in metrics.items() if metric.name in _BINNED
    }
    bin_of = {key: _bin_of(values, metrics[key], how) for key, how in binned.items()}
    filled = {key: np.flatnonzero(np.bincount(bin_N)) for key, bin_N in bin_of.items()}
    count = {key: np.bincount(bin_N)[filled[key]] for key, bin_N in bin_of.items()}
    end = {key: np.cumsum(count_B) for key, count_B in count.items()}
    all_E = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *end.values()]))
    right_RE, found = _simulate(values, metrics, all_E, replicates=replicates, seed=seed)
    for key, bin_N in bin_of.items():
        upto_RB = right_RE[:, np.searchsorted(all_E, end[key])]
        bins = _Bins(
            count=count[key],
            confidence=np.bincount(bin_N, values.confidence)[filled[key]].astype(np.float64),
            right=np.diff(upto_RB, axis=1, prepend=np.int32(0)),
        )
        found[key] = binned[key].value(metrics[key])(bins)
    return found


def _simulate(
    values: Derived,
    metrics: Mapping[str, Any],
    end_E: NDArray[np.int64],
    *,
    replicates: int,
    seed: int,
) -> tuple[NDArray[np.int32], dict[str, NDArray[np.float64]]]:
    """Return right answers up to each end, (R, E), and the metrics that need all images."""
    rows = {
        key: (ROWS[metric.name].prepare(metric, values), ROWS[metric.name].most)
        for key, metric in metrics.items()
        if metric.name in ROWS
    }
    parts: dict[str, list[NDArray[np.float64]]] = {key: [] for key in rows}
    ends: list[NDArray[np.int32]] = []
    done = 0
    for right_rN in cumulated_right(values.ascending, replicates=replicates, seed=seed):
        ends.append(right_rN[:, end_E - 1])
        for key, (value, most) in rows.items():
            if done < most:
                parts[key].append(value(right_rN[: most - done]))
        done += len(right_rN)
    return np.concatenate(ends), {key: np.concatenate(part) for key, part in parts.items()}


def _bin_of(values: Derived, metric: Any, how: _Binned) -> NDArray[np.int64]:
    return values.bin_of(getattr(metric, "binning", how.binning), getattr(metric, "bins", how.bins))
