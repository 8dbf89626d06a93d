"""What D-ECE would be if the detector were perfectly calibrated.

D-ECE of finite samples is above 0 even for perfect detectors, the more the fewer detections there
are in a bin. The null level shows by how much for exactly these scores and boxes. It stands beside
the value and is never subtracted from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.metrics.detection.counted import Counted, counted
from shrinkproof.metrics.detection.gaps import Gaps
from shrinkproof.metrics.null import NullLevel
from shrinkproof.metrics.spelling import spelled
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.randomness import stream

# Shape suffixes: m detections that count, K cells, R simulated detectors, r of them in one block.

DETECTION_NULL_METRICS: Final = frozenset({"detection.d_ece"})
"""Names of the metrics that have a null level.

LaECE and LaACE have none: their scores would have to be the expected IoU, and a score does not say
how the IoU scatters around it.
"""

CAVEAT: Final = (
    "detections are simulated independently of each other; errors that come together in an image, "
    "and two detections of one object of which only one can be right, change the null level"
)
"""Caveat of every null level of a detector."""

_STEPS: Final = 1 << 16
"""Scores are rounded to this many steps."""

_BLOCK: Final = 1 << 18
"""Draws held at a time: what a cache holds."""

_ROUNDING: Final = 1e-7
"""Simulated and observed values that are closer are equal: they are sums in another order."""


def detection_null(
    predictions: DetectionPredictions, metric: Any, *, replicates: int = 1000, seed: int
) -> NullLevel | Undefined:
    """Return the null level of one metric.

    A simulated detector has the same boxes and scores, and each detection that counts is right with
    its score as probability, independently of all others. The draws depend on the seed and on the
    number of these detections only. A score is off by at most 2**-17 (16-bit draws), so the mean
    of any bin is, too.

    Args:
        predictions: one condition.
        metric: ``detection.d_ece`` with any settings.
        replicates: number of simulated detectors, R.
        seed: seed of the study.

    Returns:
        The null level, or why there is none.

    Raises:
        UsageError: the metric is another one, or ``replicates`` is not positive.

    Reference: Broecker and Smith 2007, doi:10.1175/WAF993.1; Vaicenavicius et al. 2019,
        arXiv:1902.06977.
    """
    if replicates < 1:
        raise UsageError(f"null level: replicates must be at least 1, got {replicates}")
    if metric.name not in DETECTION_NULL_METRICS:
        raise UsageError(
            f"null level: must be asked of {', '.join(sorted(DETECTION_NULL_METRICS))}, got "
            f"{metric.name}"
        )
    gaps = metric.gaps(predictions)
    if isinstance(gaps, Undefined):
        return gaps
    found = counted(predictions, iou=metric.iou, score=metric.score)
    simulated_R = _simulated(found, gaps, replicates=replicates, seed=seed)
    reached = int((simulated_R >= metric(predictions) - _ROUNDING).sum())
    return NullLevel(
        mean=float(simulated_R.mean()),
        q95=float(np.quantile(simulated_R, 0.95)),
        p_value=(1 + reached) / (1 + replicates),
        replicates=replicates,
        caveat=CAVEAT,
    )


def detection_nulls(
    predictions: DetectionPredictions,
    metrics: Sequence[Any],
    *,
    replicates: int = 1000,
    seed: int,
) -> Mapping[str, NullLevel | Undefined]:
    """Return the null levels of those metrics that have one, by spelled name.

    Arguments and errors are those of `detection_null`.
    """
    return {
        spelled(metric): detection_null(predictions, metric, replicates=replicates, seed=seed)
        for metric in metrics
        if metric.name in DETECTION_NULL_METRICS
    }


def _simulated(found: Counted, gaps: Gaps, *, replicates: int, seed: int) -> NDArray[np.float64]:
    """Return D-ECE of each simulated detector, (R,)."""
    count = len(found)
    # By cell and score: the same detections in another order of images meet the same draws.
    order = np.lexsort((found.score, gaps.cell))
    first_K = np.flatnonzero(np.diff(gaps.cell[order], prepend=-1))
    claimed_K = np.add.reduceat(found.score[order], first_K)
    last_m = (np.clip(np.rint(found.score[order] * _STEPS), 1, _STEPS) - 1).astype(np.uint16)
    is_never_m = found.score[order] == 0
    draws = stream("null", "detections", seed).bit_generator
    words = -(-count // 4)
    rows = max(1, _BLOCK // count)
    values = []
    for start in range(0, replicates, rows):
        height = min(rows, replicates - start)
        raw = np.asarray(draws.random_raw(height * words)).astype("<u8", copy=False)
        steps_rm = raw.view("<u2").reshape(height, 4 * words)[:, :count]
        right_rm = steps_rm <= last_m
        right_rm[:, is_never_m] = False
        right_rK = np.add.reduceat(right_rm, first_K, axis=1, dtype=np.int64)
        values.append(np.abs(claimed_K - right_rK).sum(axis=1) / count)
    return np.concatenate(values)
