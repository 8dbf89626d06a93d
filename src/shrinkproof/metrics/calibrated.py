"""What a perfectly calibrated model with the same probabilities would get right, by simulation.

The draws depend on the seed and on the number of images only: column k of a replicate belongs to
the k-th least confident image. So every candidate, condition and metric meets the same draws,
their differences carry little simulation noise, and the order of the images does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.derived import derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.randomness import stream

# Shape suffixes: N images, C classes, R replicates, r replicates or n images of one block.

_STEPS: Final = 1 << 16
"""Probabilities of right answers are rounded to this many steps."""

_LABEL_STEPS: Final = 1 << 32
"""Cumulated probabilities of labels are rounded to this many steps."""

_BLOCK: Final = 1 << 18
"""Draws held at a time: what a cache holds."""


def cumulated_right(
    ascending_N: NDArray[np.float64], *, replicates: int, seed: int
) -> Iterator[NDArray[np.int32]]:
    """Yield how many of the n least confident images are right, n = 1 to N, (r, N) a block.

    Each image is right with its confidence as probability, independently of all others. A
    probability is off by at most 2**-17 (16-bit draws), so the mean gap of any set of images is,
    too; a confidence of 1 is always right.

    Args:
        ascending_N: (N,) confidences in ascending order.
        replicates: number of simulated models, R.
        seed: seed of the study.
    """
    count = len(ascending_N)
    draws = stream("null", seed).bit_generator
    last_N = (np.clip(np.rint(ascending_N * _STEPS), 1, _STEPS) - 1).astype(np.uint16)
    words = -(-count // 4)
    rows = max(1, _BLOCK // max(1, count))
    for start in range(0, replicates, rows):
        height = min(rows, replicates - start)
        raw = np.asarray(draws.random_raw(height * words)).astype("<u8", copy=False)
        steps_rN = raw.view("<u2").reshape(height, 4 * words)[:, :count]
        yield np.cumsum(steps_rN <= last_N, axis=1, dtype=np.int32)


def drawn_labels(
    predictions: ClassificationPredictions, *, replicates: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield labels drawn from the softmax of each image, independently of all others.

    A cumulated probability is off by at most 2**-33 (32-bit draws).

    Args:
        predictions: one condition.
        replicates: number of simulated models, R.
        seed: seed of the study.

    Yields:
        Positions of some images, (n,), and their labels, (n, R).
    """
    count, num_classes = predictions.logits.shape
    order_N = derived(predictions).order
    draws = stream("null", "labels", seed).bit_generator
    words = -(-replicates // 2)
    size = max(1, _BLOCK // max(num_classes, replicates))
    for start in range(0, count, size):
        part_n = order_N[start : start + size]
        upper_nC = np.cumsum(np.exp(predictions.take(part_n).log_prob()), axis=1)
        # The last class takes what rounding leaves.
        upper_nC = np.rint(upper_nC[:, :-1] * _LABEL_STEPS)
        raw = np.asarray(draws.random_raw(len(part_n) * words)).astype("<u8", copy=False)
        steps_nR = raw.view("<u4").reshape(len(part_n), 2 * words)[:, :replicates]
        labels_nR = np.empty(steps_nR.shape, dtype=np.int64)
        for row, upper_C, steps_R in zip(
            labels_nR, upper_nC, steps_nR.astype(np.float64), strict=True
        ):
            row[:] = np.searchsorted(upper_C, steps_R, side="right")
        yield part_n, labels_nR
