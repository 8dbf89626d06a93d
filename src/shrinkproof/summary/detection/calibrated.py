"""Scores after calibration, and what perfectly calibrated detectors would show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from shrinkproof.metrics.detection.calibrators import Calibrator, Kind, Logistic
from shrinkproof.metrics.detection.names import ISOTONIC, PLATT
from shrinkproof.metrics.detection.null import DETECTION_NULL_METRICS, detection_null
from shrinkproof.metrics.names import (
    NULL_MEAN,
    NULL_P,
    NULL_Q95,
    SCALED,
    SCALED_BY_BASELINE,
    bare_name,
)
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate
from shrinkproof.statistics import Interval
from shrinkproof.summary.detection.numbers import Name, Number
from shrinkproof.summary.detection.run import DetectionRun
from shrinkproof.summary.detection.split import (
    DetectionSight,
    DetectionSplit,
    own_interval,
    resampled_metric,
)
from shrinkproof.summary.scaling import TEMPERATURE
from shrinkproof.summary.values import Derived, measured

KINDS: Final[tuple[tuple[str, Kind], ...]] = (
    (SCALED, "temperature"),
    (ISOTONIC, "isotonic"),
    (PLATT, "platt"),
)
"""Prefix and kind of each calibration that is fitted on a candidate's own select images."""

_DEPENDENT: Final = ("detection.d_ece", "detection.laece", "detection.laace")
"""Metrics that every calibration changes."""

_SAME: Final = "of the detections that counted before calibration"


def calibrated_numbers(
    run: DetectionRun, split: DetectionSplit, sight: DetectionSight
) -> Mapping[Name, Number | Undefined]:
    """Return what a candidate's metrics become with each calibration of its scores.

    Calibration errors are about the detections that counted before, so that both values can be
    compared. On the select split itself these would be numbers of the images that chose the
    calibration, so there are none.
    """
    found: dict[Name, Number | Undefined] = {}
    for prefix, calibrator in _calibrators(run, split, sight).items():
        for metric, made, predictions in _after(run, split, sight, prefix, calibrator):
            name = (prefix + metric, "")
            found[name] = resampled_metric(made, predictions, split.weights)
            sight.stated |= own_interval(name, made, predictions, split)
            sight.caveats[name] = calibrator.caveat
            if bare_name(metric) in _DEPENDENT:
                sight.caveats[name] += f"; {_SAME}"
    return found


def _calibrators(
    run: DetectionRun, split: DetectionSplit, sight: DetectionSight
) -> Mapping[str, Calibrator]:
    """Return what corrects the scores, by prefix; nothing where nothing is judged."""
    is_printed = split.name == run.common.printing and split.name != "select"
    if not is_printed or sight.predictions is None or not _asked(run):
        return {}
    baseline = run.common.baseline(run.common.by_key[sight.candidate]).key
    asked = [(prefix, kind, sight.candidate) for prefix, kind in KINDS]
    found = {}
    for prefix, kind, key in (*asked, (SCALED_BY_BASELINE, KINDS[0][1], baseline)):
        calibrator = run.calibrator(kind, key)
        if not isinstance(calibrator, Undefined):  # a row of its own says why
            found[prefix] = calibrator
    return found


def _asked(run: DetectionRun) -> list[str]:
    """Return the metrics of the study that every calibration changes."""
    return [metric for metric in run.settings.metrics if bare_name(metric) in _DEPENDENT]


def _after(
    run: DetectionRun,
    split: DetectionSplit,
    sight: DetectionSight,
    prefix: str,
    calibrator: Calibrator,
) -> Iterator[tuple[str, Any, DetectionPredictions]]:
    """Yield each metric that a calibration changes, and how it is computed from what.

    Isotonic calibration makes scores equal that were not, so it changes the average precision too;
    that is shown on clean images alone.
    """
    assert sight.predictions is not None, "there are calibrators only where there are detections"
    for metric in _asked(run):
        yield metric, *calibrator.on_same(split.metrics[metric], sight.predictions)
    if prefix == ISOTONIC and sight.condition.is_clean:
        quality = run.settings.quality
        yield quality, split.metrics[quality], calibrator.apply(sight.predictions)


def calibrations(run: DetectionRun, candidate: Candidate) -> Iterator[Derived]:
    """Yield the temperature of a candidate, and why calibrations could not be fitted."""
    judged = run.splits.get(run.common.printing)
    if judged is None or candidate.key not in judged.tallies or not judged.has_images:
        return
    asked = _asked(run)
    for prefix, kind in KINDS if asked else ():
        found = run.calibrator(kind, candidate.key)
        if isinstance(found, Undefined):
            names = [TEMPERATURE] if kind == "temperature" else [prefix + m for m in asked]
            for name in names:
                nothing = measured(name, found)
                yield Derived(candidate.key, judged.name, "clean", 0, judged.form, nothing)
        elif isinstance(found.correction, Logistic) and kind == "temperature":
            yield _temperature(run, judged, candidate, 1 / found.correction.slope, found.caveat)


def _temperature(
    run: DetectionRun, judged: DetectionSplit, candidate: Candidate, value: float, caveat: str
) -> Derived:
    split = run.splits["select"]
    reason = f"{caveat}, without an interval of its own"
    if judged is split:
        reason += "; there are no other images on which its effect could be judged"
    found = measured(TEMPERATURE, value, Interval(reason=reason), count=split.count)
    return Derived(candidate.key, split.name, "clean", 0, split.form, found)


def null_numbers(
    run: DetectionRun, split: DetectionSplit, sight: DetectionSight
) -> Mapping[Name, Number | Undefined]:
    """Return mean, 95 % quantile and p-value of the null level of each calibration error.

    Only on the split whose numbers are printed. With a calibration of the scores, which has another
    null level, on clean images alone.
    """
    if split.name != run.common.printing or sight.predictions is None:
        return {}
    levels = [(name, metric, sight.predictions) for name, metric in split.metrics.items()]
    if sight.condition.is_clean:
        for prefix, calibrator in _calibrators(run, split, sight).items():
            for name, metric, predictions in _after(run, split, sight, prefix, calibrator):
                levels.append((prefix + name, metric, predictions))
    found: dict[Name, Number | Undefined] = {}
    for name, metric, predictions in levels:
        if metric.name in DETECTION_NULL_METRICS:
            found |= _level(split, sight, name, metric, predictions)
    return found


def _level(
    split: DetectionSplit,
    sight: DetectionSight,
    name: str,
    metric: Any,
    predictions: DetectionPredictions,
) -> dict[Name, Number | Undefined]:
    """Return one null level; its caveats go to the sight."""
    replicates, seed = split.settings.replicates, split.settings.seed
    level = detection_null(predictions, metric, replicates=replicates, seed=seed)
    if isinstance(level, Undefined):
        return {(prefix + name, ""): level for prefix in (NULL_MEAN, NULL_Q95, NULL_P)}
    found: dict[Name, Number | Undefined] = {
        (NULL_MEAN + name, ""): level.mean,
        (NULL_Q95 + name, ""): level.q95,
        (NULL_P + name, ""): level.p_value,
    }
    text = "; ".join(filter(None, (f"{level.replicates:,} simulated detectors", level.caveat)))
    sight.caveats |= dict.fromkeys(found, text)
    return found
