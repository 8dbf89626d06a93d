"""Calibration after temperature scaling, with a candidate's own temperature and the baseline's.

The temperature of the uncompressed model carried over answers whether a deployer who had calibrated
it must do so again after compression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from shrinkproof.errors import DataError
from shrinkproof.metrics.names import CHANGE, FROM_CONTROL, SCALED, SCALED_BY_BASELINE
from shrinkproof.metrics.temperature import scaled
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate
from shrinkproof.statistics import Interval
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Sight, Split
from shrinkproof.summary.values import Derived, Number, measured

TEMPERATURE: Final = "calibration.temperature"

_DEPENDENT: Final = ("calibration.", "selective.", "accuracy.nll", "accuracy.brier")
"""Metrics that a temperature can change."""


def scaled_numbers(run: Run, split: Split, sight: Sight) -> Mapping[str, Number | Undefined]:
    """Return what a candidate's metrics become with each temperature.

    On the select split itself these would be numbers of the images that chose the temperature, so
    there are none.
    """
    found: dict[str, Number | Undefined] = {}
    for prefix, cooled in cooled_predictions(run, split, sight).items():
        for name, metric in split.metrics.items():
            if not name.startswith(_DEPENDENT):
                continue
            if isinstance(cooled, Undefined):
                found[prefix + name] = cooled
                continue
            terms = metric.terms(cooled)
            found[prefix + name] = metric(cooled) if terms is None else terms
    return found


def cooled_predictions(
    run: Run, split: Split, sight: Sight
) -> Mapping[str, ClassificationPredictions | Undefined]:
    """Return the predictions with each temperature, by prefix; none where nothing is judged."""
    if split.name == "select" or sight.predictions is None:
        return {}
    found: dict[str, ClassificationPredictions | Undefined] = {}
    baseline = run.baseline(run.by_key[sight.candidate])
    for prefix, key in ((SCALED, sight.candidate), (SCALED_BY_BASELINE, baseline.key)):
        temperature = run.temperature(key)
        if isinstance(temperature, Undefined):
            continue  # the row of the temperature itself says why
        try:
            found[prefix] = scaled(sight.predictions, temperature)
        except DataError as error:
            found[prefix] = Undefined(f"at a temperature of {temperature.value:.3g}: {error}")
    return found


def with_doubts(run: Run, row: Derived) -> Derived:
    """Return a row with what is wrong with the temperatures behind it, if anything is."""
    metric, own = row.measurement.metric, run.by_key[row.candidate]
    if SCALED not in metric and SCALED_BY_BASELINE not in metric:
        return row
    baseline, control = run.baseline(own), run.control(own)
    behind = {(baseline if SCALED_BY_BASELINE in metric else own).key}
    if metric.startswith(CHANGE):
        behind.add(baseline.key)
    elif metric.startswith(FROM_CONTROL) and control is not None:
        behind.add(control.key)
    doubts = [
        f"the temperature of {run.by_key[key].label} is {found.value:.3g}: {found.reason}"
        for key in sorted(behind)
        for found in [run.temperature(key)]
        if not isinstance(found, Undefined) and found.reason
    ]
    if row.measurement.low is not None:
        doubts.append("the interval takes the temperature as given")
    reason = "; ".join([*doubts, *filter(None, [row.measurement.reason])])
    return replace(row, measurement=replace(row.measurement, reason=reason))


def temperatures(run: Run, candidate: Candidate) -> Iterator[Derived]:
    """Yield the temperature of a candidate, or why there is none."""
    judged = run.splits.get(run.printing)
    is_wanted = any(name.startswith(_DEPENDENT) for name in run.settings.metrics)
    if judged is None or candidate.key not in judged.totals or not judged.has_images:
        return
    found = run.temperature(candidate.key)
    if isinstance(found, Undefined):
        if is_wanted:
            nothing = measured(TEMPERATURE, found)
            yield Derived(candidate.key, judged.name, "clean", 0, judged.form, nothing)
        return
    split = run.splits["select"]
    reason = found.reason or "fitted, without an interval of its own"
    if judged is split:
        reason += "; there are no other images on which its effect could be judged"
    value = measured(TEMPERATURE, found.value, Interval(reason=reason), count=split.count)
    yield Derived(candidate.key, split.name, "clean", 0, split.form, value)
