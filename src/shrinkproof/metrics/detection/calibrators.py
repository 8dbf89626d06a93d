"""Corrections of the scores of a detector: isotonic regression, Platt and temperature scaling.

What calibration error remains after one is damage that whoever deploys the detector cannot repair
for free. They are fitted on the clean images of the select split, never on images on which a number
is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.metrics.detection.counted import Counted, counted
from shrinkproof.metrics.temperature import HIGHEST, LOWEST, fit_temperature
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Json
from shrinkproof.statistics import MINIMUM_OUTCOMES

# Shape suffixes: m detections, M all detections of some predictions, S distinct scores.

M = TypeVar("M")

Kind = Literal["isotonic", "platt", "temperature"]
"""Kinds of corrections."""

KINDS: Final[tuple[Kind, ...]] = ("isotonic", "platt", "temperature")
"""All kinds of corrections."""

_CLOSEST: Final = 1e-7
"""Scores closer to 0 or 1 count as this close: their logit stays finite."""

_STEPS: Final = 100
"""Most Newton steps of Platt scaling; about 8 are needed."""

_CLOSE: Final = 1e-10
"""A Newton step shorter than this ends the search."""


class Correction(Protocol):
    """A function that never falls, from score to score."""

    def __call__(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the corrected scores, 0 to 1."""
        ...

    def as_json(self) -> Json:
        """Return plain JSON values."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Rising:
    """Straight lines between points that never fall; constant before the first and after the last.

    Attributes:
        at: (S,) rising scores.
        value: (S,) what they become, 0 to 1, never falling.
    """

    at: NDArray[np.float64]
    value: NDArray[np.float64]

    def __call__(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the corrected scores."""
        return np.interp(score, self.at, self.value)

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return {"at": self.at.tolist(), "value": self.value.tolist()}


@dataclass(frozen=True, slots=True)
class Logistic:
    """A line in the logit of the score.

    Attributes:
        slope: above 0; one over the temperature.
        shift: in nat.
    """

    slope: float
    shift: float

    def __call__(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the corrected scores."""
        return _sigmoid(self.slope * _logit(score) + self.shift)

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return {"slope": self.slope, "shift": self.shift}


@dataclass(frozen=True, slots=True, eq=False)
class Calibrator:
    """A correction of scores, and what it was fitted on.

    Attributes:
        kind: ``isotonic``, ``platt`` or ``temperature``.
        correction: the function.
        iou: smallest IoU of a detection that found an object, when it was fitted.
        score: smallest score that counted.
        right: number of right detections that counted.
        wrong: number of wrong ones.
    """

    kind: Kind
    correction: Correction
    iou: float
    score: float
    right: int
    wrong: int

    @property
    def caveat(self) -> str:
        """What it was fitted on, for readers."""
        return (
            f"{self.kind} correction, one for all classes, fitted on {self.right} right and "
            f"{self.wrong} wrong detections with scores >= {self.score:g} at IoU >= {self.iou:g}"
        )

    def apply(self, predictions: DetectionPredictions) -> DetectionPredictions:
        """Return the predictions with corrected scores.

        The same boxes stay, also those with scores below what the correction was fitted on. The
        order within an image does not change, because a correction never falls; but isotonic
        regression makes scores equal that were not, so average precision may change with it. Platt
        and temperature scaling keep the order of all boxes, up to the rounding to float32.
        """
        corrected_M = np.clip(self.correction(predictions.score.astype(np.float64)), 0.0, 1.0)
        score_M = corrected_M.astype(np.float32)
        # Rounding could turn equal values around by one step.
        order_M = np.lexsort((-score_M, predictions.image))
        return replace(
            predictions,
            boxes=predictions.boxes[order_M],
            score=score_M[order_M],
            label=predictions.label[order_M],
        )

    def on_same(
        self, metric: M, predictions: DetectionPredictions
    ) -> tuple[M, DetectionPredictions]:
        """Return a metric and predictions that give its value for the boxes that counted before.

        A threshold on the corrected scores would count other boxes than one on the original scores,
        and both values could not be compared. So the threshold of the metric is applied first and
        the corrected metric has none.

        Args:
            metric: has a field ``score``, such as ``detection.d_ece``.
            predictions: with the original scores.
        """
        least: Any = metric
        return replace(least, score=0.0), self.apply(predictions.above(least.score))

    def as_json(self) -> Json:
        """Return plain JSON values."""
        settings = {name: getattr(self, name) for name in ("iou", "score", "right", "wrong")}
        return {"kind": self.kind, **settings, "correction": self.correction.as_json()}


def fit(
    kind: Kind, predictions: DetectionPredictions, *, iou: float = 0.5, score: float = 0.3
) -> Calibrator | Undefined:
    """Return the correction that fits best, or why there is none.

    It is one function for all classes, fitted to whether each detection found an object, by the
    matching and threshold of D-ECE.

    * ``isotonic``: the never falling function with the least squared error (pool adjacent
      violators), straight lines between the scores it was fitted on, constant beyond the last one.
      Below the lowest it falls on a straight line to 0, so that the many boxes below the threshold
      do not become equal.
    * ``platt``: a line in the logit of the score with the largest likelihood.
    * ``temperature``: the same without shift; see `temperature.fit_temperature`.

    Scores within 1e-7 of 0 or 1 have the logit of that distance.

    Args:
        kind: which correction.
        predictions: of the clean images of the select split.
        iou: smallest IoU of a detection that found an object.
        score: smallest score that counts.

    Returns:
        The correction. Undefined with fewer than 10 right or 10 wrong detections, where all
        scores are equal (Platt, temperature), where right and wrong ones are perfectly apart, and
        where higher scores are no more often right.

    Raises:
        UsageError: there is no such kind.

    Reference: Zadrozny and Elkan 2002, doi:10.1145/775047.775151; Platt 1999; Guo et al. 2017,
        doi:10.5555/3305381.3305518; for detectors Kuzucu et al. 2024, arXiv:2405.20459.
    """
    if kind not in KINDS:
        raise UsageError(f"calibrator: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    found = counted(predictions, iou=iou, score=score)
    right = int(found.right.sum())
    wrong = len(found) - right
    if min(right, wrong) < MINIMUM_OUTCOMES:
        return Undefined(
            f"a correction of scores needs at least {MINIMUM_OUTCOMES} right and "
            f"{MINIMUM_OUTCOMES} wrong detections, got {right} right and {wrong} wrong"
        )
    correction = _FITS[kind](found)
    if isinstance(correction, Undefined):
        return correction
    return Calibrator(kind, correction, iou, score, right, wrong)


def _isotonic(found: Counted) -> Correction | Undefined:
    # scipy.optimize costs 0.2 s to import; commands that only read tables never come here.
    from scipy.optimize import isotonic_regression

    score_S, place_m = np.unique(found.score, return_inverse=True)
    count_S = np.bincount(place_m)
    share_S = np.bincount(place_m, found.right) / count_S
    value_S = isotonic_regression(share_S, weights=count_S.astype(np.float64)).x
    if value_S[0] == value_S[-1]:
        return Undefined("higher scores are no more often right, so a correction makes all equal")
    if score_S[0] > 0:
        score_S, value_S = np.append(0.0, score_S), np.append(0.0, value_S)
    # Within a run of equal values only its ends are needed.
    is_end = np.diff(value_S, prepend=-1.0, append=2.0) != 0
    keep = is_end[:-1] | is_end[1:]
    return Rising(score_S[keep], np.clip(value_S[keep], 0.0, 1.0))


def _temperature(found: Counted) -> Correction | Undefined:
    logit_m = _logit(found.score)
    fitted = fit_temperature(
        np.stack([np.zeros_like(logit_m), logit_m], axis=1), found.right.astype(np.int64)
    )
    if fitted.converged:
        return Logistic(1 / fitted.value, 0.0)
    if fitted.value == HIGHEST:
        return Undefined("the scores are no better than chance: the best temperature is infinite")
    if fitted.value == LOWEST:
        return Undefined("scores above 0.5 are always right, others never: no temperature is best")
    return Undefined("all scores are 0.5, so a temperature changes nothing")


def _platt(found: Counted) -> Correction | Undefined:
    """Return the line with the largest likelihood, by Newton's method on a convex function."""
    logit_m = _logit(found.score)
    if np.ptp(logit_m) == 0:
        return Undefined("all scores are equal, so a line through their logits is not determined")
    lowest_right, highest_right = _ends(logit_m[found.right])
    lowest_wrong, highest_wrong = _ends(logit_m[~found.right])
    if lowest_right >= highest_wrong or lowest_wrong >= highest_right:
        return Undefined("scores of right and wrong detections do not overlap: no line is best")
    columns_m2 = np.stack([logit_m, np.ones_like(logit_m)], axis=1)
    line = _newton(columns_m2, found.right.astype(np.float64))
    if line is None:
        return Undefined(f"Platt scaling did not converge within {_STEPS} steps")
    if line[0] <= 0:
        return Undefined("higher scores are no more often right, so no line rises")
    return Logistic(float(line[0]), float(line[1]))


_FITS: Final = {"isotonic": _isotonic, "platt": _platt, "temperature": _temperature}


def _newton(
    columns_m2: NDArray[np.float64], right_m: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return slope and shift of the logistic regression, (2,); None where the steps do not end."""
    line: NDArray[np.float64] = np.array([1.0, 0.0])
    loss = _loss(columns_m2 @ line, right_m)
    for _ in range(_STEPS):
        prob_m = _sigmoid(columns_m2 @ line)
        slope_2 = columns_m2.T @ (prob_m - right_m)
        curve_22 = (columns_m2 * (prob_m * (1 - prob_m))[:, None]).T @ columns_m2
        step_2, share = np.linalg.solve(curve_22, slope_2), 1.0
        # Newton steps may go too far where the probabilities are saturated.
        while (tried := _loss(columns_m2 @ (line - share * step_2), right_m)) > loss + _CLOSE:
            share /= 2
        line, loss = line - share * step_2, tried
        if np.abs(share * step_2).max() < _CLOSE:
            return line
    return None


def _loss(logit_m: NDArray[np.float64], right_m: NDArray[np.float64]) -> float:
    """Return the mean negative log-likelihood."""
    return float((np.logaddexp(0.0, logit_m) - right_m * logit_m).mean())


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _logit(score_m: NDArray[np.float64]) -> NDArray[np.float64]:
    inside_m = np.clip(score_m, _CLOSEST, 1 - _CLOSEST)
    return np.log(inside_m) - np.log1p(-inside_m)


def _sigmoid(logit_m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0.0, -logit_m)))
