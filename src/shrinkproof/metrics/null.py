"""The null level: what a calibration error would be if the model were perfectly calibrated.

Calibration errors of finite samples are above 0 even for perfect models, the more the fewer images
there are. The null level shows by how much for exactly these probabilities. It stands beside the
value and is never subtracted from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.metrics.derived import NO_IMAGES, derived
from shrinkproof.metrics.null_classes import CLASSES, class_values
from shrinkproof.metrics.null_top import TOP, top_values
from shrinkproof.metrics.spelling import spelled
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined

# Shape suffixes: R replicates.

NULL_METRICS: Final = TOP | CLASSES
"""Names of the metrics that a perfectly calibrated model has an expected value of above 0."""

_ROUNDING: Final = 1e-7
"""Simulated and observed values that are closer are equal: they are sums in another order."""

GROUPED: Final = (
    "images of a group are simulated independently of each other; errors that come together in a "
    "group (drive, scene, patient) would raise the null level, so p may be too small"
)
"""Caveat of every null level where images come in groups."""


@dataclass(frozen=True, slots=True)
class NullLevel:
    """What perfectly calibrated models with these probabilities show, and where the model stands.

    Attributes:
        mean: mean over the simulated models.
        q95: their 95 % quantile; for a signed number, such as ``calibration.confidence_gap``, the
            quantile of its absolute value.
        p_value: how probable at least the observed value is under perfect calibration,
            (1 + number of simulated values not below it) / (1 + replicates); two-sided for a
            signed number.
        replicates: number of simulated models.
        caveat: what a reader must know, empty for nothing.
    """

    mean: float
    q95: float
    p_value: float
    replicates: int
    caveat: str = ""


def null_level(
    predictions: ClassificationPredictions, metric: Any, *, replicates: int = 1000, seed: int
) -> NullLevel | Undefined:
    """Return the null level of one metric; see `nulls`.

    Raises:
        UsageError: the metric is no calibration error, or ``replicates`` is not positive.
    """
    found = nulls(predictions, [metric], replicates=replicates, seed=seed)
    if not found:
        raise UsageError(
            f"null level: must be asked of a calibration error, got {metric.name}; one of "
            f"{', '.join(sorted(NULL_METRICS))}"
        )
    return found[spelled(metric)]


def nulls(
    predictions: ClassificationPredictions,
    metrics: Sequence[Any],
    *,
    replicates: int = 1000,
    seed: int,
) -> dict[str, NullLevel | Undefined]:
    """Return the null levels of all calibration errors among some metrics.

    A simulated model has the same probabilities, and its images are right with their confidence
    as probability, independently of each other (errors of classes: labels are drawn from the
    softmax). The simulated answers depend on the seed and on the number of images only, so all
    metrics, candidates and conditions share them. Metrics that cost more than sums over bins get
    200 models.

    Args:
        predictions: one condition.
        metrics: members of ``METRICS``; others than calibration errors are left out.
        replicates: number of simulated models.
        seed: seed of the study.

    Returns:
        Spelled name -> null level, or why there is none.

    Raises:
        UsageError: ``replicates`` is not positive.

    Reference: Broecker and Smith 2007, doi:10.1175/WAF993.1; Vaicenavicius et al. 2019,
        arXiv:1902.06977.
    """
    if replicates < 1:
        raise UsageError(f"null level: replicates must be at least 1, got {replicates}")
    asked = {spelled(metric): metric for metric in metrics if metric.name in NULL_METRICS}
    if not len(predictions):
        return dict.fromkeys(asked, NO_IMAGES)
    observed = {name: metric(predictions) for name, metric in asked.items()}
    defined = {name: m for name, m in asked.items() if not isinstance(observed[name], Undefined)}
    simulated = _simulated(predictions, defined, replicates=replicates, seed=seed)
    caveat = _caveat(predictions)
    return {
        name: _level(metric, observed[name], simulated.get(name), caveat)
        for name, metric in asked.items()
    }


def _simulated(
    predictions: ClassificationPredictions,
    metrics: Mapping[str, Any],
    *,
    replicates: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return the values of simulated models, name -> (R,); too slow ones are left out."""
    of_top, of_classes = {}, {}
    for name, metric in metrics.items():
        is_top = getattr(metric, "of", "top") == "top"
        if is_top and metric.name in TOP:
            of_top[name] = metric
        elif metric.name in CLASSES:
            of_classes[name] = metric
    found: dict[str, NDArray[np.float64]] = {}
    if of_top:
        found |= top_values(derived(predictions), of_top, replicates=replicates, seed=seed)
    if of_classes:
        found |= class_values(predictions, of_classes, replicates=replicates, seed=seed)
    return found


def _level(
    metric: Any,
    observed: float | Undefined,
    simulated_R: NDArray[np.float64] | None,
    caveat: str,
) -> NullLevel | Undefined:
    if isinstance(observed, Undefined):
        return observed
    if simulated_R is None:
        return Undefined("simulating the recalibration of every class takes too long")
    is_signed = metric.better is Better.NONE
    size_R, size = (np.abs(simulated_R), abs(observed)) if is_signed else (simulated_R, observed)
    reached = int((size_R >= size - _ROUNDING).sum())
    return NullLevel(
        mean=float(simulated_R.mean()),
        q95=float(np.quantile(size_R, 0.95)),
        p_value=(1 + reached) / (1 + len(simulated_R)),
        replicates=len(simulated_R),
        caveat=caveat,
    )


def _caveat(predictions: ClassificationPredictions) -> str:
    groups = predictions.groups
    return GROUPED if groups is not None and len(np.unique(groups)) < len(groups) else ""
