"""Sums over bins of what detections claim minus what is true of them, and their intervals.

D-ECE, LaECE and LaACE differ in what is true of a detection and in how detections are binned; from
there on they are one calculation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.statistics import Replicated

# Shape suffixes: N images, m detections that count, P parts, K cells, R resampled data sets,
# r of them in one block.

_BLOCK: Final = 1 << 22
"""Sums of cells held at a time: 32 MiB."""

_MOST_KEYS: Final = 1 << 40
"""No part has more bins."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """What each detection claims minus what is true of it, and where it belongs.

    The number is the mean over the parts of ``sum over cells |sum of gaps| / detections``.

    Attributes:
        image: (m,) position of the image, 0 to N - 1.
        cell: (m,) int64, 0 to K - 1; every cell holds a detection.
        gap: (m,) float64.
        part: (K,) int64, rising, the part of each cell; 0 to P - 1, every part holds a cell.
        key: (K,) int64, rising, names the same bin of the same part in all predictions.
        images: number of images, N.
    """

    image: NDArray[np.int64]
    cell: NDArray[np.int64]
    gap: NDArray[np.float64]
    part: NDArray[np.int64]
    key: NDArray[np.int64]
    images: int

    @property
    def parts(self) -> int:
        """Number of parts, P; 0 where no detection counts."""
        return int(self.part[-1]) + 1 if len(self.part) else 0

    @property
    def starts(self) -> NDArray[np.int64]:
        """First cell of each part, (P,)."""
        return np.flatnonzero(np.diff(self.part, prepend=-1))


def in_cells(
    image: NDArray[np.int64],
    part: NDArray[np.int64],
    key: NDArray[np.int64],
    gap: NDArray[np.float64],
    *,
    images: int,
) -> Gaps:
    """Return the gaps of detections in cells of equal part and key; empty cells are left out.

    Args:
        image: (m,) position of the image.
        part: (m,) what is averaged over, any numbers, not negative: classes, or all the same.
        key: (m,) bin within the part, not negative.
        gap: (m,) claim minus truth.
        images: number of images.
    """
    key_K, cell = np.unique(part * _MOST_KEYS + key, return_inverse=True)
    _, part_K = np.unique(key_K // _MOST_KEYS, return_inverse=True)
    return Gaps(image, cell.astype(np.int64), gap, part_K.astype(np.int64), key_K, images)


def mean_gap(gaps: Gaps) -> float:
    """Return the number for the images as they are; at least one detection must count."""
    sum_K = np.bincount(gaps.cell, gaps.gap)
    count_K = np.bincount(gaps.cell)
    top_P = np.add.reduceat(np.abs(sum_K), gaps.starts)
    return float((top_P / np.add.reduceat(count_K, gaps.starts)).mean())


def resampled(gaps: Gaps, weights: NDArray[np.float32]) -> Replicated:
    """Return the number and its values on resampled data sets.

    Parts without a detection in a resampled data set are left out of its mean; NaN where none has
    any. A block of resampled data sets is one product with a sparse matrix of sums of each image.

    Args:
        gaps: at least one detection.
        weights: (R, N) how often each image stands in each resampled data set.
    """
    values = [_values(sum_rK, count_rP, gaps) for sum_rK, count_rP in _blocks(gaps, weights)]
    return Replicated(mean_gap(gaps), np.concatenate(values))


def resampled_cells(gaps: Gaps, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each cell adds on each resampled data set, signed, (R, K) float64.

    The number is the sum of their absolute values. Meant for few cells: it needs 8 R K bytes.
    """
    return np.concatenate(
        [_shares(sum_rK, count_rP, gaps) for sum_rK, count_rP in _blocks(gaps, weights)]
    )


def cells(gaps: Gaps) -> NDArray[np.float64]:
    """Return what each cell adds to the number, signed, (K,) float64."""
    sum_1K = np.bincount(gaps.cell, gaps.gap)[None].astype(np.float64)
    count_1P = np.bincount(gaps.part[gaps.cell])[None].astype(np.float64)
    return np.asarray(_shares(sum_1K, count_1P, gaps)[0], dtype=np.float64)


def _values(
    sum_rK: NDArray[np.float64], count_rP: NDArray[np.float64], gaps: Gaps
) -> NDArray[np.float64]:
    """Return the number on each resampled data set of a block, (r,)."""
    top_rP = np.add.reduceat(np.abs(sum_rK), gaps.starts, axis=1)
    with np.errstate(invalid="ignore"):
        error_rP = np.where(count_rP > 0, top_rP / count_rP, 0.0)
        return np.asarray(error_rP.sum(axis=1) / (count_rP > 0).sum(axis=1))


def _shares(
    sum_rK: NDArray[np.float64], count_rP: NDArray[np.float64], gaps: Gaps
) -> NDArray[np.float64]:
    """Return what each cell adds on each resampled data set of a block, (r, K)."""
    present_r1 = (count_rP > 0).sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        share_rK = sum_rK / (count_rP * present_r1)[:, gaps.part]
    return np.where((count_rP > 0)[:, gaps.part], share_rK, 0.0)


def _blocks(
    gaps: Gaps, weights: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield the sums of gaps of the cells, (r, K), and detections of the parts, (r, P)."""
    sums_KN = _sparse(gaps, gaps.cell, gaps.gap, len(gaps.part))
    counts_PN = _sparse(gaps, gaps.part[gaps.cell], np.ones(len(gaps.gap)), gaps.parts)
    rows = max(1, _BLOCK // max(len(gaps.part), gaps.images))
    for start in range(0, len(weights), rows):
        weight_Nr = np.ascontiguousarray(weights[start : start + rows].T, dtype=np.float64)
        yield (sums_KN @ weight_Nr).T, (counts_PN @ weight_Nr).T


def _sparse(gaps: Gaps, row: NDArray[np.int64], values: NDArray[np.float64], rows: int) -> Any:
    """Return the sums of values for each row and image, a sparse matrix (rows, N)."""
    # scipy.sparse costs 0.1 s to import; commands that only read tables never come here.
    from scipy.sparse import csr_array

    return csr_array((values, (row, gaps.image)), shape=(rows, gaps.images))
